"""What is told of epochs: their list, and final ranks in the words of boards."""

from __future__ import annotations

import datetime as dt
from typing import Literal, TypeAlias

import msgspec

from api.boards import Page
from api.cursors import cursor_behind
from api.seasons_api import Around, Moment, Rank, RankedPlayer, Top, percentile
from shared.epochs import Epoch, Reason
from shared.scores import Aggregation, Order, SeasonId, TieBreak, UserId
from shared.season_settings import Season

EpochState: TypeAlias = Literal["current", "ended", "sealing", "archived", "expired"]
"""Only an archived one, and the current one, can be read."""


class SeasonEpoch(msgspec.Struct, frozen=True, rename="camel"):
    """`beganAt`: null = from before that was noted. `endedAt`: when it took no more scores, null = it does. `players`:
    on its board, null = it has none."""

    epoch: int
    state: EpochState
    began_at: Moment | None
    ended_at: Moment | None
    reason: Reason | None
    sealed_at: Moment | None
    players: int | None
    aggregation: Aggregation
    order: Order
    windows: bool
    tie_break: TieBreak


class Epochs(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: what to send to get the next page; null = this is the last one."""

    season_id: str
    items: list[SeasonEpoch]
    next_cursor: str | None


class EpochTop(Top, frozen=True, rename="camel", kw_only=True):
    epoch: int


class EpochRank(Rank, frozen=True, rename="camel", kw_only=True):
    epoch: int


class EpochAround(Around, frozen=True, rename="camel", kw_only=True):
    epoch: int


def current_epoch(season: Season, noted: Epoch | None, began_at: dt.datetime | None, players: int) -> SeasonEpoch:
    """`noted`: what was noted of its end, where it takes no more scores and somebody asked for that."""
    ended_at, reason, sealed_at = _end_by_its_season(season, began_at)
    if noted is not None:
        ended_at, reason, sealed_at = noted.ended_at, noted.reason, noted.sealed_at
    chosen = season.settings.rules[:4]
    moments = _utc(began_at), _utc(ended_at), reason, _utc(sealed_at)
    return SeasonEpoch(season.epoch, "current", *moments, players, *chosen)


def _end_by_its_season(season: Season, began_at: dt.datetime | None) -> tuple[dt.datetime | None, Reason | None, None]:
    """When the current epoch took no more scores, and why, by what its season says: one that began later never took
    any. Builds before let an epoch begin closed, which they did not note."""
    if season.state != "closed":
        return None, None, None
    reason: Reason = "end" if season.closed_at is None else "close"
    over_at = season.closed_at or season.settings.ends_at
    return max((moment for moment in (over_at, began_at) if moment is not None), default=None), reason, None


def ended_epoch(epoch: Epoch) -> SeasonEpoch:
    """One that another one followed."""
    state: EpochState = "ended"
    if epoch.archived:
        state = "sealing" if epoch.sealed_at is None else "archived"
    elif epoch.expired_at is not None:
        state = "expired"
    moments = _utc(epoch.began_at), _utc(epoch.ended_at), epoch.reason, _utc(epoch.sealed_at)
    players = epoch.players if state == "archived" else None
    return SeasonEpoch(epoch.epoch, state, *moments, players, *epoch.rules[:4])


def live_top(season_id: SeasonId, epoch: int, page: Page) -> EpochTop:
    """Of the current epoch."""
    players, total, last = page
    items = list(map(RankedPlayer, *players))
    return EpochTop(season_id, items, total, None if last is None else cursor_behind(last), epoch=epoch)


def rank_of(season_id: SeasonId, epoch: int, user_id: UserId, place: tuple[int, int, int]) -> EpochRank:
    """`place`: rank, score, and of how many players."""
    rank, score, total = place
    return EpochRank(season_id, user_id, rank, score, percentile(rank, total), total, epoch=epoch)


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.astimezone(dt.UTC)
