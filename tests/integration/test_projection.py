"""The scripts' fence, case by case: what a board that says X answers to an update that says Y."""

from __future__ import annotations

import pytest

from shared import keys
from shared.projection import Stored, Update
from shared.standings import Standing

NOW = {"timeline": 2, "epoch": 5, "token": 100, "base": 90, "count": 1}


@pytest.fixture
async def board(redis):
    """A board of one player, written by token 100 of epoch 5 on timeline 2."""
    await redis.zadd(keys.board("s"), {"ann": 7})
    await redis.hset(keys.meta("s"), mapping=NOW)


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("timeline", "epoch", "prev", "token", "verdict"),
    [
        (2, 5, 100, 101, "applied"),  # the batch after the one that is shown
        (2, 5, 90, 101, "applied"),  # the one that is shown never committed, and stood on the commit that we stand on
        (2, 5, 99, 101, "behind"),  # the one that is shown stood on an older commit than we do
        (2, 5, 80, 101, "late"),  # it stood on a later one
        (2, 5, 100, 100, "late"),  # the same again
        (2, 5, 90, 99, "late"),
        (2, 4, 100, 101, "late"),  # from before a reset
        (1, 5, 100, 101, "late"),  # from before a fail-over
        (1, 6, 100, 101, "late"),
        (2, 5, 101, 102, "behind"),  # a committed batch is not shown
        (2, 6, 100, 101, "behind"),  # the epoch alone tells
        (3, 5, 100, 101, "behind"),  # the timeline alone tells
        (2, 6, 50, 101, "behind"),  # a reset is not shown, even where an old token ran ahead of its clock
        (2, 6, 50, 60, "behind"),
        (3, 5, 50, 101, "behind"),  # a fail-over is not shown
        (3, 1, 50, 60, "behind"),
    ],
)
async def test_verdicts(projection, redis, timeline, epoch, prev, token, verdict):
    update = Update("s", timeline, epoch, prev, token, [Standing("s", "bob", 9), Standing("s", "ann", None)])
    (answer,) = await projection.apply([update])
    assert answer.verdict == verdict
    players = await redis.zrange(keys.board("s"), 0, -1)
    if verdict == "applied":
        assert players == ["bob"]
        assert answer.stored == Stored(2, 5, token, prev, 1, 1)
    else:
        assert players == ["ann"]
        assert answer.stored == Stored(2, 5, 100, 90, 1, 1)


@pytest.mark.usefixtures("board")
async def test_a_board_whose_players_are_not_those_it_noted_is_behind(projection, redis):
    await redis.zrem(keys.board("s"), "ann")
    (answer,) = await projection.apply([Update("s", 2, 5, 100, 101)])
    assert answer.verdict == "behind"
    assert answer.stored == Stored(2, 5, 100, 90, 1, 0)


async def test_a_board_that_nobody_wrote_is_begun_by_the_first_batch_and_by_no_later_one(projection):
    later, first = (Update("s", 1, 1, prev, 2, [Standing("s", "ann", 5)]) for prev in (1, 0))
    (answer,) = await projection.apply([later])
    assert answer == ("behind", Stored(0, 0, 0, 0, 0, 0))
    (answer,) = await projection.apply([first])
    assert answer == ("applied", Stored(1, 1, 2, 0, 1, 1))


async def test_players_without_a_meta_are_no_board_to_begin_with(projection, redis):
    await redis.zadd(keys.board("s"), {"ghost": 1})
    (answer,) = await projection.apply([Update("s", 1, 1, 0, 2, [Standing("s", "ann", 5)])])
    assert answer.verdict == "behind"


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("changed", range(6))
async def test_a_repair_of_what_is_no_longer_there_is_refused(projection, redis, changed):
    seen = Stored(2, 5, 100, 90, 1, 1)
    seen = seen._replace(**{Stored._fields[changed]: seen[changed] + 1})
    update = Update("s", 2, 5, 90, 200)
    answer = await projection.patch(update, seen, [Standing("s", "ann", 1)])
    assert answer.verdict == "moved"
    await projection.stage(update, [Standing("s", "bob", 1)])
    answer = await projection.swap(update, seen, 1)
    assert answer.verdict == "moved"
    assert await redis.zrange(keys.board("s"), 0, -1, withscores=True) == [["ann", 7.0]]


@pytest.mark.usefixtures("board")
async def test_more_changes_than_a_lua_call_takes(projection, redis):
    standings = [Standing("s", f"u{number}", number) for number in range(20_000)]
    (answer,) = await projection.apply([Update("s", 2, 5, 100, 101, standings)])
    assert answer.stored == Stored(2, 5, 101, 100, 20_001, 20_001)
    gone = [row._replace(score=None) for row in standings]
    (answer,) = await projection.apply([Update("s", 2, 5, 101, 102, gone)])
    assert answer.stored == Stored(2, 5, 102, 101, 1, 1)
    assert await redis.zrange(keys.board("s"), 0, -1) == ["ann"]
