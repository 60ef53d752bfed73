"""`leaderboard keys …`: keys made, listed, rotated and revoked in the ledger's database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from rich.markup import escape

from cli.console import make_table, print_json, print_table
from cli.servers import connected_ledger
from shared import api_keys
from shared.api_keys import Scope, StoredKey
from shared.settings import Settings


class UnknownKeysError(Exception):
    """No key has one of these ids, or it was revoked; the message says which."""


async def create(settings: Settings, name: str, scopes: Sequence[Scope], prefixes: Sequence[str]) -> tuple[str, bool]:
    """The key, and whether it is the first one that was ever made."""
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        first = not await api_keys.any_made(conn)
        return await api_keys.create(conn, name, scopes, prefixes), first


async def stored(settings: Settings) -> list[StoredKey]:
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        return await api_keys.stored(conn)


async def rotate(settings: Settings, key_id: str, grace_hours: float) -> str:
    """Raises UnknownKeysError."""
    async with connected_ledger(settings) as pool, pool.connection() as conn:
        key = await api_keys.rotate(conn, key_id, grace_hours)
    if key is None:
        raise UnknownKeysError(f"no key that holds has the id {key_id}; `leaderboard keys list` tells all")
    return key


async def revoke(settings: Settings, key_ids: Sequence[str]) -> list[str]:
    """Revoke all of them, or none where one is not known (UnknownKeysError); returns those that held until now."""
    async with connected_ledger(settings) as pool, pool.connection() as conn, conn.transaction():
        unknown = await api_keys.unknown(conn, key_ids)
        if unknown:
            told = ", ".join(unknown)
            raise UnknownKeysError(f"no key has the id {told}, none was revoked; `leaderboard keys list` tells all")
        return await api_keys.revoke(conn, key_ids)


def print_new(key: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": api_keys.id_in(key), "key": key})
    else:
        print(key)


def print_stored(keys: Sequence[StoredKey], *, as_json: bool) -> None:
    if as_json:
        print_json([_document(key) for key in keys])
        return
    if not keys:
        print("no keys; `leaderboard keys create` makes one")
        return
    table = make_table(
        *("id", "name", "scopes", "seasons", "made", "state"),
        left=frozenset({"id", "name", "scopes", "seasons", "made", "state"}),
    )
    for key in keys:
        seasons = ", ".join(f"{prefix}…" for prefix in key.season_prefixes) or "all"
        made = f"{key.created_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%SZ}"
        table.add_row(key.key_id, escape(key.name), ", ".join(key.scopes), escape(seasons), made, _state(key))
    print_table(table)


def _document(key: StoredKey) -> dict[str, object]:
    return {
        "id": key.key_id,
        "name": key.name,
        "scopes": key.scopes,
        "seasonPrefixes": key.season_prefixes,
        "createdAt": _moment(key.created_at),
        "rotatedAt": _moment(key.rotated_at),
        "previousUntil": _moment(key.previous_until),
        "revokedAt": _moment(key.revoked_at),
    }


def _state(key: StoredKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%SZ}"
    if key.previous_until is not None:
        return f"holds; the one before until {key.previous_until.astimezone(dt.UTC):%Y-%m-%d %H:%M:%SZ}"
    return "holds"


def _moment(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat()
