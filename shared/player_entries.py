"""What one player has sent, found in the ledger without a B-tree, which would cost each score as much as half its
insert: a GIN index on a hash of player and season, whose new rows wait in a list until they are moved in together.

With every query the list is read from end to end, so a worker moves them in each second.
"""

from __future__ import annotations

from typing import Final

from shared.postgres import Connection


def of_player(entry: str, *, season_id: str, user_id: str) -> str:
    """The condition on rows of the ledger called `entry`; the ids as SQL. An index finds it by a bitmap only,
    which a session may have disabled."""
    return (
        f"array[hashtextextended({entry}.user_id, hashtext({entry}.season_id))] "
        f"@> array[hashtextextended({user_id}, hashtext({season_id}))] "
        f"and {entry}.season_id = {season_id} and {entry}.user_id = {user_id}"
    )


_MOVE_IN: Final = "select gin_clean_pending_list('score_events_player_idx')"


async def move_in(conn: Connection) -> None:
    """Move new rows into the index; those of a second's scores at full load take some 30 ms. Nobody waits for it.

    One at a time: psycopg.errors.LockNotAvailable where another, or a vacuum, is at it for the session's lock_timeout.
    """
    await conn.execute(_MOVE_IN)
