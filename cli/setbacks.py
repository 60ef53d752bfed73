"""`leaderboard outbox retry` and `discard`: events that failed get another chance, or are given up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from cli.console import bar, counted, print_json
from cli.seasons import choose
from cli.servers import connected, connected_ledger
from shared import setbacks
from shared.scores import SeasonId
from shared.setbacks import Event
from shared.settings import Settings


class Outcome(NamedTuple):
    """How many events were changed, and per event that was not the reason and what would be right."""

    changed: int
    refused: dict[int, str]


async def retry_named(settings: Settings, event_ids: Sequence[int]) -> Outcome:
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        retried = await setbacks.retry(conn, event_ids)
        found = await setbacks.find(conn, event_ids)
    return Outcome(len(retried), {one: _why_no_retry(one, found.get(one)) for one in event_ids if one not in retried})


async def retry_all(settings: Settings, season_id: str | None) -> Outcome:
    changed, after = 0, 0
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        chosen = await _season(pool, season_id)
        total = sum((await setbacks.seasons_with_failed(conn, chosen)).values())
        with bar("failed events sent back to pending", total) as progress:
            while retried := await setbacks.retry_some(conn, chosen, after):
                after = retried[-1]
                changed += len(retried)
                progress.add(len(retried))
    return Outcome(changed, {})


async def discard_named(settings: Settings, event_ids: Sequence[int]) -> Outcome:
    async with connected(settings) as (pool, projection):
        async with pool.connection() as conn:
            found = await setbacks.find(conn, event_ids)
        by_season: defaultdict[SeasonId, list[int]] = defaultdict(list)
        for event in found.values():
            by_season[event.season_id].append(event.id)
        discarded: set[int] = set()
        with bar("events discarded", len(event_ids)) as progress:
            for season_id, of_season in sorted(by_season.items()):
                for start in range(0, len(of_season), setbacks.BATCH):
                    some = of_season[start : start + setbacks.BATCH]
                    discarded |= await setbacks.discard(pool, projection, season_id, some)
                    progress.add(len(some))
        async with pool.connection() as conn:
            found = await setbacks.find(conn, event_ids)
    refused = {one: _why_no_discard(one, found.get(one)) for one in event_ids if one not in discarded}
    return Outcome(len(discarded), refused)


async def discard_all(settings: Settings, season_id: str | None) -> Outcome:
    changed = 0
    async with connected(settings) as (pool, projection):
        chosen = await _season(pool, season_id)
        async with pool.connection() as conn:
            waiting = await setbacks.seasons_with_failed(conn, chosen)
        with bar("failed events discarded", sum(waiting.values())) as progress:
            for one in waiting:
                while discarded := await setbacks.discard_some(pool, projection, one):
                    changed += len(discarded)
                    progress.add(len(discarded))
    return Outcome(changed, {})


def print_outcome(outcome: Outcome, done: str, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "changed": outcome.changed,
            "refused": [{"id": event_id, "reason": reason} for event_id, reason in outcome.refused.items()],
        }
        print_json(document)
        return
    print(f"{counted(outcome.changed, 'event')} {done}")
    for reason in outcome.refused.values():
        print(reason)


async def _season(pool: Any, season_id: str | None) -> SeasonId | None:
    return (await choose(pool, [season_id]))[0] if season_id is not None else None


def _why_no_retry(event_id: int, event: Event | None) -> str:
    match event:
        case None:
            return _absent(event_id)
        case Event(status="pending"):
            return f"event {event_id} is pending: a worker takes it by itself"
        case Event(status="discarded"):
            return (
                f"event {event_id} was discarded and does not come back; send its {event.delta:+,} for player "
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
                f"{-event.delta:+,} for player {event.user_id} of season {event.season_id}"
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
