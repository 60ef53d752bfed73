"""Seasons: their rules, their ends, and the final ranks of epochs that are over."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from .boards import Page, Player
from .connection import Connection, path_of

Aggregation = Literal["sum", "best", "latest"]
Order = Literal["desc", "asc"]
TieBreak = Literal["member", "earliest"]


class Rules(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a season is set to; what is left out is as by default. `resets`: {"cron": "0 0 * * 1", "timeZone":
    "Europe/Berlin", "archive": True}. `rewards`: {"url": "https://…", "top": 100}, who is sent the final ranks."""

    aggregation: Aggregation = "sum"
    order: Order = "desc"
    windows: bool = False
    tie_break: TieBreak = "member"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    resets: dict[str, Any] | None = None
    rewards: dict[str, Any] | None = None


class Season(Rules, frozen=True, kw_only=True):
    """As it is now. `epoch`: 1, and one more with every reset; `players`: on the board."""

    season_id: str
    state: Literal["scheduled", "open", "closed"]
    epoch: int
    players: int
    closed_at: datetime | None
    created_at: datetime
    changed_at: datetime | None
    next_reset: datetime | None = None
    previous_reset: datetime | None = None


class Epoch(Struct, frozen=True, kw_only=True, rename="camel"):
    """A season between two resets. Only `current` and `archived` ones can be read: of the others, final ranks are being
    settled (`sealing`), are past their retention (`expired`), or were never kept (`ended`). `ended_at`: when it took no
    more scores, `reason`: why. `sealed_at`: as of when its final ranks are; `players`: how many."""

    epoch: int
    state: Literal["current", "sealing", "archived", "ended", "expired"]
    began_at: datetime | None
    ended_at: datetime | None
    reason: Literal["reset", "close", "restart", "schedule", "end"] | None
    sealed_at: datetime | None
    players: int | None
    aggregation: Aggregation
    order: Order
    windows: bool
    tie_break: TieBreak


class Ended(Struct, frozen=True, rename="camel"):
    """Of a reset that archives: which epoch ended last, and whether it stays readable. None: there never was one, or it
    was not to be archived."""

    epoch: int | None = None
    archived: bool = False


class SeasonCalls(Connection):
    """All but reads need a key with the scope admin, where there are keys."""

    async def put_season(self, season_id: str, rules: Rules | None = None) -> Season:
        """Make a season, or set it anew: whatever `rules` leave out is as by default. Safe to send again.

        Raises LeaderboardError: 409 `season_has_scores` where aggregation, order, windows or tie_break change after the
        first score; 400 `invalid_schedule`, `invalid_rewards`, `webhooks_off`.
        """
        return await self._ask(Season, "PUT", path_of("seasons", season_id), rules or Rules())

    async def season(self, season_id: str) -> Season:
        """Raises LeaderboardError: 404 `season_not_found`."""
        return await self._ask(Season, "GET", path_of("seasons", season_id))

    async def seasons(self, *, limit: int = 100, cursor: str = "") -> Page[Season]:
        """All seasons by their ids, 1 to 1000 at a time."""
        return await self._ask(Page[Season], "GET", "/v1/seasons", limit=limit, cursor=cursor)

    async def close_season(self, season_id: str) -> Season:
        """From now on it takes no scores; its board stays. Safe to send again."""
        return await self._ask(Season, "POST", path_of("seasons", season_id, "/close"))

    async def delete_season(self, season_id: str, *, archive: bool = False) -> Ended:
        """Reset it: its board is empty, and what was accepted until now never counts again.

        `archive`: the epoch that ends stays readable, and one without a score is not ended: sent again after a lost
        answer it changes nothing, unless scores came since. Then it ends their epoch too, and tells of that one;
        `epochs` has both. Without `archive` each reset ends an epoch.
        """
        return await self._ask(Ended, "DELETE", path_of("seasons", season_id), archive="true" if archive else "")

    async def epochs(self, season_id: str, *, limit: int = 100, cursor: str = "") -> Page[Epoch]:
        """The current one first, then the newest first, 1 to 1000 at a time. Raises LeaderboardError: 404
        `season_not_found`."""
        return await self._ask(Page[Epoch], "GET", path_of("seasons", season_id, "/epochs"), limit=limit, cursor=cursor)

    async def epoch_top(
        self, season_id: str, epoch: int, *, limit: int = 10, offset: int = 0, cursor: str = ""
    ) -> Page[Player]:
        """The best of an archived epoch as they stood in the end, 1 to 1000 of them; of the current one, as they stand.

        Raises LeaderboardError: 404 `epoch_not_found` where it was not archived, 409 `epoch_sealing` while its final
        ranks are being settled, a second or two: its `retry_after_seconds` says when to ask again.
        """
        page = {"limit": limit, "offset": offset or None, "cursor": cursor}
        return await self._ask(Page[Player], "GET", _of_epoch(season_id, epoch, "top"), **page)

    async def epoch_rank(self, season_id: str, epoch: int, user_id: str) -> Player | None:
        """A player's final rank; None = not on the board. Raises as `epoch_top` does."""
        found = await self._ask(Player, "GET", _of_epoch(season_id, epoch, "rank"), user_id=user_id)
        return found if found.rank else None

    async def epoch_around(self, season_id: str, epoch: int, user_id: str, reach: int = 5) -> Page[Player] | None:
        """The player with up to `reach` (0 to 100) final ranks on each side; None = not on the board. Raises as
        `epoch_top` does."""
        path = _of_epoch(season_id, epoch, "around")
        found = await self._ask(Page[Player], "GET", path, user_id=user_id, range=reach)
        return found if found.items else None


def _of_epoch(season_id: str, epoch: int, read: str) -> str:
    return path_of("seasons", season_id, f"/epochs/{epoch}/leaderboard/{read}")
