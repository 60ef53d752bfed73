"""Boards built anew, one after the other, each swapped in as soon as it is whole."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from shared import seasons, standings
from shared.postgres import Pool
from shared.projection import Projection
from shared.reconciliation import rebuild
from shared.scores import SeasonId


class Rebuilt(NamedTuple):
    season_id: SeasonId
    players: int
    seconds: float


async def rebuild_each(
    pool: Pool,
    projection: Projection,
    season_ids: Sequence[SeasonId],
    *,
    begin: Callable[[SeasonId, int], None],
    tell: Callable[[int], None],
) -> AsyncIterator[Rebuilt]:
    """Build the seasons' boards; yields each once it is in its place.

    `begin` hears which season comes next and about how many players it has, `tell` how many of them are staged. Raises
    as `shared.reconciliation.rebuild`; what was built until then stays.
    """
    for season_id in season_ids:
        async with pool.connection() as conn:
            fence = await seasons.fence(conn, season_id)
            total = 0 if fence is None else await standings.count(conn, season_id, fence.epoch)
        begin(season_id, total)
        started = time.monotonic()
        players = await rebuild(pool, projection, season_id, tell)
        yield Rebuilt(season_id, players, time.monotonic() - started)
