"""A season's whole board as PostgreSQL has it, best first, all of one snapshot.

The snapshot is held only while PostgreSQL sorts: the rows are kept on its side by a cursor that outlives the
transaction (`with hold`), so that who takes them slowly keeps vacuum from nothing. Hidden players are left out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from shared import season_settings
from shared.aggregates import ALL_TIME, IN_WINDOWS, Place, held
from shared.board_files import About
from shared.errors import ConflictError, SeasonNotFoundError
from shared.postgres import Connection
from shared.scores import MAX_SCORE, Rules, SeasonId
from shared.windows import WINDOWS, Window

_CHUNK: Final = 1000
"""Rows that are taken at once: about a millisecond of a processor."""

_FROM: Final = """
from standings as standing
where season_id = {season_id} and epoch = {epoch} and {score} is not null and not exists (
  select from hidden_players as hidden
  where hidden.season_id = standing.season_id and hidden.user_id = standing.user_id)"""

_COUNT: Final = f"select now(), count(*) {_FROM}"

_BOARD: Final = f"""
select row_number() over (order by {{order}}), user_id, {{shown}}{{reached}} {_FROM}
order by {{order}}"""

_TEXT: Final = """, to_char({moment} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

_numbers = count(1)

Rows = Sequence[Sequence[Any]]


class Export(NamedTuple):
    """A board that is ready to be taken. `chunks` may be iterated once."""

    about: About
    chunks: AsyncIterator[Rows]


@asynccontextmanager
async def exported(conn: Connection, season_id: SeasonId, window: Window | None = None) -> AsyncIterator[Export]:
    """The board, sorted; on a connection outside a transaction, which is of no use to others meanwhile.

    Rows are rank, player, score and, unless the season's rules are plain, when it was reached. In the end
    PostgreSQL lets go of them, however it ends.

    Raises SeasonNotFoundError, ConflictError where there is no such window.
    """
    async with conn.cursor(name=f"board_{next(_numbers)}", withhold=True) as cursor:
        about = await _prepared(conn, cursor, season_id, window)
        yield Export(about, _chunks(cursor))


def board_of(rules: Rules, window: Window | None) -> tuple[str, str]:
    """The statements that count a board's players and that list them, with `{season_id}` and `{epoch}` to be put in."""
    place = ALL_TIME if window is None else IN_WINDOWS[WINDOWS.index(window)]
    score, reached_at, reached_by = (held("standing", value, place) for value in ("score", "reached_at", "reached_by"))
    # As boards show it: a window's sum may be beyond.
    shown = score if place is ALL_TIME else f"greatest(least({score}, {MAX_SCORE}), -{MAX_SCORE})"
    direction = rules.order
    if rules.tie_break == "earliest":
        order = f"{shown} {direction}, {reached_at}, coalesce({reached_by}, 0), user_id {direction}"
    else:
        order = f"{shown} {direction}, user_id {direction}"
    told = {"score": score, "season_id": "{season_id}", "epoch": "{epoch}"}
    reached = "" if rules.plain else _TEXT.format(moment=_moment(reached_at, place))
    return _COUNT.format(**told), _BOARD.format(**told, shown=shown, order=order, reached=reached)


def _moment(reached_at: str, place: Place) -> str:
    """Windows hold microseconds."""
    return reached_at if place is ALL_TIME else f"(timestamptz 'epoch' + {reached_at} * interval '1 microsecond')"


async def _prepared(
    conn: Connection, cursor: psycopg.AsyncServerCursor[tuple[Any, ...]], season_id: SeasonId, window: Window | None
) -> About:
    async with conn.transaction():
        await conn.execute("set transaction isolation level repeatable read, read only")
        season = await season_settings.find(conn, season_id)
        if season is None:
            raise SeasonNotFoundError(f"there is no season {season_id}")
        rules = season.settings.rules
        if window is not None and not rules.windows:
            raise ConflictError(f"season {season_id} has no windows: leave window out", code="windows_off")
        counting, listing = board_of(rules, window)
        values = {"season_id": sql.Literal(season_id), "epoch": sql.Literal(season.epoch)}
        row = await (await conn.execute(sql.SQL(counting).format(**values))).fetchone()
        assert row is not None
        at, players = row
        await cursor.execute(sql.SQL(listing).format(**values))
    return About(season_id, season.epoch, at.astimezone(dt.UTC), window, players, *rules.chosen)


async def _chunks(cursor: psycopg.AsyncServerCursor[tuple[Any, ...]]) -> AsyncIterator[Rows]:
    while rows := await cursor.fetchmany(_CHUNK):
        yield rows
