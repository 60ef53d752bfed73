"""A cup's last day, as a back end goes through it: `python examples/season_end.py http://127.0.0.1:8080`.

Where there are keys it needs one with the scope admin, as a second argument.
"""

from __future__ import annotations

import asyncio
import sys

from leaderboard_client import Event, Leaderboard, LeaderboardError, Page, Player, Score

CUP = "friday-cup"


async def main(base_url: str, api_key: str = "") -> None:
    async with Leaderboard(base_url, api_key=api_key) as board:
        results = await board.add_many(CUP, [Score("ann", 500), Score("bob", 300), Score("cid", 200)])
        noon = (await shown(board, results[-1].event_id or "")).created_at
        cheated = await board.add(CUP, "cid", 9_000)
        late = await board.add(CUP, "bob", 400)
        for stored in (cheated, late):
            await shown(board, stored.event_id)

        print("at noon ", line(await board.top(CUP, as_of=noon)))
        for player in (await board.top(CUP, movement_since=noon)).items:
            print(f"now      {player.rank}. {player.user_id} {player.score}, {player.movement or 0:+} since noon")

        done = await board.void(CUP, cheated.event_id, reason="a speed hack", by="dana")
        await shown(board, done.event_id)
        sent = await board.events(CUP, "cid", limit=2)
        print("cid sent", [(event.delta, event.effect) for event in sent.items])

        async with board.export(CUP) as export:
            print("exported", export.about.players, "players:", [place.user_id async for place in export])

        ended = await board.delete_season(CUP, archive=True)
        print("final   ", line(await final_ranks(board, ended.epoch or 0)))
        print("new     ", line(await board.top(CUP)))


async def shown(board: Leaderboard, event_id: str) -> Event:
    """That event, once it is on the board: after some milliseconds, unless workers are behind."""
    while (await board.top(CUP, limit=1, after=event_id, wait=2000)).pending:
        pass
    return await board.event(CUP, event_id)


async def final_ranks(board: Leaderboard, epoch: int) -> Page[Player]:
    """They are settled in a second or two after the end."""
    while True:
        try:
            return await board.epoch_top(CUP, epoch)
        except LeaderboardError as error:
            if error.code != "epoch_sealing":
                raise
            await asyncio.sleep(error.retry_after_seconds or 1)


def line(page: Page[Player]) -> str:
    return ", ".join(f"{player.rank}. {player.user_id} {player.score}" for player in page.items) or "nobody yet"


asyncio.run(main(*sys.argv[1:]))
