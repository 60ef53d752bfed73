"""Which seasons an operator's work is about."""

from __future__ import annotations

from collections.abc import Sequence

from shared import seasons
from shared.errors import SeasonNotFoundError
from shared.postgres import Pool
from shared.scores import SeasonId, parse_season_id


async def choose(pool: Pool, named: Sequence[str]) -> list[SeasonId]:
    """The seasons named, in order, or all when none is. Raises SeasonNotFoundError or InvalidRequestError."""
    async with pool.connection() as conn:
        if not named:
            return await seasons.ids(conn)
        known = await seasons.known(conn, [parse_season_id(season_id) for season_id in named])
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise SeasonNotFoundError(f"no such season: {', '.join(unknown)}; a season begins with its first score")
    return known
