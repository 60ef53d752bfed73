"""Keeps a snapshot of each season's standings whenever enough scores have come since its last one (shared.snapshots).

Beside the batches, on a connection of its own for as long as it takes; several workers doing the same do no harm. What
is due while scores come faster than snapshots may be made is made later, as of the same moments.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import psycopg
import structlog

from shared import snapshots
from shared.postgres import Connection, Pool
from shared.scores import SeasonId
from shared.snapshots import Active, Reach

SNAPSHOT_STEPS: Final = ("snapshot-written",)

_PAGE: Final = 500
_PER_PLAYER: Final = 4
"""Each snapshot is as large as the season has players: so that all of them together are no more than that many times
the ledger."""
_SHARE: Final = 20
"""A snapshot that took some time is followed by none for nearly that many times as long: a season of a million players
under full load would else have a processor for itself half of the time."""
_LOOK_BACK_MICROSECONDS: Final = 60_000_000
"""A batch is committed somewhat after its token says; none lasts that long."""

log = structlog.get_logger()


class _Counted(NamedTuple):
    """How many scores with ids above `low_id` there are up to `high_id`."""

    epoch: int
    low_id: int
    high_id: int
    scores: int


class Snapshots:
    """`conninfo`: of the connection that makes them. `distance`: how many scores come between two, at least."""

    def __init__(
        self,
        pool: Pool,
        conninfo: str,
        distance: int,
        reach: Reach,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._conninfo = conninfo
        self._distance = distance
        self._reach = reach
        self._clock = clock
        self._seen_token = 0
        self._counted: dict[SeasonId, _Counted] = {}
        self._due: dict[SeasonId, None] = {}
        self._rests_until = 0.0

    async def run(self) -> None:
        """Look at the seasons that had scores since the last look, and make what snapshots are due, as long as there
        is time for them. The first error is raised at the end."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute("select extract(epoch from clock_timestamp())::bigint")).fetchone()
        assert row is not None
        after, seen = "", row[0] * 1_000_000 - _LOOK_BACK_MICROSECONDS
        while True:
            async with self._pool.connection() as conn:
                page = await snapshots.active(conn, after, self._seen_token, _PAGE)
                for season in page:
                    if season.season_id not in self._due and await self._is_due(conn, season):
                        self._due[season.season_id] = None
            if len(page) < _PAGE:
                break
            after = page[-1].season_id
        self._seen_token = seen
        await self._make_due()

    async def _make_due(self) -> None:
        errors: list[Exception] = []
        for season_id in list(self._due):
            if self._clock() < self._rests_until:
                break
            async with self._pool.connection() as conn:
                season = await snapshots.of_season(conn, season_id)
                is_due = await self._is_due(conn, season)
            del self._due[season_id]
            if is_due:
                self._due[season_id] = None  # last: more of it may be due
                try:
                    await self._make(season)
                except psycopg.Error as error:  # it must not keep the others from having theirs
                    errors.append(error)
        if errors:
            raise errors[0]

    async def _is_due(self, conn: Connection, season: Active) -> bool:
        counted = self._counted.get(season.season_id)
        if counted is None or (counted.epoch, counted.low_id) != (season.epoch, season.low_id):
            counted = _Counted(season.epoch, season.low_id, season.low_id, 0)
        distance = max(self._distance, season.players // _PER_PLAYER)
        scores, high_id = await snapshots.count(
            # Players who were erased may have brought the distance below what was counted.
            conn,
            season,
            counted.high_id,
            max(0, distance - counted.scores),
        )
        counted = counted._replace(high_id=high_id, scores=counted.scores + scores)
        self._counted[season.season_id] = counted
        return counted.scores >= distance

    async def _make(self, season: Active) -> None:
        started = self._clock()
        try:
            async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as conn:
                last_id = self._counted[season.season_id].high_id
                made = await snapshots.make(conn, season, last_id, self._reach)
        finally:
            ended = self._clock()
            self._rests_until = ended + (ended - started) * (_SHARE - 1)
        if made is None:
            del self._counted[season.season_id]  # its scores may be others by now
        else:
            log.info("snapshot", season_id=season.season_id, players=made, seconds=round(ended - started, 2))
