"""`leaderboard deliveries list` and `retry`: final ranks on their way to receivers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from rich.markup import escape

from cli.console import make_table, print_json, print_table, tell_place
from cli.servers import connected_ledger, place
from shared import deliveries
from shared.deliveries import Listed, Status
from shared.settings import Settings


async def listed(settings: Settings, status: Status | None, limit: int) -> list[Listed]:
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        return await deliveries.listed(conn, status, limit)


async def sent_again(settings: Settings, ids: Sequence[int], *, every: bool) -> list[int]:
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        tell_place(place(conn))
        return await deliveries.retry(conn, ids, every=every)


def print_listed(found: Sequence[Listed], *, as_json: bool) -> None:
    if as_json:
        print_json({"deliveries": [_document(one) for one in found]})
        return
    if not found:
        print("no deliveries")
        return
    left = frozenset({"season", "status", "next attempt", "to", "last error"})
    table = make_table("id", "season", "epoch", "status", "attempts", "next attempt", "to", "last error", left=left)
    for one in found:
        table.add_row(
            str(one.id),
            escape(one.season_id),
            str(one.epoch),
            one.status,
            str(one.attempts),
            "" if one.next_at is None else f"{one.next_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%SZ}",
            escape(one.url),
            escape(one.last_error or ""),
        )
    print_table(table)


def print_retried(ids: Sequence[int], *, as_json: bool) -> None:
    if as_json:
        print_json({"retried": ids})
    else:
        print(f"{len(ids):,} to be sent again now")


def _document(one: Listed) -> dict[str, object]:
    return {
        "id": one.id,
        "seasonId": one.season_id,
        "epoch": one.epoch,
        "status": one.status,
        "attempts": one.attempts,
        "nextAt": _moment(one.next_at),
        "lastError": one.last_error,
        "createdAt": _moment(one.created_at),
        "processedAt": _moment(one.processed_at),
        "url": one.url,
        "webhookId": one.webhook_id,
        "bodyBytes": one.body_bytes,
    }


def _moment(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat()
