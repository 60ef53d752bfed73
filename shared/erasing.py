"""Erasures on their way (`shared.erasure`), as text of SQL: of large histories, begun and not over yet, for whoever
computes from a ledger that may lack some of a player's scores already; and who has to wait for whom.

The audit's row of such a one has an effect already, and has not been applied.
"""

from __future__ import annotations

from typing import Final

BEGUN: Final = """erasure.action = 'erase' and erasure.user_id is not null
  and erasure.effect is not null and erasure.applied_at is null"""
"""The condition on rows of `moderations` called `erasure`."""

# Any number that no other program on the database locks. Nobody waits for it: who does not get it comes by again.
KEEPS_OFF: Final = "pg_try_advisory_xact_lock_shared(1819239027, hashtext(%s))"
"""Takes care that nobody of a season is erased until the transaction ends; false where somebody is just being."""

MAY_ERASE: Final = "pg_try_advisory_xact_lock(1819239027, hashtext(%s))"
"""The other way round."""


def in_season(season_id: str) -> str:
    """Whether there is one in the season; its id as SQL."""
    return f"exists (select from moderations as erasure where erasure.season_id = {season_id} and {BEGUN})"


def of_player(season_id: str, user_id: str) -> str:
    """The same of one player."""
    return f"""exists (
    select from moderations as erasure
    where erasure.season_id = {season_id} and erasure.user_id = {user_id} and {BEGUN})"""


def before(season_id: str, user_id: str) -> str:
    """Up to which id nothing of the player is to be told any more, 0 = there is no such erasure."""
    # Offset 0: else the planner may go through all that was ever asked for in the season, from the last one back.
    return f"""(
    select coalesce(max(id), 0) from (
      select erasure.id from moderations as erasure
      where erasure.season_id = {season_id} and erasure.user_id = {user_id} and {BEGUN} offset 0) as begun)"""  # noqa: S608 - the caller's text
