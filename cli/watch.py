"""`leaderboard watch`: a season's best players, live, in a terminal; plain lines where there is none."""

from __future__ import annotations

import datetime as dt
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.board_feed import AwayError, Board, Row, Service, View
from cli.console import complain, counted, print_json
from cli.movement import Moved, Movements

_MARKS_SECONDS: Final = 45.0
_MEDALS: Final = {1: "bold gold1", 2: "bold grey78", 3: "bold orange3"}
_STILL: Final = Moved(0, entered=False, gain=0)


def watch(service: Service, view: View, *, once: bool, as_json: bool) -> None:
    """Show the board until interrupted, or `once`. Raises FeedError; with `once` AwayError too."""
    # Ctrl-C too: who was started by a script in the background would pass it over.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    if once:
        board = service.board(view)
        if as_json:
            print_json(board)
        else:
            Console(highlight=False).print(_table(board, Movements(_MARKS_SECONDS).update(board.items, 0.0)))
    elif as_json:
        for board in _changed(service.boards(view)):
            print(msgspec.json.encode(board).decode(), flush=True)
    elif sys.stdout.isatty():
        _show_live(service.boards(view))
    else:
        _print_lines(_changed(service.boards(view)))


def _leave(number: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + number)


def _changed(found: Iterator[Board | AwayError]) -> Iterator[Board]:
    """The boards that differ from the one before; trouble is told on standard error."""
    last: Board | None = None
    for board in found:
        if isinstance(board, AwayError):
            complain(f"{board}; trying again")
        elif board != last:
            last = board
            yield board


def _show_live(found: Iterator[Board | AwayError]) -> None:
    movements = Movements(_MARKS_SECONDS)
    board: Board | None = None
    since = ""
    with Live(console=Console(highlight=False), auto_refresh=False, screen=False) as live:
        for news in found:
            if isinstance(news, AwayError):
                state = Text(f"reconnecting: {news}", style="yellow")
            else:
                if news != board:
                    since = _clock()
                board = news
                state = Text(f"live · {counted(board.total_players, 'player')} · changed {since}", style="green")
            if board is not None:
                table = _table(board, movements.update(board.items, time.monotonic()))
                live.update(Group(table, state), refresh=True)
            else:
                live.update(state, refresh=True)


def _print_lines(boards: Iterator[Board]) -> None:
    """A line for each player whose place or score is another than before; of the first board, for each."""
    movements = Movements(0.0)
    before: dict[str, Row] = {}
    for board in boards:
        moved = movements.update(board.items, time.monotonic())
        for row in board.items:
            if before.get(row.user_id) != row:
                told = _sign(moved[row.user_id]) or "="
                print(_clock(), row.rank, told, row.score, row.user_id, sep="\t", flush=True)
        before = {row.user_id: row for row in board.items}


def _table(board: Board, moved: dict[str, Moved]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=Text(board.season_id, style="bold"), title_justify="left")
    for heading, side in (("", "right"), ("", "left"), ("player", "left"), ("score", "right"), ("", "left")):
        table.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in board.items:
        how = moved.get(row.user_id, _STILL)
        style = _MEDALS.get(row.rank, "")
        table.add_row(
            Text(f"{row.rank:,}", style=style),
            Text(_sign(how), style="red" if how.places < 0 else "green"),
            Text(row.user_id, style=style),
            Text(f"{row.score:,}", style=style),
            Text(f"{how.gain:+,}" if how.gain else "", style="green"),
        )
    return table


def _sign(moved: Moved) -> str:
    if moved.entered:
        return "new"
    if moved.places == 0:
        return ""
    return f"▲{moved.places}" if moved.places > 0 else f"▼{-moved.places}"


def _clock() -> str:
    return f"{dt.datetime.now(dt.UTC):%H:%M:%SZ}"
