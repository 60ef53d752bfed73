"""Scores into the ledger, and what their clients hear: one rule for scores that share a commit and for batches.

All scores of a call that the database takes are inserted by one statement, and so in one transaction. A commit whose
outcome is unknown is not tried again here.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import psycopg
import structlog

from shared import ledger, seasons
from shared.errors import ConflictError, InvalidRequestError, KeyReusedError, LeaderboardError, PostgresUnavailableError
from shared.postgres import REFUSED, Connection, Pool, renew_if_lost
from shared.scores import EventId, Rules, Score, SeasonId, rules_of_first
from shared.wakeups import Wakeups

Stored: TypeAlias = EventId | ledger.Replayed
"""The id of a score that was stored just now, or before, under the same key."""

Result: TypeAlias = Stored | LeaderboardError
"""What was stored, or why it is not."""


CONFLICTS: Final = frozenset({"epoch_mismatch", "season_closed", "season_not_started", "wrong_aggregation"})
"""The codes of scores that their season does not take as it is."""

_FIRST_EPOCH: Final = 1

_SEARCH_SECONDS: Final = 2.0
"""How long the scores at fault are looked for: thousands of them would take thousands of statements."""

log = structlog.get_logger()


def event_id_of(stored: Stored) -> EventId:
    return stored.event_id if isinstance(stored, ledger.Replayed) else stored


class LedgerWrites:
    """`store` on the process's connections; idle workers hear of it. `committed` hears of which scores in how many
    seconds."""

    def __init__(self, pool: Pool, wakeups: Wakeups, committed: Callable[[Sequence[Score], float], None]) -> None:
        self._pool = pool
        self._committed = committed
        self._wakeups = wakeups

    async def store(self, scores: Sequence[Score]) -> list[Result]:
        started = time.perf_counter()
        results = await store(self._pool, scores)
        self._committed(scores, time.perf_counter() - started)
        self._wakeups.tell()
        return results


async def store(pool: Pool, scores: Sequence[Score]) -> list[Result]:
    """Store the scores, durably; returns what became of each. One that the database refuses fails no other.

    Raises PostgresUnavailableError; then all of them may be stored, or none.
    """
    try:
        # Not `pool.connection()`, whose commit has nothing to do in autocommit and costs more than the rest of it.
        conn = await pool.getconn()
        try:
            return await _store(conn, scores)
        finally:
            await pool.putconn(conn)
    except (psycopg.Error, OSError, TimeoutError) as error:
        await renew_if_lost(pool, error)
        log.warning("commit failed", scores=len(scores), error=str(error).strip() or type(error).__name__)
        raise PostgresUnavailableError("the ledger does not answer; try again shortly") from error


async def _store(conn: Connection, scores: Sequence[Score]) -> list[Result]:
    try:
        outcomes = await _append(conn, scores)
    except REFUSED:
        refused = await _find_refused(conn, scores)
        if not refused:
            raise
        taken = [score for place, score in enumerate(scores) if place not in refused]
        results = iter(await _store(conn, taken) if taken else ())
        return [refused[place] if place in refused else next(results) for place in range(len(scores))]
    told = [
        outcome if isinstance(outcome, int) else _told(score, outcome)
        for score, outcome in zip(scores, outcomes, strict=True)
    ]
    if "expired" in outcomes:
        free_again = [place for place, outcome in enumerate(outcomes) if outcome == "expired"]
        stored_now = await _store(conn, [scores[place] for place in free_again])
        for place, result in zip(free_again, stored_now, strict=True):
            told[place] = result
    return told


async def _append(conn: Connection, scores: Sequence[Score]) -> Sequence[ledger.Outcome]:
    try:
        return await ledger.append(conn, scores)
    except ledger.UnknownSeasonError:
        return await _append_to_new(conn, scores)


async def _append_to_new(conn: Connection, scores: Sequence[Score]) -> Sequence[ledger.Outcome]:
    """The same where some of their seasons may have to be made first."""
    missing = await _create_seasons(conn, scores)
    found = [score for score in scores if score.season_id not in missing]
    outcomes = iter(await ledger.append(conn, found) if found else ())
    refusal = ledger.Refusal("epoch", _FIRST_EPOCH)
    return [refusal if score.season_id in missing else next(outcomes) for score in scores]


async def _create_seasons(conn: Connection, scores: Sequence[Score]) -> set[SeasonId]:
    """A season that nobody made aggregates as its first score is meant. Returns those that are not made, where all
    scores are for later epochs."""
    first = [score for score in scores if score.epoch in (None, _FIRST_EPOCH)]
    meant = {score.season_id: score.absolute for score in reversed(first)}
    by_rules: defaultdict[Rules, list[SeasonId]] = defaultdict(list)
    for season_id, absolute in meant.items():
        by_rules[rules_of_first(season_id, absolute=absolute)].append(season_id)
    for rules, season_ids in sorted(by_rules.items()):
        await ledger.create_seasons(conn, season_ids, rules)
    others = {score.season_id for score in scores} - meant.keys()
    return others - set(await seasons.known(conn, sorted(others))) if others else set()


async def _find_refused(conn: Connection, scores: Sequence[Score]) -> dict[int, LeaderboardError]:
    """The places of those that the database refuses, found by halving. TimeoutError where there are too many."""
    async with asyncio.timeout(_SEARCH_SECONDS):
        return {
            place: InvalidRequestError("the ledger does not take this score", code="score_refused")
            for place in await _refused_places(conn, scores, 0)
        }


async def _refused_places(conn: Connection, scores: Sequence[Score], first: int) -> list[int]:
    try:
        # Nothing of it stays. Halves that did would hold their keys while others are tried, and no longer in order.
        async with conn.transaction(force_rollback=True):
            await _append_to_new(conn, scores)
    except REFUSED as error:
        if len(scores) == 1:
            log.warning("score refused by the database", score=scores[0]._asdict(), error=str(error).strip())
            return [first]
        middle = len(scores) // 2
        return [
            *await _refused_places(conn, scores[:middle], first),
            *await _refused_places(conn, scores[middle:], first + middle),
        ]
    return []


def _told(score: Score, outcome: ledger.Outcome) -> Result:
    """What the client hears of a score that was not stored just now."""
    if isinstance(outcome, ledger.Replayed):
        return outcome
    if isinstance(outcome, ledger.Refusal):
        return _conflict(score, outcome)
    if outcome == "reused":
        return KeyReusedError(
            f"the idempotency key {score.key} came with another userId or delta before; a new score needs a new key"
        )
    return PostgresUnavailableError("the ledger does not answer; send it again with the same key")


def _conflict(score: Score, refusal: ledger.Refusal) -> ConflictError:
    season_id = score.season_id
    match refusal.reason:
        case "epoch":
            message = f"season {season_id} is in epoch {refusal.epoch}, not in {score.epoch}, which this score is for"
            return ConflictError(message, code="epoch_mismatch")
        case "closed":
            return ConflictError(f"season {season_id} is closed and takes no more scores", code="season_closed")
        case "not_started":
            message = f"season {season_id} takes no scores yet; GET /v1/seasons/{season_id} says from when"
            return ConflictError(message, code="season_not_started")
        case "sum":
            message = f"season {season_id} adds up what its players get: send delta, the points to add, not score"
            return ConflictError(message, code="wrong_aggregation")
        case aggregation:
            message = f"season {season_id} keeps each player's {aggregation} score: send score, not delta"
            return ConflictError(message, code="wrong_aggregation")
