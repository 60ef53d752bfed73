"""`leaderboard purge`: what the worker deletes every few seconds, once and now."""

from __future__ import annotations

from cli.console import bar, make_table, print_json, print_table, tell_place
from cli.servers import connected_ledger, place_of
from shared.camel_case import camel
from shared.purges import Purge
from shared.settings import Settings


async def purge(settings: Settings, *, retention_hours: float, key_retention_hours: float | None) -> dict[str, int]:
    """Delete what may go; returns how many rows of what. `key_retention_hours` None: keys stay."""
    async with connected_ledger(settings) as pool:
        tell_place(await place_of(pool))
        work = Purge(
            pool,
            retention_hours=retention_hours,
            key_retention_hours=key_retention_hours,
            archive_retention_days=settings.archive_retention_days,
        )
        rows = dict.fromkeys(work.kinds, 0)
        with bar("rows deleted", None) as progress:
            async for deleted in work.run():
                rows[deleted.what] += deleted.rows
                progress.say(f"{deleted.what} deleted")
                progress.add(deleted.rows)
    return rows


def print_purged(rows: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"deleted": {camel(what): count for what, count in rows.items()}})
        return
    table = make_table("deleted", "rows", left=frozenset({"deleted"}))
    for what, count in rows.items():
        table.add_row(what, f"{count:,}")
    print_table(table)
