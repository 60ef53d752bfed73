"""Starting and stopping one program that must not outlive us."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.embedded.account import Account
from shared.lifetime import die_with_parent

_TAIL_BYTES: Final = 2000


@dataclass(frozen=True)
class Program:
    """What to run and how: `log` takes its output (None: ours), `stop_signal` ends it gracefully."""

    name: str
    argv: Sequence[str]
    cwd: Path
    stop_signal: signal.Signals = signal.SIGTERM
    account: Account | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None

    def log_tail(self) -> str:
        """The end of the log, for a message that says why it did not start."""
        if self.log is None or not self.log.exists():
            return ""
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()


async def start(program: Program) -> asyncio.subprocess.Process:
    """Start it in a session of its own (Ctrl-C on the terminal is ours to pass on), tied to our life."""
    output = None if program.log is None else program.log.open("ab")
    account = program.account
    try:
        return await asyncio.create_subprocess_exec(
            *program.argv,
            cwd=program.cwd,
            env={**os.environ, **program.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_tied_to_us(program.stop_signal),
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    finally:
        if output is not None:
            output.close()


async def stop(program: Program, process: asyncio.subprocess.Process, patience_seconds: float) -> None:
    """End it gracefully; what is still there after `patience_seconds` is killed."""
    if process.returncode is not None:
        return
    process.send_signal(program.stop_signal)
    try:
        async with asyncio.timeout(patience_seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _tied_to_us(stop_signal: signal.Signals) -> Callable[[], None]:
    us = os.getpid()

    # Runs between fork and exec, after the change of user, which would have cleared the setting.
    def tie() -> None:
        die_with_parent(stop_signal, us)

    return tie
