"""Seasons that are left alone for a moment, so that one in trouble does not stall the others. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from shared.backoff import backoff_seconds
from shared.scores import SeasonId


class Pauses:
    """Times are seconds of any one monotonic clock."""

    def __init__(self) -> None:
        self._until: dict[SeasonId, float] = {}
        self._failures: dict[SeasonId, int] = {}

    def pause(self, season_ids: Iterable[SeasonId], now: float, draw: float) -> None:
        """Leave the seasons alone, the longer the more often in a row this was said."""
        for season_id in season_ids:
            failures = self._failures.get(season_id, 0) + 1
            self._failures[season_id] = failures
            self._until[season_id] = now + backoff_seconds(failures, draw, first=0.1)

    def paused(self, now: float) -> list[SeasonId]:
        """Which seasons are to be left alone now."""
        return [season_id for season_id, until in self._until.items() if now < until]

    def in_trouble(self) -> list[SeasonId]:
        """Those that are to be left alone now or had no chance since."""
        return list(self._until)

    def settle(self, now: float) -> None:
        """A batch went through: seasons whose pause is over have had their chance and start anew."""
        for season_id in [season_id for season_id, until in self._until.items() if until <= now]:
            del self._until[season_id]
            del self._failures[season_id]
