"""One process of the service, as the program that it is: started, stopped, killed, asked for what it logged."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from ports import free_port

from cli.migrations import ROOT
from faults.load import get


class Part:
    """A process of the service: `python -m api` or `python -m worker`."""

    def __init__(self, stack, module, number, environment):
        self.name = f"{module}{number}"
        self.port = free_port()
        self._module = module
        self._environment = environment
        self._log = stack.folder / f"{self.name}.log"
        self._read = 0
        self.running = None

    async def start(self, **changes):
        own = {"API_PORT": self.port} if self._module == "api" else {"WORKER_HEALTH_PORT": self.port}
        environment = {**os.environ, **self._environment, **own, **changes}
        with self._log.open("ab") as log:
            self._read = log.tell()
            self.running = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                cwd=ROOT,
                env={name: str(value) for name, value in environment.items()},
                stdout=log,
                stderr=log,
            )
        return self

    async def until_serving(self):
        """Return once it answers; fails when it ended instead."""
        while await get(self.port, "/healthz") is None:
            assert self.running.returncode is None, self.log()
            await asyncio.sleep(0.01)  # a process that starts has nothing else to be awaited

    async def kill(self):
        if self.running is not None and self.running.returncode is None:
            self.running.kill()
        await self.ended()

    async def stop(self):
        """SIGTERM; returns the exit code."""
        self.running.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self):
        return None if self.running is None else await self.running.wait()

    def state(self):
        """As in /proc: R, S, T for stopped, …"""
        return Path(f"/proc/{self.running.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def log(self):
        return self._log.read_text()[-4000:]

    def new_log(self):
        """What it logged since this was last asked, or since it was started."""
        with self._log.open() as log:
            log.seek(self._read)
            said = log.read()
            self._read = log.tell()
        return said
