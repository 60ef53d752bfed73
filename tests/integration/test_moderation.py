"""Events voided, players hidden, shown again and erased, against brute force over what was asked for."""

from __future__ import annotations

import random

import pytest
from redis.asyncio import Redis
from season_world import ModeratedWorld, told

from shared import erasure, keys, ledger, moderation, moderation_requests, recounts
from shared.board_entries import TIE_LENGTH
from shared.moderation_requests import Wish
from shared.scores import MAX_SCORE, Rules, Score
from shared.verification import Verification
from worker.upkeep import Audit

RULES = [
    Rules(aggregation, order, windows, tie_break)
    for aggregation, order in (("sum", "desc"), ("best", "asc"), ("latest", "desc"))
    for windows, tie_break in ((False, "member"), (False, "earliest"), (True, "earliest"))
]


@pytest.fixture
async def raw_redis(redis, servers):  # noqa: ARG001 - emptied before
    """A client that does not decode."""
    async with Redis.from_url(servers.redis_url) as client:
        yield client


@pytest.mark.parametrize("rules", RULES, ids=told)
async def test_whatever_is_asked_for_holds_in_the_end(pool, redis, raw_redis, projection, rules, monkeypatch):
    rng = random.Random(told(rules))
    voided = hidden = erased = 0
    for case in range(3):
        monkeypatch.setattr(erasure, "_PART", (10_000, 1, 2)[case])
        world = ModeratedWorld(rng, rules, f"s{case}", pool, redis, projection, raw=raw_redis)
        async with pool.connection() as conn:
            await ledger.create_seasons(conn, [world.season_id], rules)
        steps = [world.score] * 6 + [world.batch] * 3 + [world.moderate] * 3 + [world.fall_back] * 2
        steps += [world.loss, world.reset]
        steps += [world.sweep, world.time] if rules.windows else []
        for _ in range(rng.randint(5, 60)):
            await rng.choice(steps)()
        await world.settle()
        while rules.windows and any((await world.settle())[1:]):
            await world.time()
        verification = Verification(pool, projection, repair=False, patience_seconds=5)
        (report,) = [report async for report in verification.run([world.season_id])]
        assert report.equal, report
        async with pool.connection() as conn:
            cursor = await conn.execute("select count(*) from outbox where status in ('pending', 'failed')")
            assert await cursor.fetchone() == (0,)
        voided, erased = voided + len(world.voided), erased + len(world.erased)
        hidden += len(world.hidden)
    assert min(voided, hidden, erased) > 0


@pytest.fixture
def ask(pool):
    """Ask for moderation in season s; returns the event's id."""

    async def ask_now(action, about, reason="a test"):
        async with pool.connection() as conn:
            wish = Wish("test", "me", reason)
            if action == "void":
                asked, _ = await moderation_requests.ask_to_void(conn, "s", about, wish)
                return asked
            return await moderation_requests.ask_for(conn, action, "s", about, wish)

    return ask_now


@pytest.fixture
def rows(pool):
    async def ask_now(query):
        async with pool.connection() as conn:
            return await (await conn.execute(query)).fetchall()

    return ask_now


async def ids_of(rows, user_id):
    return [row[0] for row in await rows(f"select id from score_events where user_id = '{user_id}' order by id")]


async def test_a_board_that_falls_back_to_before_an_erasure_is_built_anew(
    add, drain, ask, pool, projection, redis, raw_redis
):
    """No tombstone tells a patch to take the player away."""
    await add(("s", "ann", 5), ("s", "bob", 1))
    await drain()
    names = keys.meta("s"), keys.board("s")
    before = [await raw_redis.dump(name) for name in names]
    await ask("erase", "ann")
    await drain()
    assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]
    for name, kept in zip(names, before, strict=True):
        await raw_redis.restore(name, 0, kept, replace=True)
    await Audit(pool, projection).run()
    assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]


@pytest.mark.parametrize("loss", ["wiped", "fell back"])
@pytest.mark.parametrize("action", ["hide", "erase", "void"])
async def test_a_board_that_the_batch_which_moderates_finds_lost_is_built_as_it_is_then(
    add, drain, ask, pool, projection, redis, raw_redis, rows, loss, action
):
    await add(("s", "ann", 5), ("s", "bob", 1))
    await drain()
    names = keys.meta("s"), keys.board("s")
    before = [await raw_redis.dump(name) for name in names]
    await add(("s", "bob", 1))
    await drain()
    for name, kept in zip(names, before, strict=True):
        await redis.delete(name)
        if loss == "fell back":
            await raw_redis.restore(name, 0, kept)
    await ask(action, (await ids_of(rows, "ann"))[0] if action == "void" else "ann")
    await drain()
    assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]
    await Audit(pool, projection).run()
    assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]


async def test_after_an_erasure_nothing_names_the_player(add, drain, ask, pool, rows, redis):
    name = "the-one-to-be-forgotten"
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], Rules("sum", windows=True, tie_break="earliest"))
        await ledger.append(conn, [Score("s", name, 5, "key-1"), Score("s", "bob", 1, "key-2")])
    await drain()
    await ask("hide", name)
    await drain()
    await add(("s", name, 7))
    (first, *_) = await ids_of(rows, name)
    await ask("void", first)
    await ask("erase", name)
    await drain()
    tables = await rows("select tablename from pg_tables where schemaname = 'public'")
    for (table,) in tables:
        assert await rows(f"select t from {table} as t where t::text like '%{name}%'") == []
    for key in await redis.keys("*"):
        kind = await redis.type(key)
        held = await (redis.hgetall(key) if kind == "hash" else redis.zrange(key, 0, -1))
        assert name not in str(held)
    assert await rows("select count(*) from idempotency_keys") == [(1,)]
    assert await rows("select action, effect from moderations order by id") == [
        ("hide", "hidden"),
        ("void", "voided"),
        ("erase", "erased, scores: 2"),
    ]
    await add(("s", name, 3))
    await drain()
    assert [member[TIE_LENGTH:] for member in await redis.zrange(keys.board("s"), 0, -1)] == ["bob", name]


async def test_an_event_in_the_hands_of_another_batch_is_waited_for(add, drain, ask, applier, pool, rows, truth):
    await add(("s", "ann", 5), ("s", "ann", 2))
    first, _ = await ids_of(rows, "ann")
    asked = [await ask("void", first), await ask("erase", "ann")]
    async with pool.connection() as other, other.transaction():
        await other.execute("select from outbox where id = %s for update", (first,))
        assert (await applier.apply(floor=0, paused=[])).events == 1
        assert await rows("select id from outbox where status = 'pending' order by id") == [(first,), *zip(asked)]
    await drain()
    assert await truth() == {}
    assert await rows("select count(*) from score_events") == [(0,)]


async def test_a_pending_event_is_voided_before_it_counts(add, drain, ask, rows, truth):
    """Not even claimed: it was paused, and its void is not."""
    await add(("s", "ann", 5), ("s", "bob", 1))
    (event_id,) = await ids_of(rows, "ann")
    await rows(f"update outbox set status = 'failed' where id = {event_id} returning id")
    await ask("void", event_id)
    await drain()
    assert await truth() == {"s": {"bob": 1}}
    assert await rows(f"select status from outbox where id = {event_id}") == [("discarded",)]


async def test_a_score_that_is_committed_while_its_player_is_erased_stays(
    add, drain, ask, pool, rows, truth, monkeypatch
):
    """Its number was drawn before the wish: it is in the ledger and counts, as any that comes later."""
    await add(("s", "ann", 5, "before"), ("s", "bob", 1))
    await drain()
    async with pool.connection() as late:
        await late.set_autocommit(False)
        await ledger.append(late, [Score("s", "ann", 7, "meanwhile")])
        await ask("erase", "ann")
        count = erasure._count

        async def count_and_commit(*asked):
            await late.commit()  # behind the look at what there is
            return await count(*asked)

        monkeypatch.setattr(erasure, "_count", count_and_commit)
        await drain()
        await late.set_autocommit(True)
    assert await truth() == {"s": {"ann": 7, "bob": 1}}
    assert await rows("select key from idempotency_keys") == [("meanwhile",)]


async def test_voids_of_one_player_count_that_player_once(add, drain, ask, rows, truth, monkeypatch):
    counted = []

    async def recount(conn, season_id, rules, user_id):
        counted.append(user_id)
        return await recount_once(conn, season_id, rules, user_id)

    recount_once = recounts.recount
    monkeypatch.setattr(recounts, "recount", recount)
    await add(*[("s", "ann", 1)] * 20, ("s", "bob", 1))
    await drain()
    for event_id in (await ids_of(rows, "ann"))[5:]:
        await ask("void", event_id)
    await drain()
    assert (counted, await truth()) == (["ann"], {"s": {"ann": 5, "bob": 1}})


async def test_what_takes_long_is_left_to_the_next_batch(add, applier, ask, rows, truth, monkeypatch):
    monkeypatch.setattr(moderation, "_LONG_SECONDS", 0.0)
    await add(("s", "ann", 1), ("s", "bob", 1), ("s", "cid", 1))
    for user_id in ("ann", "bob"):
        await ask("void", (await ids_of(rows, user_id))[0])
    await ask("hide", "cid")
    done = [(await applier.apply(floor=0, paused=[])).events for _ in range(4)]
    assert (done, await truth()) == ([4, 1, 1, 0], {})
    assert await rows("select effect from moderations order by id") == [("voided",), ("voided",), ("hidden",)]


async def test_erasing_a_player_of_large_batches_looks_at_each_key_once(drain, ask, pool, rows, monkeypatch):
    monkeypatch.setattr(erasure, "_PART", 10_000)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        for number in range(2):
            await ledger.append(conn, [Score("s", "ann", 1, f"k{number}-{one}") for one in range(5000)])
        await ledger.append(conn, [Score("s", "bob", 1, "kept")])
    await drain()
    async with pool.connection() as conn:
        asked = {"season_id": "s", "user_id": "ann", "scores": await sent(conn)}
        await conn.execute("set enable_bitmapscan = on")
        async with conn.transaction(force_rollback=True):
            plan = await (await conn.execute("explain (analyze, format json) " + erasure._KEYS, asked)).fetchone()
        await conn.execute("reset enable_bitmapscan")
    assert max(rows_read(plan[0][0]["Plan"])) < 100_000
    await ask("erase", "ann")
    await drain()
    assert await rows("select key from idempotency_keys") == [("kept",)]


async def sent(conn):
    return [
        row[0] for row in await (await conn.execute("select id from score_events where user_id = 'ann'")).fetchall()
    ]


def rows_read(node):
    """Of each node of a plan, how many rows it made in all its loops, or left out."""
    yield node["Actual Rows"] * node["Actual Loops"]
    yield node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
    yield node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
    for below in node.get("Plans", ()):
        yield from rows_read(below)


async def test_a_void_that_the_database_refuses_fails_alone(add, drain, ask, rows):
    await add(("s", "ann", MAX_SCORE), ("s", "ann", -10), ("s", "bob", 1))
    await drain()
    await add(("s", "ann", 5))
    _, taken_away = (await ids_of(rows, "ann"))[:2]
    await drain()
    await ask("void", taken_away)
    await ask("hide", "bob")
    await drain()
    assert await rows("select event_type, last_error like '%score_check%' from outbox where status = 'failed'") == [
        ("void", True)
    ]
    assert await rows("select action, effect from moderations order by id") == [("void", None), ("hide", "hidden")]
    assert await rows("select count(*) from score_events where voided_at is not null") == [(0,)]
