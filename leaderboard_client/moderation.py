"""What operators do to scores and players of a season, and the audit of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from .boards import Page
from .connection import Connection, path_of, quoted

Action = Literal["void", "hide", "unhide", "erase"]


class Moderated(Struct, frozen=True, rename="camel", repr_omit_defaults=True):
    """It is durable, and on its way to the board. `event_id`: of this action, for which reads can wait (`after`).
    `target`, of a void: the event_id of the score that counts no more."""

    event_id: str
    action: Action
    user_id: str
    target: str | None = None


class AuditEntry(Struct, frozen=True, kw_only=True, rename="camel"):
    """Who had what done to whom, and what came of it. `user_id` None: of a player who was erased. `actor`: the key that
    asked; `by`: who that was, as the request said. `effect` None: still pending, or refused by the database:
    `error`."""

    event_id: str
    action: Action
    user_id: str | None
    target: str | None
    actor: str
    by: str | None
    reason: str
    requested_at: datetime
    applied_at: datetime | None
    state: Literal["pending", "done", "failed", "discarded"]
    effect: str | None
    error: str | None


class ModerationCalls(Connection):
    """`reason`: why, 1 to 500 characters; `by`: who asks for it. Both are kept: leave an erased player's name out of
    them.

    Needs a key with the scope admin, where there are keys. Each is sent again where its answer was lost: what was done
    already has no effect a second time, and the audit has both. Raises LeaderboardError: 404 `season_not_found`.
    """

    async def void(self, season_id: str, event_id: str, *, reason: str, by: str | None = None) -> Moderated:
        """The score counts no more; its player falls back to what remains, in every window.

        Raises LeaderboardError: 404 `event_not_found`; 409 `epoch_over`; 409 `event_given_up` where it counts no more
        already, which after a lost answer may be this call's own doing: it is what was asked for.
        """
        path = path_of("seasons", season_id, f"/events/{quoted(event_id)}/void")
        return await self._ask(Moderated, "POST", path, _why(reason, by))

    async def hide(self, season_id: str, user_id: str, *, reason: str, by: str | None = None) -> Moderated:
        """The player is on no board, in no export and in no final ranks of the season from now on, over resets too;
        scores are taken and counted all the same."""
        return await self._ask(Moderated, "POST", _of_player(season_id, user_id, "/hide"), _why(reason, by))

    async def unhide(self, season_id: str, user_id: str, *, reason: str, by: str | None = None) -> Moderated:
        """The player is back, with all that was sent meanwhile."""
        return await self._ask(Moderated, "POST", _of_player(season_id, user_id, "/unhide"), _why(reason, by))

    async def erase(self, season_id: str, user_id: str, *, reason: str, by: str | None = None) -> Moderated:
        """All that the season knows of the player goes, of all its epochs. Scores that come later begin anew, and go
        too where it is sent again behind them."""
        path = _of_player(season_id, user_id, "")
        return await self._ask(Moderated, "DELETE", path, reason=reason, by=by)

    async def moderations(self, season_id: str, *, limit: int = 50, cursor: str = "") -> Page[AuditEntry]:
        """The audit, newest first, 1 to 1000 entries."""
        path = path_of("seasons", season_id, "/moderations")
        return await self._ask(Page[AuditEntry], "GET", path, limit=limit, cursor=cursor)


def _of_player(season_id: str, user_id: str, rest: str) -> str:
    return path_of("seasons", season_id, f"/users/{quoted(user_id)}{rest}")


def _why(reason: str, by: str | None) -> dict[str, str | None]:
    return {"reason": reason, "by": by}
