"""What the boards of sealed epochs said in the end: read by rank and by player, never changed but by an erasure."""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.postgres import Connection
from shared.scores import SeasonId, UserId

TOP: Final = """
select rank, user_id, score from final_ranks where season_id = %s and epoch = %s and rank > %s order by rank limit %s
"""

RANK: Final = "select rank, score from final_ranks where season_id = %s and user_id = %s and epoch = %s"


class FinalRank(NamedTuple):
    """1 = best. The ranks of players who were erased are nobody's."""

    rank: int
    user_id: UserId
    score: int


async def top(conn: Connection, season_id: SeasonId, epoch: int, behind: int, limit: int) -> list[FinalRank]:
    """The best players behind that rank (0 = from the first)."""
    return [FinalRank(*row) for row in await (await conn.execute(TOP, (season_id, epoch, behind, limit))).fetchall()]


async def find(conn: Connection, season_id: SeasonId, epoch: int, user_id: UserId) -> FinalRank | None:
    """The player's; None where the player was not on the board."""
    row = await (await conn.execute(RANK, (season_id, user_id, epoch))).fetchone()
    return None if row is None else FinalRank(row[0], user_id, row[1])
