"""`leaderboard outbox retry` and `discard`: events that failed get another chance, or are given up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.console import bar, counted, print_json, tell_place
from cli.seasons import choose
from cli.servers import connected, connected_ledger, place
from shared import setbacks
from shared.postgres import Pool
from shared.scores import SeasonId
from shared.setbacks import Event
from shared.settings import Settings


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


async def tell_servers(settings: Settings) -> None:
    """Before somebody is asked whether to give up events: on which servers."""
    async with connected(settings) as servers:
        tell_place(servers.place)


async def retry_named(settings: Settings, event_ids: Sequence[int], outcome: Outcome) -> None:
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        tell_place(place(conn))
        outcome.changed += sorted(await setbacks.retry(conn, event_ids))
        found = await setbacks.find(conn, event_ids)
    changed = set(outcome.changed)
    outcome.refused = {one: _why_no_retry(one, found.get(one)) for one in event_ids if one not in changed}
    outcome.complete = True


async def retry_all(settings: Settings, season_id: str | None, outcome: Outcome) -> None:
    after = 0
    async with connected_ledger(settings) as pool:
        chosen = await _season(pool, season_id)
        async with pool.connection() as conn:
            tell_place(place(conn))
            before = await setbacks.failed_ids(conn, chosen)
            with bar("failed events sent back to pending", len(before)) as progress:
                while retried := await setbacks.retry_some(conn, chosen, after):
                    after = retried[-1]
                    outcome.changed += retried
                    progress.add(len(retried))
            outcome.left = _why_left(await setbacks.failed_ids(conn, chosen), before, outcome.changed)
    outcome.complete = True


async def discard_named(settings: Settings, event_ids: Sequence[int], outcome: Outcome) -> None:
    async with connected(settings) as (pool, projection, _):
        async with pool.connection() as conn:
            found = await setbacks.find(conn, event_ids)
        by_season: defaultdict[SeasonId, list[int]] = defaultdict(list)
        for event in found.values():
            by_season[event.season_id].append(event.id)
        with bar("events discarded", len(event_ids)) as progress:
            for season_id, of_season in sorted(by_season.items()):
                for start in range(0, len(of_season), setbacks.BATCH):
                    some = of_season[start : start + setbacks.BATCH]
                    _note_discarded(outcome, season_id, await setbacks.discard(pool, projection, season_id, some))
                    progress.add(len(some))
        async with pool.connection() as conn:
            found = await setbacks.find(conn, event_ids)
    changed = set(outcome.changed)
    outcome.refused = {one: _why_no_discard(one, found.get(one)) for one in event_ids if one not in changed}
    outcome.complete = True


async def discard_all(settings: Settings, season_id: str | None, outcome: Outcome) -> None:
    async with connected(settings) as (pool, projection, _):
        chosen = await _season(pool, season_id)
        async with pool.connection() as conn:
            before = await setbacks.failed_ids(conn, chosen)
            waiting = await setbacks.seasons_with_failed(conn, chosen)
        with bar("failed events discarded", len(before)) as progress:
            for one in waiting:
                while discarded := await setbacks.discard_some(pool, projection, one):
                    _note_discarded(outcome, one, discarded)
                    progress.add(len(discarded))
        async with pool.connection() as conn:
            outcome.left = _why_left(await setbacks.failed_ids(conn, chosen), before, outcome.changed)
    outcome.complete = True


def print_outcome(outcome: Outcome, done: str, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "complete": outcome.complete,
            "changed": sorted(outcome.changed),
            "refused": _listed(outcome.refused),
            "left": _listed(outcome.left),
        }
        print_json(document)
        return
    told = f"{counted(len(outcome.changed), 'event')} {done}"
    if not outcome.complete:
        # A commit whose answer was lost is not among them.
        told = f"at least {told} before that, which stays"
        if outcome.by_season:
            told += ": " + ", ".join(f"season {season_id} {n}" for season_id, n in sorted(outcome.by_season.items()))
    print(told)
    for reason in outcome.refused.values():
        print(reason)
    for reason, number in Counter(outcome.left.values()).items():
        print(f"{counted(number, 'failed event')} left: {reason}")


async def _season(pool: Pool, season_id: str | None) -> SeasonId | None:
    return (await choose(pool, [season_id]))[0] if season_id is not None else None


def _note_discarded(outcome: Outcome, season_id: SeasonId, event_ids: Collection[int]) -> None:
    outcome.changed += event_ids
    if event_ids:
        outcome.by_season[season_id] += len(event_ids)


def _listed(reasons: dict[int, str]) -> list[dict[str, Any]]:
    return [{"id": event_id, "reason": reason} for event_id, reason in reasons.items()]


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
        case _:
            return f"event {event_id} is {event.status} again: run the command once more"


def _absent(event_id: int) -> str:
    return (
        f"event {event_id} is not in the outbox (done events leave it after OUTBOX_RETENTION_HOURS); "
        "see: leaderboard outbox failed"
    )
