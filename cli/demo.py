"""`leaderboard demo`: real events replayed through the HTTP API, one season per year.

Each event is POSTed on its own, as a game server would. At the end every board must equal the file's sums.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict

import aiohttp
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.migrations import ROOT

EVENTS: Final = ROOT / "data" / "contributions.csv.gz"
_SHOWN: Final = 1000
_PRINTED: Final = 3
_WIDTH: Final = 100  # of the table where there is no terminal to ask
_TRIES: Final = 8
_SETTLE_SECONDS: Final = 60.0


class DemoError(Exception):
    """The demo can't go on; the message says why and what would help."""


class Row(TypedDict):
    """An entry of a board, as the API answers it."""

    userId: str
    score: int


class Event(NamedTuple):
    season_id: str
    user_id: str
    delta: int


def read_events(file: Path) -> Iterator[Event]:
    """The file's events in its order; its column `season`, a year, is the season's id."""
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            yield Event(row["season"], row["user_id"], int(row["delta"]))


async def replay(base_url: str, key: str | None, file: Path | None, connections: int, *, as_json: bool) -> None:
    """Reset the seasons, send every event, compare every board with the file's own sums, print the boards.

    Raises DemoError, also when a board is still wrong a minute after the last event.
    """
    if not base_url.startswith(("http://", "https://")):
        raise DemoError(f"the base URL must start with http:// or https://, not {base_url!r}")
    try:
        events = list(read_events(file or EVENTS))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise DemoError(f"can't read events from {file or EVENTS}: {error}") from error
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        totals[event.season_id][event.user_id] += event.delta
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(base_url, connector=connector, timeout=timeout, headers=headers) as session:
        await _require_ready(session, base_url)
        for season_id in sorted(totals):
            await _request(session, "DELETE", f"/v1/seasons/{season_id}")
        seconds = await _send(session, events, connections)
        boards = {season_id: await _settled(session, season_id, totals[season_id]) for season_id in sorted(totals)}
    players = sum(len(of_season) for of_season in totals.values())
    told = (
        f"{len(events)} events in {seconds:.1f} s; {players} standings in {len(boards)} seasons equal the file's sums"
    )
    if as_json:
        print(json.dumps({"events": len(events), "seconds": round(seconds, 1), "boards": boards}, indent=2))
    else:
        _print_boards(boards, totals)
    print(told, file=sys.stderr)


async def _require_ready(session: aiohttp.ClientSession, base_url: str) -> None:
    try:
        async with session.get("/readyz") as response:
            if response.status != 200:
                raise DemoError(f"{base_url} is not ready: {await response.text()}")
    except aiohttp.ClientError as error:
        raise DemoError(f"{base_url} does not answer ({error}); start the service with: make run") from error


async def _send(session: aiohttp.ClientSession, events: list[Event], connections: int) -> float:
    """Send all events, `connections` at a time, with a progress bar where there is a terminal; returns seconds."""
    waiting = enumerate(events, start=1)
    run = uuid.uuid4().hex
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("events", total=len(events))

        async def sender() -> None:
            for number, event in waiting:
                body = {"userId": event.user_id, "delta": event.delta, "eventId": f"{run}-{number}"}
                await _request(session, "POST", f"/v1/seasons/{event.season_id}/scores", body)
                progress.advance(bar)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(connections):
                    tasks.create_task(sender())
        except* DemoError as failures:
            raise failures.exceptions[0] from None
    return time.monotonic() - started


async def _settled(session: aiohttp.ClientSession, season_id: str, totals: Counter[str]) -> list[Row]:
    """The season's board once it equals `totals` (its first 1,000 players, what one request shows)."""
    give_up_at = time.monotonic() + _SETTLE_SECONDS
    best_scores = sorted(totals.values(), reverse=True)[:_SHOWN]
    while True:
        answer = await _request(session, "GET", f"/v1/seasons/{season_id}/leaderboard/top?limit={_SHOWN}")
        board: list[Row] = answer["items"]
        right = all(totals[row["userId"]] == row["score"] for row in board)
        if right and [row["score"] for row in board] == best_scores:
            return board
        if time.monotonic() >= give_up_at:
            raise DemoError(f"season {season_id} differs from the sums of the file {_SETTLE_SECONDS:g} s after the end")
        await asyncio.sleep(0.05)


async def _request(session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    """The answer's JSON. What got none, or 503, is sent again: a score carries its eventId, so it counts once."""
    for _ in range(_TRIES):
        try:
            async with session.request(method, path, json=body) as response:
                answer = await response.json()
                if response.status < 300:
                    return answer
                if response.status != 503:
                    raise DemoError(f"{method} {path} answered {response.status}: {answer.get('error')}")
                told, retry_after = answer.get("error"), float(response.headers.get("retry-after", "1"))
        except (aiohttp.ClientError, TimeoutError) as error:
            told, retry_after = str(error) or type(error).__name__, 1.0
        await asyncio.sleep(retry_after)
    raise DemoError(f"{method} {path} failed {_TRIES} times: {told}")


def _print_boards(boards: dict[str, list[Row]], totals: dict[str, Counter[str]]) -> None:
    table = Table(title="final boards", box=SIMPLE_HEAD)
    for heading in ("season", "players", *(str(place) for place in range(1, _PRINTED + 1))):
        table.add_column(heading, justify="right" if heading == "players" else "left")
    for season_id, board in boards.items():
        best = [f"{row['userId']} {row['score']:,}" for row in board[:_PRINTED]]
        table.add_row(season_id, str(len(totals[season_id])), *best)
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
