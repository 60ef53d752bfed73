"""`leaderboard rebuild`: boards built anew from the standings."""

from __future__ import annotations

from rich.markup import escape

from cli.console import bar, counted, make_table, print_json, print_table, tell_place
from cli.servers import connected
from shared.rebuilding import Rebuilt, rebuild_each
from shared.season_choice import choose
from shared.settings import Settings


async def build_anew(settings: Settings, season_ids: list[str]) -> list[Rebuilt]:
    """Build the boards of these seasons, or of all, one after the other."""
    done: list[Rebuilt] = []
    async with connected(settings) as (pool, projection, place):
        tell_place(place)
        chosen = await choose(pool, season_ids)
        with bar("players", None) as progress:

            def begin(season_id: str, total: int) -> None:
                told = f"season {escape(season_id)} ({len(done) + 1} of {len(chosen)}), players"
                progress.begin(told, total)

            async for one in rebuild_each(pool, projection, chosen, begin=begin, tell=progress.reach):
                done.append(one)  # noqa: PERF401 - `begin` counts them while they come
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
