"""`leaderboard outbox status` and `failed`: what waits or was set aside, and why."""

from __future__ import annotations

import datetime as dt
from typing import Final

from rich.markup import escape

from cli.console import counted, make_table, print_json, print_table
from cli.servers import connected_ledger
from shared import outbox_review
from shared.outbox_review import FailedEvents, Review
from shared.season_choice import choose
from shared.settings import Settings

_MINUTE: Final = 60
_HOUR: Final = 3600


async def review(settings: Settings) -> Review:
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        return await outbox_review.review(conn)


async def failed(settings: Settings, season_id: str | None, limit: int) -> FailedEvents:
    async with connected_ledger(settings) as pool:
        chosen = (await choose(pool, [season_id]))[0] if season_id is not None else None
        async with pool.connection() as conn:
            return await outbox_review.failed(conn, chosen, limit)


def print_review(found: Review, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "counts": found.counts,
                "estimated": sorted(found.estimated),
                "seasonsWaiting": found.seasons_waiting,
                "oldestPendingSeconds": found.oldest_seconds,
                "failedByReason": found.reasons,
            }
        )
        return
    table = make_table("status", "events", left=frozenset({"status"}))
    for status, count in found.counts.items():
        table.add_row(status, f"~ {count:,}" if status in found.estimated else f"{count:,}")
    print_table(table)
    if found.estimated:
        print("~ estimated from PostgreSQL's statistics; to count: select status, count(*) from outbox group by status")
    if found.oldest_seconds is None:
        print("nothing is pending: the boards show every score")
    else:
        print(f"waiting: {counted(found.seasons_waiting, 'season')}, the oldest event for {_age(found.oldest_seconds)}")
    if found.reasons:
        print("failed by reason:")
        for reason, count in found.reasons.items():
            print(f"  {count:,} × {reason}")
        print("look closer: leaderboard outbox failed; then retry or discard them")


def print_failed(found: FailedEvents, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "total": found.total,
                "events": [
                    {
                        "id": event.id,
                        "seasonId": event.season_id,
                        "userId": event.user_id,
                        "delta": event.delta,
                        "attempts": event.attempts,
                        "reason": event.reason,
                        "createdAt": event.created_at.astimezone(dt.UTC).isoformat(),
                    }
                    for event in found.events
                ],
            }
        )
        return
    if not found.events:
        print("no failed events")
        return
    table = make_table(
        "id",
        "season",
        "player",
        "delta",
        "attempts",
        "written",
        "reason",
        left=frozenset({"season", "player", "written", "reason"}),
    )
    for event in found.events:
        table.add_row(
            str(event.id),
            escape(event.season_id),
            escape(event.user_id),
            str(event.delta),  # it may be typed, as a score that makes up for it
            str(event.attempts),
            f"{event.created_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%SZ}",
            escape(event.reason),
        )
    print_table(table)
    if len(found.events) < found.total:
        print(f"{len(found.events)} of {found.total} shown; --limit shows more")


def _age(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
