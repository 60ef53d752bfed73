"""One batch of the outbox, exactly once in effect: claim, lock, fold, show, commit. Argued in docs/reliability.md.

Whatever interrupts it at any step leaves the events pending; folding them again gives the same totals.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import psycopg
import structlog

from shared import folds, moderation, outbox, overflows, seasons, standings
from shared.postgres import REFUSED, Connection, Pool
from shared.projection import Projection
from shared.reconciliation import project, update_of
from shared.scores import Rules, SeasonId
from shared.seasons import Fence
from shared.standings import Standing
from worker.held_off import HeldOff

STEPS: Final = ("claimed", "locked", "folded", "projected", "committed")
"""The steps after which a test may have the worker killed."""

_SLOW_SECONDS: Final = 1.0

Reach = Callable[[str], None]

log = structlog.get_logger()


class Batch(NamedTuple):
    """What a batch did. `events` is 0 when nothing was pending; `shares`: see `shared.outbox.Claimed`.

    `seconds`: what each of STEPS took. `lag_seconds`: from when the oldest event was written until they are on boards.
    `followed`: the traceparents of events that are traced, and whether the database refused them.
    """

    events: int
    seasons: int
    failed: int
    shares: Sequence[int] = ()
    seconds: Sequence[float] = ()
    lag_seconds: float = 0.0
    followed: Sequence[tuple[str, bool]] = ()


class SeasonsLockedError(Exception):
    """Another session held one of these seasons, or a row in one, beyond the lock timeout; nothing is committed."""

    def __init__(self, season_ids: Sequence[SeasonId]) -> None:
        super().__init__(f"locked elsewhere, at least one of {', '.join(season_ids)}")
        self.season_ids = season_ids


class Folded(NamedTuple):
    """`standings`: those that changed, each once. `failures`: events that the database refuses, and why. A batch that
    never committed may have shown such an event: its player's standing is sent again."""

    standings: list[Standing]
    failures: dict[int, str]


_Claim: TypeAlias = Callable[[Connection], Awaitable[outbox.Claimed]]
_Fold: TypeAlias = Callable[[Connection, list[int], Collection[Rules]], Awaitable[Folded]]


class BatchApplier:
    """Applies batches, each in a transaction of its own. `reach` is told each step of STEPS, `applied` each batch.

    `follow`: of how many events of a batch, of those that are traced, their traceparents are asked for.
    """

    def __init__(
        self,
        pool: Pool,
        projection: Projection,
        batch_size: int,
        reach: Reach,
        applied: Callable[[Batch], None] = lambda _batch: None,
        *,
        follow: int = 0,
    ) -> None:
        self._pool = pool
        self._projection = projection
        self._batch_size = batch_size
        self._reach = reach
        self._applied = applied
        self._follow = follow
        self._held_off = HeldOff()

    async def apply(
        self,
        *,
        floor: int,
        paused: Sequence[SeasonId],
        shares: Sequence[int] = (),
        on_full: Callable[[], None] = lambda: None,
    ) -> Batch:
        """Claim and apply up to a batch of pending events at or above `floor`, leaving `paused` seasons alone, and for
        a while what it met that can't be applied yet, where that is much.

        `shares`: see `shared.outbox.claim`. `on_full` is called as soon as the claim turns out to be full: more waits,
        and need not wait for this batch. Raises SeasonsLockedError, LateError, SeasonsUnreachableError, psycopg.Error
        or RedisError; in each case nothing is committed.
        """
        started = time.monotonic()
        begin = self._held_off.floor(floor)
        claim = partial(outbox.claim, floor=begin, paused=paused, limit=self._batch_size, shares=shares)
        try:
            batch, failures = await self._apply(claim, on_full, _fold_all)
        except REFUSED:
            # Savepoints cost every batch two round trips; this costs the rare one a second start.
            batch, failures = await self._apply(claim, on_full, _fold_what_fits)
        if batch.events:
            _report(batch, failures, time.monotonic() - started)
            self._applied(batch)
        return batch

    async def _apply(self, claim: _Claim, on_full: Callable[[], None], fold: _Fold) -> tuple[Batch, dict[int, str]]:
        moments = [time.perf_counter()]

        def reach(step: str) -> None:
            moments.append(time.perf_counter())
            self._reach(step)

        async with self._pool.connection() as conn, conn.transaction():
            event_ids, season_ids, waited, moderating, shares = await claim(conn)
            claimed = len(event_ids)
            put_back: set[int] = set()
            if not event_ids:
                self._held_off.took(0, self._batch_size, put_back)
                return Batch(0, 0, 0, shares), {}
            # Before the seasons are locked: they are for no longer than untraced.
            parents = await outbox.traceparents(conn, event_ids, self._follow) if self._follow else {}
            reach("claimed")
            if claimed == self._batch_size:
                on_full()
            try:
                fences = await seasons.lock(conn, season_ids)
                reach("locked")
                tokens = await seasons.advance(conn, season_ids)
                scores = sorted(set(event_ids) - set(moderating)) if moderating else event_ids
                folded = await fold(conn, scores, {fence.rules for fence in fences})
                if folded.failures:
                    await outbox.mark_failed(conn, folded.failures)
                if moderating:
                    folded, put_back = await _moderate(conn, folded, moderating, fences)
                    event_ids = [one for one in event_ids if one not in put_back]
                    fences = await seasons.renewed(conn, fences)
                reach("folded")
            except psycopg.errors.LockNotAvailable as error:
                raise SeasonsLockedError(season_ids) from error
            changes = by_season(folded.standings)
            updates = [update_of(fence, tokens[fence.season_id], changes[fence.season_id]) for fence in fences]
            await project(conn, self._projection, updates, rebuild_large=False)
            reach("projected")
        reach("committed")
        self._held_off.took(claimed, self._batch_size, put_back)
        seconds = [after - before for before, after in itertools.pairwise(moments)]
        lag_seconds = (waited or 0.0) + moments[-1] - moments[1]
        failures = folded.failures
        followed = [(parent, event_id in failures) for event_id, parent in parents.items()]
        return Batch(len(event_ids), len(season_ids), len(failures), shares, seconds, lag_seconds, followed), failures


async def _moderate(
    conn: Connection, folded: Folded, moderating: list[int], fences: Sequence[Fence]
) -> tuple[Folded, set[int]]:
    """Apply the events that are no scores, behind all scores of the batch: what they take away is counted anew from the
    ledger. Returns what both come to, and which of them are pending again."""
    moderated = await moderation.apply(conn, moderating, fences)
    if moderated.failures:
        await outbox.mark_failed(conn, moderated.failures)
    if moderated.too_early:
        await outbox.put_back(conn, moderated.too_early)
    together = _together(folded, Folded(moderated.standings, moderated.failures))
    return together, set(moderated.too_early)


async def _fold_all(conn: Connection, event_ids: list[int], rules: Collection[Rules]) -> Folded:
    """Raises psycopg.DataError or IntegrityError where the database refuses one of them."""
    return Folded(await folds.fold(conn, event_ids, rules), {})


async def _fold_what_fits(conn: Connection, event_ids: list[int], rules: Collection[Rules]) -> Folded:
    """Set aside the events that do not fit into their players' totals, however many, and fold the others."""
    beyond, rounds = await overflows.find(conn, event_ids)
    folded = Folded([], dict.fromkeys(beyond, overflows.REASON))
    for some in filter(None, rounds):
        folded = _together(folded, await _fold_in_halves(conn, some, rules))
    return _together(folded, Folded(await standings.touch(conn, beyond), {})) if beyond else folded


async def _fold_in_halves(conn: Connection, event_ids: list[int], rules: Collection[Rules]) -> Folded:
    """Fold the events; where the database refuses for whatever other reason, halve until the event at fault stands
    alone and is set aside."""
    try:
        async with conn.transaction():
            return await _fold_all(conn, event_ids, rules)
    except REFUSED as error:
        if len(event_ids) == 1:
            return Folded(await standings.touch(conn, event_ids), {event_ids[0]: str(error).strip()})
    middle = len(event_ids) // 2
    first = await _fold_in_halves(conn, event_ids[:middle], rules)
    return _together(first, await _fold_in_halves(conn, event_ids[middle:], rules))


def _together(first: Folded, second: Folded) -> Folded:
    latest = {(row.season_id, row.user_id): row for row in first.standings + second.standings}
    return Folded(list(latest.values()), first.failures | second.failures)


def by_season(changed: Sequence[Standing]) -> defaultdict[SeasonId, list[Standing]]:
    """The standings of each season; none where a season has none."""
    by_season: defaultdict[SeasonId, list[Standing]] = defaultdict(list)
    for row in changed:
        by_season[row.season_id].append(row)
    return by_season


def _report(batch: Batch, failures: dict[int, str], seconds: float) -> None:
    told = {"events": batch.events, "seasons": batch.seasons, "duration_ms": round(seconds * 1000, 1)}
    for event_id, reason in failures.items():
        log.error("event failed", event_id=event_id, reason=reason)
    if seconds >= _SLOW_SECONDS:
        log.warning("batch slow", **told)
    else:
        log.debug("batch", **told)
