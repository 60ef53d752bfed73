"""`leaderboard rebuild`: boards built anew from the standings."""

from __future__ import annotations

import time
from typing import NamedTuple

from rich.markup import escape

from cli.console import bar, counted, make_table, print_json, print_table, tell_place
from cli.seasons import choose
from cli.servers import connected
from shared import seasons, standings
from shared.reconciliation import rebuild
from shared.settings import Settings


class Rebuilt(NamedTuple):
    season_id: str
    players: int
    seconds: float


async def build_anew(settings: Settings, season_ids: list[str]) -> list[Rebuilt]:
    """Build the boards of these seasons, or of all, one after the other; each swapped in as soon as it is whole."""
    done: list[Rebuilt] = []
    async with connected(settings) as (pool, projection, place):
        tell_place(place)
        chosen = await choose(pool, season_ids)
        with bar("players", None) as progress:
            for number, season_id in enumerate(chosen, start=1):
                async with pool.connection() as conn:
                    fence = await seasons.fence(conn, season_id)
                    total = 0 if fence is None else await standings.count(conn, season_id, fence.epoch)
                progress.begin(f"season {escape(season_id)} ({number} of {len(chosen)}), players", total)
                started = time.monotonic()
                players = await rebuild(pool, projection, season_id, progress.reach)
                done.append(Rebuilt(season_id, players, time.monotonic() - started))
    return done


def print_rebuilt(rebuilt: list[Rebuilt], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "seasons": [
                    {"seasonId": one.season_id, "players": one.players, "seconds": round(one.seconds, 3)}
                    for one in rebuilt
                ]
            }
        )
        return
    table = make_table("season", "players", "seconds", left=frozenset({"season"}))
    for one in rebuilt:
        table.add_row(escape(one.season_id), f"{one.players:,}", f"{one.seconds:.2f}")
    if rebuilt:
        print_table(table)
    players = sum(one.players for one in rebuilt)
    print(f"{counted(len(rebuilt), 'board')} built anew, {counted(players, 'player')}")
