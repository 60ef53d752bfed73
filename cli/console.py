"""How commands speak: results on standard output, progress and complaints on standard error.

Colours and progress bars appear on a terminal only.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import psycopg
from redis.exceptions import RedisError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cli.servers import NoServersError, UnreachableError
from shared.cancellation import heed_cancellation
from shared.errors import InvalidRequestError, SeasonNotFoundError
from shared.logs import configure_logs
from shared.reconciliation import LateError, SeasonsUnreachableError
from shared.settings import Settings, SettingsError, load_settings

_WIDTH: Final = 120  # of a table where there is no terminal to ask

T = TypeVar("T")


def complain(message: str) -> None:
    print(f"leaderboard: {message}", file=sys.stderr)


def tell_place(place: str) -> None:
    """For a command that writes, before it does: its servers may not be the ones that were meant."""
    complain(f"working on {place}")


def fail(message: str, code: int = 1) -> NoReturn:
    complain(message)
    raise SystemExit(code)


def settings_or_fail() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        fail(str(error), code=2)


def run_to_end(
    process: str, settings: Settings, work: Coroutine[Any, Any, T], *, trouble_code: int = 1, stays: str = ""
) -> T:
    """What `work` returns. SIGINT and SIGTERM cancel it, so that it rolls back what it began, and exit with 130, 143.
    `stays`: what is said then of what it has done before.

    A server that does not answer ends the command with `trouble_code` and a message.
    """
    # What the shared code tells of each board is news in a service's log, noise between a command's own lines.
    quiet = settings.log_level if settings.log_level != "info" else "warning"
    configure_logs(settings.model_copy(update={"log_level": quiet}), process)
    stopped_by: list[signal.Signals] = []

    async def until_signal() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop(number: signal.Signals) -> None:
            stopped_by.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await work

    try:
        return asyncio.run(until_signal())
    except asyncio.CancelledError:
        if not stopped_by:
            raise
        fail(f"stopped; what was not finished is rolled back{stays}", code=128 + stopped_by[0])
    except (NoServersError, SeasonNotFoundError, InvalidRequestError) as error:
        fail(str(error), code=2)
    except psycopg.errors.LockNotAvailable:
        fail(
            "somebody held a season or an event for over 5 s, such as a rebuild or an open psql session; what was not "
            "finished is rolled back: run it again",
            code=trouble_code,
        )
    except UnreachableError as error:
        fail(str(error), code=trouble_code)
    except (psycopg.Error, RedisError, OSError, TimeoutError, LateError, SeasonsUnreachableError) as error:
        told = str(error).strip() or type(error).__name__
        fail(f"{told}; what was not finished is rolled back: run it again", code=trouble_code)


def print_json(document: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(document)).decode())


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_table(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(table)


def make_table(*headings: str, left: frozenset[str] = frozenset()) -> Table:
    """A table whose columns are numbers, but for those in `left`."""
    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    return table


class Bar:
    """A line of progress, and the place where long work notices that it is to stop.

    `total` None: nobody knows how much there is.
    """

    def __init__(self, progress: Progress, what: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def add(self, number: int) -> None:
        heed_cancellation()
        self._progress.advance(self._task, number)

    def reach(self, number: int) -> None:
        heed_cancellation()
        self._progress.update(self._task, completed=number)

    def say(self, what: str) -> None:
        heed_cancellation()
        self._progress.update(self._task, description=what)

    def begin(self, what: str, total: int | None) -> None:
        """Start over with something else."""
        self._progress.reset(self._task, description=what, total=total)


class RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s")


@contextmanager
def bar(what: str, total: int | None, *, paced: bool = False) -> Iterator[Bar]:
    """`paced`: with how many a second, and how long it will take."""
    console = Console(stderr=True)
    told = TextColumn("{task.description}")
    columns: list[ProgressColumn] = [SpinnerColumn(), told, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    if paced:
        columns += [RateColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield Bar(progress, what, total)
