"""Retrying and discarding many events: what became of each, and why some stayed as they were."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from shared import setbacks
from shared.postgres import Connection, Pool
from shared.projection import Projection
from shared.scores import SeasonId
from shared.setbacks import Event


@dataclass
class Outcome:
    """What became of events, noted as they are committed: who is stopped half-way can still tell.

    `refused`: named events that were not changed, `left`: those that are failed after all of them were to be changed,
    each with the reason. `by_season`: where events were given up. `complete`: the work came to its end.
    """

    changed: list[int] = field(default_factory=list)
    by_season: Counter[SeasonId] = field(default_factory=Counter)
    refused: dict[int, str] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)
    complete: bool = False


def _nobody(_number: int) -> None:
    pass


async def retry_named(conn: Connection, event_ids: Sequence[int], outcome: Outcome) -> None:
    """Send these events back to pending, as far as they are failed."""
    outcome.changed += sorted(await setbacks.retry(conn, event_ids))
    found = await setbacks.find(conn, event_ids)
    changed = set(outcome.changed)
    outcome.refused = {one: _why_no_retry(one, found.get(one)) for one in event_ids if one not in changed}
    outcome.complete = True


async def retry_all(
    conn: Connection,
    season_id: SeasonId | None,
    outcome: Outcome,
    *,
    begin: Callable[[int], None] = _nobody,
    tell: Callable[[int], None] = _nobody,
) -> None:
    """Send all failed events back, of one season or of all. `begin` hears how many there are, `tell` of each batch."""
    after = 0
    before = await setbacks.failed_ids(conn, season_id)
    begin(len(before))
    while retried := await setbacks.retry_some(conn, season_id, after):
        after = retried[-1]
        outcome.changed += retried
        tell(len(retried))
    outcome.left = _why_left(await setbacks.failed_ids(conn, season_id), before, outcome.changed)
    outcome.complete = True


async def discard_named(
    pool: Pool,
    projection: Projection,
    event_ids: Sequence[int],
    outcome: Outcome,
    *,
    tell: Callable[[int], None] = _nobody,
) -> None:
    """Give up these events, failed or pending. Raises as `shared.reconciliation.amend`; what was given up stays so."""
    async with pool.connection() as conn:
        found = await setbacks.find(conn, event_ids)
    by_season: defaultdict[SeasonId, list[int]] = defaultdict(list)
    for event in found.values():
        by_season[event.season_id].append(event.id)
    for season_id, of_season in sorted(by_season.items()):
        for start in range(0, len(of_season), setbacks.BATCH):
            some = of_season[start : start + setbacks.BATCH]
            _note_discarded(outcome, season_id, await setbacks.discard(pool, projection, season_id, some))
            tell(len(some))
    async with pool.connection() as conn:
        found = await setbacks.find(conn, event_ids)
    changed = set(outcome.changed)
    outcome.refused = {one: _why_no_discard(one, found.get(one)) for one in event_ids if one not in changed}
    outcome.complete = True


async def discard_all(
    pool: Pool,
    projection: Projection,
    season_id: SeasonId | None,
    outcome: Outcome,
    *,
    begin: Callable[[int], None] = _nobody,
    tell: Callable[[int], None] = _nobody,
) -> None:
    """Give up all failed events, of one season or of all. As `retry_all`; raises as `discard_named`."""
    async with pool.connection() as conn:
        before = await setbacks.failed_ids(conn, season_id)
        waiting = await setbacks.seasons_with_failed(conn, season_id)
    begin(len(before))
    for one in waiting:
        while discarded := await setbacks.discard_some(pool, projection, one):
            _note_discarded(outcome, one, discarded)
            tell(len(discarded))
    async with pool.connection() as conn:
        outcome.left = _why_left(await setbacks.failed_ids(conn, season_id), before, outcome.changed)
    outcome.complete = True


def _note_discarded(outcome: Outcome, season_id: SeasonId, event_ids: Collection[int]) -> None:
    outcome.changed += event_ids
    if event_ids:
        outcome.by_season[season_id] += len(event_ids)


def _why_left(still: Sequence[int], before: Sequence[int], changed: Sequence[int]) -> dict[int, str]:
    again, known = frozenset(changed), frozenset(before)
    reasons = {}
    for event_id in still:
        if event_id in again:
            reasons[event_id] = "a worker took it at once and it failed again"
        elif event_id in known:
            reasons[event_id] = "somebody else held it, such as another retry or discard, or an open psql session"
        else:
            reasons[event_id] = "it failed only just now"
    return reasons


def _why_no_retry(event_id: int, event: Event | None) -> str:
    match event:
        case None:
            return _absent(event_id)
        case Event(status="pending"):
            return f"event {event_id} is pending: a worker takes it by itself"
        case Event(status="discarded"):
            return (
                f"event {event_id} was discarded and does not come back; send its {event.delta} for player "
                f"{event.user_id} of season {event.season_id} as a new score"
            )
        case _:
            return f"event {event_id} is {event.status}: only failed ones can be retried"


def _why_no_discard(event_id: int, event: Event | None) -> str:
    match event:
        case None:
            return _absent(event_id)
        case Event(status="done"):
            return (
                f"event {event_id} is done, it counts and is on the board; to take it back, send a score of "
                f"{-event.delta} for player {event.user_id} of season {event.season_id}"
            )
        case Event(status="discarded"):
            return f"event {event_id} was discarded before"
        case Event(has_begun=True):
            return f"event {event_id} erases a player, and has erased a part already: retry it"
        case _:
            return f"event {event_id} is {event.status} again: run the command once more"


def _absent(event_id: int) -> str:
    return (
        f"event {event_id} is not in the outbox (done events leave it after OUTBOX_RETENTION_HOURS); "
        "see: leaderboard outbox failed"
    )
