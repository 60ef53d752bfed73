"""Which seasons a command is to work on."""

from __future__ import annotations

from shared import seasons
from shared.postgres import Pool
from shared.scores import SeasonId, parse_season_id


class UnknownSeasonsError(Exception):
    """Seasons were named that were never written to."""


async def choose(pool: Pool, named: list[str]) -> list[SeasonId]:
    """The seasons named, in order, or all when none is. Raises UnknownSeasonsError or InvalidRequestError."""
    async with pool.connection() as conn:
        if not named:
            return await seasons.ids(conn)
        known = await seasons.known(conn, [parse_season_id(season_id) for season_id in named])
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise UnknownSeasonsError(f"no such season: {', '.join(unknown)}; a season begins with its first score")
    return known
