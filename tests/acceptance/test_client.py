"""The Python client and the processes of `leaderboard run`, some of which are killed under its requests."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from leaderboard_client import Leaderboard, Rules, Score

PLAYERS = 10
TURNS = 20


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


async def test_what_is_posted_stands_on_the_board(stack, until):
    async with Leaderboard(stack.url) as board:
        await board.put_season("laps", Rules(aggregation="best", order="asc", metadata={"laps": 5}))
        await board.submit("laps", "ann", 84_012)
        results = await board.submit_many("laps", [Score("bob", 83_977), Score("cid", 84_500)])
        assert [result.status for result in results] == ["queued", "queued"]
        until(lambda: len(stack.board("laps")) == 3, "all on the board")
        assert [player.user_id for player in (await board.top("laps")).items] == ["bob", "ann", "cid"]
        assert (await board.rank("laps", "cid")).rank == 3
        stored = await board.submit("laps", "cid", 83_000, wait=2000)  # how soon it is there, says the machine
        assert stored.queued or stored.rank == 1
        top = await board.top("laps", after=stored.event_id, wait=2000)
        assert top.pending or top.items[0].user_id == "cid"
        assert (await board.close_season("laps")).players == 3


@pytest.mark.parametrize("victim", ["api child", "api", "postgres"])
async def test_every_score_counts_once_though_processes_are_killed(stack, until, victim):
    """None of the scores is refused or told as an error, and none counts twice."""
    season = f"kill-{victim.replace(' ', '-')}"
    until(lambda: stack.ready() and stack.parts(victim), f"a {victim}")

    async def play(board, number):
        for turn in range(TURNS):
            if (number, turn) == (0, TURNS // 2):
                kill(stack.parts(victim))
            await board.add(season, f"u{number}", 1)

    async with Leaderboard(stack.url, attempts=20) as board, asyncio.TaskGroup() as players:
        for number in range(PLAYERS):
            players.create_task(play(board, number))
    everyone = {f"u{number}": TURNS for number in range(PLAYERS)}
    until(lambda: stack.board(season) == everyone, "every score is on the board, once")
