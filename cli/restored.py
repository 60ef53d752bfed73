"""`leaderboard restored`: this PostgreSQL leads, whatever boards show of another one."""

from __future__ import annotations

from cli.console import print_json, tell_place
from cli.servers import connected_ledger, place_of
from shared import seasons
from shared.settings import Settings


async def note(settings: Settings) -> int:
    """Begin a new history of the ledger; returns it."""
    async with connected_ledger(settings) as pool:
        tell_place(await place_of(pool))
        async with pool.connection() as conn:
            return await seasons.note_restore(conn)


def print_noted(history: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"history": history})
        return
    print("noted; workers build all boards anew by themselves; see that it is done: leaderboard verify")
