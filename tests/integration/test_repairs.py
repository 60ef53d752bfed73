"""What Redis lost comes back: wiped, keys or players lost, rolled back to an old copy; patched or rebuilt."""

from __future__ import annotations

import pytest

from shared import keys
from shared.projection import Projection, Stored, Update
from shared.reconciliation import SeasonsUnreachableError, rebuild
from shared.scores import PLAIN
from shared.standings import Standing
from worker.upkeep import Audit


async def wipe(redis, _copies):
    await redis.flushall()


async def delete_board(redis, _copies):
    await redis.delete(keys.board("s"))


async def delete_meta(redis, _copies):
    await redis.delete(keys.meta("s"))


async def remove_players(redis, _copies):
    await redis.zrem(keys.board("s"), "ann", "cid")


async def restore_old_copy(redis, copies):
    for key, copy in copies.items():
        await redis.restore(key, 0, copy, replace=True)


@pytest.mark.parametrize("damage", [wipe, delete_board, delete_meta, remove_players, restore_old_copy])
@pytest.mark.parametrize("then", ["audit", "batch"])
async def test_what_redis_lost_comes_back(add, drain, pool, projection, redis, servers, truth, damage, then):
    """Noticed by the audit without a new score, and by the next batch without an audit."""
    raw = redis.from_url(servers.redis_url)
    await add(("s", "ann", 5), ("s", "bob", 7), ("other", "ann", 1))
    await drain()
    copies = {key: await raw.dump(key) for key in (keys.board("s"), keys.meta("s"))}
    await raw.aclose()
    await add(("s", "ann", 1), ("s", "cid", 2))
    await drain()
    await damage(redis if damage is not restore_old_copy else (raw := redis.from_url(servers.redis_url)), copies)
    await raw.aclose()
    expected = {"s": {"ann": 6, "bob": 7, "cid": 2}, "other": {"ann": 1}}
    if then == "audit":
        await Audit(pool, projection).run()
    else:
        await add(("s", "dan", 3), ("other", "dan", 3))
        await drain()
        expected["s"]["dan"] = expected["other"]["dan"] = 3
    assert await truth() == expected


async def test_an_audit_goes_on_behind_seasons_that_it_cannot_repair(add, drain, pool, projection, redis):
    await add(*((season_id, "ann", 5) for season_id in ("a-deposed", "b-broken", "c-lost")))
    await drain()
    await redis.hincrby(keys.meta("a-deposed"), "timeline", 1)
    await redis.set(keys.meta("b-broken"), "not a hash")
    await redis.delete(keys.board("c-lost"))
    with pytest.raises(SeasonsUnreachableError):
        await Audit(pool, projection).run()
    assert await redis.zscore(keys.board("c-lost"), "ann") == 5


async def test_an_old_copy_is_patched_not_rebuilt(add, drain, pool, projection, redis, servers, truth, monkeypatch):
    raw = redis.from_url(servers.redis_url)
    await add(*(("s", f"u{number}", number + 1) for number in range(100)))
    await drain()
    copies = {key: await raw.dump(key) for key in (keys.board("s"), keys.meta("s"))}
    await add(("s", "u1", 5))
    await drain()
    await restore_old_copy(raw, copies)
    await raw.aclose()

    async def no_rebuild(*_args):
        pytest.fail("rebuilt")

    monkeypatch.setattr(projection, "swap", no_rebuild)
    await Audit(pool, projection).run()
    assert (await truth())["s"]["u1"] == 7


async def test_a_board_larger_than_a_patch_is_rebuilt_whole(add, drain, pool, projection, redis, truth):
    await add(*(("s", f"u{number}", number + 1) for number in range(6000)))
    await drain()
    await redis.hset(keys.meta("s"), "token", 1)
    await Audit(pool, projection).run()
    assert len((await truth())["s"]) == 6000
    assert await redis.ttl(keys.board("s")) == -1
    assert await redis.keys("*staging*") == []


async def test_a_repair_starts_over_when_the_board_changed_meanwhile(add, drain, pool, redis, truth):
    """Between the report and the swap another process wrote: the swap must not undo that."""

    class Interfered(Projection):
        async def swap(self, update, seen, staged):
            if not await redis.exists("interfered"):
                await redis.set("interfered", 1)
                await redis.zadd(keys.board("s"), {"intruder": 1})
            return await super().swap(update, seen, staged)

    await add(("s", "ann", 5))
    await drain()
    await redis.delete(keys.meta("s"))
    await Audit(pool, Interfered(redis)).run()
    assert await redis.exists("interfered")
    assert await truth() == {"s": {"ann": 5}}


async def test_a_lost_staged_board_is_never_swapped_in(projection, redis):
    update = Update("s", 1, 1, 0, 10)
    assert await projection.stage(update, [Standing("s", "ann", 1), Standing("s", "bob", 2)]) == 2
    (staged,) = keys.shown("s", PLAIN, 10)
    await redis.zrem(staged, "bob")
    answer = await projection.swap(update, Stored(0, 0, 0, 0, 0, 0), 2)
    assert answer.verdict == "moved"
    assert not await redis.exists(keys.board("s"))


async def test_a_board_that_outlived_its_seasons_first_commit_is_emptied(add, pool, projection, redis, truth):
    """A fail-over took the season's first batches; its row is as new, its board is not."""
    await add(("s", "ann", 5))
    async with pool.connection() as conn:
        await conn.execute("truncate outbox, score_events")
    await redis.zadd(keys.board("s"), {"ghost": 10})
    await redis.hset(keys.meta("s"), mapping={"timeline": 0, "epoch": 1, "token": 100, "base": 90, "count": 1})
    await Audit(pool, projection).run()
    assert await truth() == {}


async def test_a_season_that_nobody_has_shown_yet_is_left_to_its_first_batch(add, pool, projection, drain, truth):
    await add(("s", "ann", 5))
    await Audit(pool, projection).run()
    async with pool.connection() as conn:
        assert await (await conn.execute("select token from seasons")).fetchone() == (0,)
    await drain()
    assert await truth() == {"s": {"ann": 5}}


async def test_a_board_is_built_anew_whatever_it_says_of_itself(add, drain, pool, projection, redis, truth):
    """Right or wrong in itself, ahead of the clock, from a later timeline, or not there."""
    await add(*(("s", f"u{number}", number + 1) for number in range(6000)))
    await drain()
    token = int(await redis.hget(keys.meta("s"), "token"))
    for said in ({}, {"token": token + 86_400_000_000}, {"timeline": 99}, {"epoch": 99}, {"count": 0}):
        await redis.zadd(keys.board("s"), {"u1": 77})
        if said:
            await redis.hset(keys.meta("s"), mapping=said)
        told = []
        assert await rebuild(pool, projection, "s", told.append) == 6000
        assert told == [5000, 6000]
        # Past what a batch that never committed may still send.
        assert int(await redis.hget(keys.meta("s"), "token")) > said.get("token", token)
        assert (await truth())["s"]["u1"] == 2
    await redis.flushall()
    assert await rebuild(pool, projection, "s", lambda _staged: None) == 6000
    await add(("s", "u1", 1))
    await drain()
    assert (await truth())["s"]["u1"] == 3
    assert await redis.keys("*staging*") == []
    assert await rebuild(pool, projection, "unknown", lambda _staged: None) == 0


async def test_a_board_built_anew_does_not_undo_what_came_in_between(add, drain, pool, redis, truth):
    class Interfered(Projection):
        async def swap(self, update, seen, staged):
            if not await redis.exists("interfered"):
                await redis.set("interfered", 1)
                await redis.hincrby(keys.meta("s"), "token", 1)
            return await super().swap(update, seen, staged)

    await add(("s", "ann", 5))
    await drain()
    assert await rebuild(pool, Interfered(redis), "s", lambda _staged: None) == 1
    assert await redis.exists("interfered")
    assert await truth() == {"s": {"ann": 5}}
