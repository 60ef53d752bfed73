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

    monkeypatch.setattr(leaderboard_client.connection, "sleep", heal)
    proxy.hold()
    async with through(proxy, timeout_seconds=0.2) as board:
        await board.add("s", "ann", 5)
    await drain()
    assert await truth() == {"s": {"ann": 5}}


async def test_what_operators_do_has_its_effect_once_though_answers_were_lost(proxy, drain):
    async with through(proxy) as board:
        stored = await board.add("s", "ann", 5)
        await board.add_many("s", [Score("ann", 2), Score("bob", 3), Score("cid", 4)])
        await drain()
        why = {"reason": "a test"}
        await asyncio.gather(proxy.lose_replies(1, b"/void"), board.void("s", stored.event_id, **why))
        await asyncio.gather(proxy.lose_replies(1, b"/hide"), board.hide("s", "bob", **why))
        await asyncio.gather(proxy.lose_replies(1, b"/users/cid"), board.erase("s", "cid", **why))
        await drain()
        assert [player.user_id for player in (await board.top("s")).items] == ["ann"]
        assert (await board.rank("s", "ann")).score == 2
        audit = (await board.moderations("s")).items
    assert [one.action for one in audit] == ["erase"] * 2 + ["hide"] * 2 + ["void"] * 2
    assert {one.state for one in audit} == {"done"}


async def test_an_epoch_is_archived_once_though_the_answer_was_lost(proxy):
    async with through(proxy) as board:
        await board.add("s", "ann", 5)
        _, ended = await asyncio.gather(proxy.lose_replies(2, b"DELETE"), board.delete_season("s", archive=True))
        assert (ended.epoch, ended.archived) == (1, True)
        assert (await board.season("s")).epoch == 2
