"""The two works that an operator starts from a page, as lines: comparing seasons, and building their boards anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from api.ops_ledger import OpsLedger
from api.work_lines import Line
from shared.cancellation import heed_cancellation
from shared.findings import document
from shared.rebuilding import rebuild_each
from shared.scores import SeasonId
from shared.verification import Verification

_PATIENCE_SECONDS: Final = 10.0
"""For boards that are behind, before they are reported: what `leaderboard verify` has by default."""


class Verify:
    def __init__(self, ledger: OpsLedger, season_ids: Sequence[SeasonId], *, repair: bool) -> None:
        self._ledger = ledger
        self._season_ids = season_ids
        self._repair = repair
        self._players = 0
        self._seasons = 0

    def progress(self) -> Line:
        return {
            "type": "progress",
            "seasons": self._seasons,
            "ofSeasons": len(self._season_ids),
            "players": self._players,
        }

    async def results(self) -> AsyncGenerator[Line, None]:
        """A line for each season once its report is final, and one with the sums."""
        verification = Verification(
            self._ledger.pool,
            self._ledger.projection,
            repair=self._repair,
            patience_seconds=_PATIENCE_SECONDS,
            tell=self._compared,
        )
        equal, differences, repaired = True, 0, 0
        yield self.progress()
        async with self._ledger.trouble_told():
            async for report in verification.run(self._season_ids):
                self._seasons += 1
                equal = equal and report.equal
                differences += report.differences.total()
                repaired += report.repaired
                yield {"type": "season", **document(report)}
        yield {
            "type": "finished",
            "equal": equal,
            "seasons": self._seasons,
            "players": self._players,
            "differences": differences,
            "repaired": repaired,
        }

    def _compared(self, players: int) -> None:
        heed_cancellation()
        self._players += players


class Rebuild:
    def __init__(self, ledger: OpsLedger, season_ids: Sequence[SeasonId]) -> None:
        self._ledger = ledger
        self._season_ids = season_ids
        self._now: SeasonId | None = None
        self._seasons = 0
        self._players = 0
        self._of_players = 0

    def progress(self) -> Line:
        return {
            "type": "progress",
            "seasons": self._seasons,
            "ofSeasons": len(self._season_ids),
            "seasonId": self._now,
            "players": self._players,
            "ofPlayers": self._of_players,
        }

    async def results(self) -> AsyncGenerator[Line, None]:
        """A line for each board once it is in its place, and one with the sums."""
        total = 0
        yield self.progress()
        async with self._ledger.trouble_told():
            pool, projection = self._ledger.pool, self._ledger.projection
            async for one in rebuild_each(pool, projection, self._season_ids, begin=self._begin, tell=self._staged):
                self._seasons += 1
                total += one.players
                seconds = round(one.seconds, 3)
                yield {"type": "season", "seasonId": one.season_id, "players": one.players, "seconds": seconds}
        yield {"type": "finished", "seasons": self._seasons, "players": total}

    def _begin(self, season_id: SeasonId, players: int) -> None:
        heed_cancellation()
        self._now, self._players, self._of_players = season_id, 0, players

    def _staged(self, players: int) -> None:
        heed_cancellation()
        self._players = players
