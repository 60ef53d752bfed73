"""The Python client where answers are lost on their way: what it sends again counts once."""

from __future__ import annotations

import asyncio

import pytest

import leaderboard_client
from faults.proxy import Proxy
from leaderboard_client import Leaderboard, Score


@pytest.fixture
async def proxy(http):
    async with Proxy((http.base_url.host, http.base_url.port)) as found:
        yield found


def through(proxy, **options):
    return Leaderboard(f"http://127.0.0.1:{proxy.port}", **options)


async def test_a_score_counts_once_though_its_answer_was_lost(proxy, drain, truth):
    async with through(proxy) as board:
        await asyncio.gather(proxy.lose_replies(1, b"/scores"), board.add("s", "ann", 5))
        await asyncio.gather(proxy.lose_replies(3, b"/scores"), board.submit("best", "ann", 5))
    await drain()
    assert await truth() == {"s": {"ann": 5}, "best": {"ann": 5}}


async def test_many_scores_count_once_though_their_answer_was_lost(proxy, drain, truth):
    scores = [Score(f"u{number}", 1) for number in range(10)]
    async with through(proxy) as board:
        _, results = await asyncio.gather(proxy.lose_replies(1, b"/scores/batch"), board.add_many("s", scores))
    assert [one.status for one in results] == ["replayed"] * 10
    await drain()
    assert await truth() == {"s": {score.user_id: 1 for score in scores}}


async def test_an_answer_that_does_not_come_in_time_is_asked_for_again(proxy, drain, truth, monkeypatch):
    async def heal(_seconds):
        proxy.heal()

    monkeypatch.setattr(leaderboard_client, "sleep", heal)
    proxy.hold()
    async with through(proxy, timeout_seconds=0.2) as board:
        await board.add("s", "ann", 5)
    await drain()
    assert await truth() == {"s": {"ann": 5}}
