"""The service that is measured: `leaderboard run` as it comes, on servers and data of its own, gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import psycopg

from bench.processes import children, command_line, first_line, resident_megabytes, running
from cli.embedded.memory import Memory, free_port, remembered
from cli.embedded.postgres import embedded_dsn
from cli.embedded.valkey import embedded_url
from shared.postgres import Connection

_POLL_SECONDS: Final = 0.005

# A worker that is stopped in the middle of something would hold locks, and wake up late for it.
_WORKERS_BUSY: Final = """
select exists (select from pg_stat_activity where application_name = 'leaderboard-worker' and state <> 'idle')
"""
_PENDING: Final = "select exists (select from outbox where status = 'pending')"


class StackError(Exception):
    """The service did not start, or a command of it failed; the message says what it said."""


class Stack:
    """A running service: `url` is where it answers, `conn` a session on its ledger, in autocommit."""

    def __init__(self, folder: Path, url: str, memory: Memory, process: Process, conn: Connection) -> None:
        self.folder = folder
        self.url = url
        self.conn = conn
        self.memory = memory
        self.redis_url = embedded_url(memory.valkey_port, memory.valkey_password)
        self._process = process
        self._more_workers: list[Process] = []

    def dsn(self, database: str = "leaderboard") -> str:
        return embedded_dsn(self.memory.postgres_port, self.memory.postgres_password, database)

    def workers(self) -> list[int]:
        own = [pid for pid in children(self._process.pid) if command_line(pid)[-2:] == ["-m", "worker"]]
        return own + [process.pid for process in self._more_workers]

    def apis(self) -> list[int]:
        """The processes that answer requests; not the one that watches over them, where there are several."""
        (first,) = [pid for pid in children(self._process.pid) if command_line(pid)[-2:] == ["-m", "api"]]
        return [pid for pid in children(first) if "spawn_main" in " ".join(command_line(pid))] or [first]

    def resident_megabytes(self) -> dict[str, list[float]]:
        """RSS of each process of api and worker."""
        parts = {"api": self.apis(), "worker": self.workers()}
        return {part: [round(resident_megabytes(pid), 1) for pid in pids] for part, pids in parts.items()}

    async def drained(self) -> None:
        """Return once no event is pending."""
        while (await self.ask(_PENDING))[0]:
            await asyncio.sleep(_POLL_SECONDS)

    async def seasoned(self) -> None:
        """As a server is some time behind a load: vacuumed, which it would do by itself beside the measurements, and
        its log going into files that it wrote before. To make a new one, of 16 MB, holds up all commits for 30 to 50
        ms."""
        for statement in ("vacuum (analyze) score_events, standings, outbox", "checkpoint"):
            await self.conn.execute(statement)

    @staticmethod
    async def breathe() -> None:
        """Between two looks at something that has no event."""
        await asyncio.sleep(_POLL_SECONDS)

    async def ask(self, query: str, *values: object) -> Any:
        """The one row that the query finds."""
        return await (await self.conn.execute(query, values)).fetchone()

    async def command(self, *arguments: str) -> Any:
        """What an operator's command prints as JSON, whatever its exit code."""
        argv = [sys.executable, "-m", "cli", *arguments, "--json"]
        async with running(argv, settings=_settings(self.folder), stderr=asyncio.subprocess.PIPE) as process:
            out, complaint = await process.communicate()
        if not out:
            raise StackError(f"leaderboard {' '.join(arguments)} failed: {complaint.decode().strip()}")
        return json.loads(out)

    @asynccontextmanager
    async def another_worker(self) -> AsyncIterator[None]:
        """One more worker on the same servers."""
        port = free_port()
        own = {"POSTGRES_DSN": self.dsn(), "REDIS_URL": self.redis_url, "WORKER_HEALTH_PORT": port}
        argv = [sys.executable, "-m", "worker"]
        async with running(argv, settings=_settings(self.folder) | own) as process:
            self._more_workers.append(process)
            try:
                while not await _ready(f"http://127.0.0.1:{port}/readyz"):
                    if process.returncode is not None:
                        raise StackError("another worker did not start; what it says stands above")
                    await asyncio.sleep(_POLL_SECONDS)
                yield
            finally:
                self._more_workers.remove(process)

    @asynccontextmanager
    async def workers_paused(self) -> AsyncIterator[None]:
        """The workers stand still, between two of their transactions."""
        while True:
            with self._stopped():
                if not (await self.ask(_WORKERS_BUSY))[0]:
                    yield
                    return
            await asyncio.sleep(_POLL_SECONDS)

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        pids = self.workers()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def service(**settings: object) -> AsyncIterator[Stack]:
    """`leaderboard run` with these settings, in a folder that is deleted afterwards."""
    with _folder() as folder:
        argv = [sys.executable, "-m", "cli", "run"]
        async with running(argv, settings={**_settings(folder), **settings}, stop_signal=signal.SIGINT) as process:
            line = await first_line(process)
            memory = remembered(folder)
            if not line.startswith("ready: ") or memory is None:
                raise StackError("the service did not start; what it says stands above")
            dsn = embedded_dsn(memory.postgres_port, memory.postgres_password)
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
                yield Stack(folder, line.split()[1], memory, process, conn)


async def _ready(url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


def _settings(folder: Path) -> dict[str, object]:
    """Servers of its own, whatever the environment or .env says of others."""
    return {
        "DATA_DIR": folder,
        "POSTGRES_DSN": "",
        "REDIS_URL": "",
        "API_PORT": 0,
        "WORKER_HEALTH_PORT": 0,
        "LOG_LEVEL": "warning",
    }


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="leaderboard-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the servers' account must pass through
        try:
            yield folder
        finally:
            for link in (folder / "postgres", folder / "valkey"):
                if link.is_symlink():  # where that account could not
                    shutil.rmtree(link.resolve())
