"""Boards of seasons that PostgreSQL does not know: a fail-over or a restore took the season with its first commits.

Whoever reads such a board is answered from it, and no batch ever comes to make it right.
"""

from __future__ import annotations

from redis.exceptions import RedisError

from shared import seasons
from shared.postgres import Pool
from shared.projection import Projection
from shared.scores import SeasonId


async def drop(pool: Pool, projection: Projection) -> list[SeasonId]:
    """Delete them, those of this timeline excepted; returns whose they were.

    A board of this timeline was written after its season was committed here, so this is not the PostgreSQL that it
    belongs to (`shared.reconciliation.DeposedError`). Raises RedisError and psycopg.OperationalError.
    """
    dropped: list[SeasonId] = []
    async for shown in projection.season_ids():
        # Redis first, and the timeline before the seasons: whatever is created meanwhile is of this timeline.
        async with pool.connection() as conn:
            timeline = await seasons.timeline(conn)
            known = set(await seasons.known(conn, shown))
        unknown = sorted(set(shown) - known)
        if not unknown:
            continue
        for season_id, answer in zip(unknown, await projection.drop(unknown, timeline), strict=True):
            if isinstance(answer, RedisError):
                raise answer
            if answer.verdict == "dropped":
                dropped.append(season_id)
    return dropped
