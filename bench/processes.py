"""Programs that a measurement starts: each ends with us, whatever ends us, and its memory can be asked."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from shared.lifetime import die_with_parent

ROOT: Final = Path(__file__).parent.parent
_PATIENCE_SECONDS: Final = 30.0


@asynccontextmanager
async def running(
    argv: Sequence[str],
    *,
    settings: Mapping[str, object] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    stdin: int = DEVNULL,
    stderr: int | None = None,
) -> AsyncIterator[Process]:
    """The program, started in the project's folder with its output in a pipe; ended in the end, if it still runs.

    In a session of its own: Ctrl-C on the terminal is ours to pass on.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in (settings or {}).items()}},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, stop_signal, os.getpid()),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(stop_signal)
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await process.communicate()
            except TimeoutError:
                process.kill()
                await process.wait()


async def first_line(process: Process) -> str:
    """What a program says once it is ready; empty where it ended instead."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def resident_megabytes(pid: int) -> float:
    """What of the process lies in memory (RSS)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
