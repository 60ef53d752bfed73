"""Who of a season is hidden: whom operators hide, and whoever is being erased. Folds go on, boards do not show them."""

from __future__ import annotations

from typing import Final

from shared import erasing, seasons
from shared.postgres import Connection
from shared.scores import SeasonId, UserId

# By the latest of those that were applied, and this one: batches may pass by an event and apply it later. Whoever is
# being erased is hidden until that is over.
_HIDDEN: Final = f"""
with latest as materialized (
  select season_id, user_id, action <> 'unhide' as hides, requested_at from moderations as erasure
  where season_id = %s and user_id = %s
    and (action in ('hide', 'unhide') and (applied_at is not null or id = %s) or {erasing.BEGUN})
  order by action = 'erase' desc, id desc limit 1
), shown as (
  delete from hidden_players where season_id = %s and user_id = %s
    and not exists (select from latest where hides)
)
insert into hidden_players (season_id, user_id, hidden_at)
select season_id, user_id, requested_at from latest where hides
on conflict do nothing
"""  # noqa: S608 - constants


async def renew(conn: Connection, season_id: SeasonId, user_id: UserId, event_id: int) -> None:
    """Hide the player of a locked season or not, as what was asked for until now says; `event_id`: that of what is just
    being applied."""
    player = (season_id, user_id)
    await conn.execute(_HIDDEN, (*player, event_id, *player))
    await seasons.note_hidden(conn, season_id)
