"""A season, a few scores, who leads: `python examples/python.py http://127.0.0.1:8080`."""

from __future__ import annotations

import asyncio
import sys

from leaderboard_client import Leaderboard, Rules, Score


async def main(base_url: str) -> None:
    async with Leaderboard(base_url) as board:
        await board.put_season("lap-times", Rules(aggregation="best", order="asc"))
        await board.submit("lap-times", "ann", 84_012, key="race-7-ann")
        scores = [Score("bob", 83_977), Score("cid", 84_500), Score("", 1)]
        bob, cid, nobody = await board.submit_many("lap-times", scores)
        print(bob.status, cid.status, nobody.error)
        # As soon as that score is on the board: a few milliseconds.
        print(await board.rank("lap-times", "cid", after=cid.event_id or ""))
        print((await board.top("lap-times", limit=3)).items)


asyncio.run(main(*sys.argv[1:]))
