"""POST …/scores?wait=: one score, and where its player stands with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from api.answers import Answer, Header, json_answer
from api.boards import Boards, Placing
from api.intake import Intake
from api.ledger_writes import Stored, event_id_of
from api.visibility import Visibility
from api.waiting import Pending
from shared.errors import NotOnBoardError, UnavailableError
from shared.ledger import Replayed
from shared.scores import Score, SeasonId, UserId

# The name is the one that Stripe's API made known.
_REPLAYED: Final = ((b"idempotent-replayed", b"true"),)


class Queued(msgspec.Struct, frozen=True, rename="camel"):
    """`pending`: where the client waited, and it is still not on the board."""

    season_id: str
    user_id: str
    event_id: str
    queued: bool = True
    pending: Pending = msgspec.UNSET


class Applied(msgspec.Struct, frozen=True, rename="camel"):
    """`score` and `rank`: null = the player is not on the board. `previousRank`: of before the score, likewise."""

    season_id: str
    user_id: str
    event_id: str
    score: int | None
    rank: int | None
    previous_rank: int | None
    queued: bool = False


class AppliedScores:
    def __init__(self, intake: Intake, boards: Boards, visibility: Visibility) -> None:
        self._intake = intake
        self._boards = boards
        self._visibility = visibility

    async def add(self, score: Score, wait_ms: int) -> Answer:
        """Store the score and answer once it is on the board, or, after that time, that it is pending."""
        season_id, user_id = score.season_id, score.user_id
        try:
            previous = await self._place(season_id, user_id)
        except UnavailableError:  # the score is stored all the same
            return queued(score, await self._intake.submit(score), pending=True)
        stored = await self._intake.submit(score)
        event_id, new = event_id_of(stored), not isinstance(stored, Replayed)
        word = await self._visibility.wait(season_id, event_id, wait_ms / 1000, new=new)
        if word != "done":
            return queued(score, stored, pending=True)
        try:
            place = await self._place(season_id, user_id)
        except UnavailableError:
            return queued(score, stored, pending=True)
        applied = Applied(
            season_id,
            user_id,
            str(event_id),
            None if place is None else place.score,
            None if place is None else place.rank,
            None if previous is None else previous.rank,
        )
        return json_answer(applied, 200, replay_header(stored))

    async def _place(self, season_id: SeasonId, user_id: UserId) -> Placing | None:
        try:
            return await self._boards.rank(season_id, user_id)
        except NotOnBoardError:
            return None


def queued(score: Score, stored: Stored, *, pending: Pending = msgspec.UNSET) -> Answer:
    """That the score is stored. On the path of every score."""
    if isinstance(stored, int):
        return json_answer(Queued(score.season_id, score.user_id, str(stored), True, pending), 202)
    told = Queued(score.season_id, score.user_id, str(stored.event_id), True, pending)
    return json_answer(told, 202, _REPLAYED)


def replay_header(stored: Stored) -> Sequence[Header]:
    """Tells a client that its score had been stored before."""
    return _REPLAYED if isinstance(stored, Replayed) else ()
