"""What the boards of sealed epochs said in the end: read by rank and by player, never changed but by an erasure."""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.postgres import Connection
from shared.scores import SeasonId, UserId

TOP: Final = """
select rank, user_id, score from final_ranks where season_id = %s and epoch = %s and rank > %s order by rank limit %s
"""

# An erased player's rank is nobody's: so many players on each side are not so many ranks.
AROUND: Final = """
select near.rank, near.user_id, near.score
from final_ranks as own cross join lateral (
  (select rank, user_id, score from final_ranks
   where season_id = own.season_id and epoch = own.epoch and rank < own.rank order by rank desc limit %(size)s)
  union all
  (select rank, user_id, score from final_ranks
   where season_id = own.season_id and epoch = own.epoch and rank >= own.rank order by rank limit %(size)s + 1)
) as near
where own.season_id = %(season_id)s and own.user_id = %(user_id)s and own.epoch = %(epoch)s
order by near.rank
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


async def around(conn: Connection, season_id: SeasonId, epoch: int, user_id: UserId, size: int) -> list[FinalRank]:
    """The player with up to `size` players on each side; empty where the player was not on the board."""
    asked = {"season_id": season_id, "epoch": epoch, "user_id": user_id, "size": size}
    return [FinalRank(*row) for row in await (await conn.execute(AROUND, asked)).fetchall()]


async def find(conn: Connection, season_id: SeasonId, epoch: int, user_id: UserId) -> FinalRank | None:
    """The player's; None where the player was not on the board."""
    row = await (await conn.execute(RANK, (season_id, user_id, epoch))).fetchone()
    return None if row is None else FinalRank(row[0], user_id, row[1])
