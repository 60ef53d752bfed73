"""`leaderboard outbox retry` and `discard`: events that failed get another chance, or are given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from cli.console import bar, counted, print_json, tell_place
from cli.servers import connected, connected_ledger, place
from shared import setback_runs
from shared.postgres import Pool
from shared.scores import SeasonId
from shared.season_choice import choose
from shared.setback_runs import Outcome
from shared.settings import Settings


async def tell_servers(settings: Settings) -> None:
    """Before somebody is asked whether to give up events: on which servers."""
    async with connected(settings) as servers:
        tell_place(servers.place)


async def retry_named(settings: Settings, event_ids: Sequence[int], outcome: Outcome) -> None:
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        tell_place(place(conn))
        await setback_runs.retry_named(conn, event_ids, outcome)


async def retry_all(settings: Settings, season_id: str | None, outcome: Outcome) -> None:
    what = "failed events sent back to pending"
    async with connected_ledger(settings) as pool:
        chosen = await _season(pool, season_id)
        async with pool.connection() as conn:
            tell_place(place(conn))
            with bar(what, None) as progress:
                await setback_runs.retry_all(
                    conn, chosen, outcome, begin=lambda total: progress.begin(what, total), tell=progress.add
                )


async def discard_named(settings: Settings, event_ids: Sequence[int], outcome: Outcome) -> None:
    async with connected(settings) as (pool, projection, _):
        with bar("events discarded", len(event_ids)) as progress:
            await setback_runs.discard_named(pool, projection, event_ids, outcome, tell=progress.add)


async def discard_all(settings: Settings, season_id: str | None, outcome: Outcome) -> None:
    what = "failed events discarded"
    async with connected(settings) as (pool, projection, _):
        chosen = await _season(pool, season_id)
        with bar(what, None) as progress:
            await setback_runs.discard_all(
                pool, projection, chosen, outcome, begin=lambda total: progress.begin(what, total), tell=progress.add
            )


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


def _listed(reasons: dict[int, str]) -> list[dict[str, Any]]:
    return [{"id": event_id, "reason": reason} for event_id, reason in reasons.items()]
