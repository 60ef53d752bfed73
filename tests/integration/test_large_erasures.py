"""A player whose history is erased in several parts: on no board from the first one on, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import pytest
from conftest import CrashError, crashing_at
from season_calls import SEASON, post, top
from season_world import told
from window_calls import expected_boards, shown_boards

from shared import erasing, erasure, keys, ledger, moderation_requests, overflows
from shared.moderation_requests import Wish
from shared.scores import MAX_SCORE, PLAIN, Rules, Score
from shared.setback_runs import Outcome, discard_all, discard_named, retry_all
from shared.verification import Verification
from worker.app import snapshot_connection
from worker.batch import STEPS, BatchApplier
from worker.sealer import Sealer
from worker.snapshots import Snapshots
from worker.upkeep import Audit

PART = 3
NAME = "the-one-to-be-forgotten"
RULES = [PLAIN, Rules("best", windows=True, tie_break="earliest"), Rules("latest", "asc")]
BEGUN = "select effect from moderations where action = 'erase'"
PENDING = "select event_type from outbox where status = 'pending'"
WHY = {"reason": "a test"}


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    monkeypatch.setattr(erasure, "_PART", PART)


@pytest.fixture
def rows(pool):
    async def ask_now(query):
        async with pool.connection() as conn:
            return await (await conn.execute(query)).fetchall()

    return ask_now


@pytest.fixture
def ask(pool):
    async def ask_now(action, user_id, season_id="s"):
        async with pool.connection() as conn:
            return await moderation_requests.ask_for(conn, action, season_id, user_id, Wish("test", None, "a test"))

    return ask_now


@pytest.fixture
def part(applier):
    """One batch; who is erased in parts is no event of it."""

    async def apply():
        return (await applier.apply(floor=0, paused=[])).events

    return apply


@pytest.fixture
def finish(applier, rows):
    async def apply():
        while await rows(PENDING):
            await applier.apply(floor=0, paused=[])

    return apply


async def played(pool, drain, rules=PLAIN):
    """Somebody has eleven scores, with keys, and Bob one."""
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], rules)
        absolute = rules.aggregation != "sum"
        scores = [Score("s", NAME, number, f"k{number}", absolute=absolute) for number in range(1, 12)]
        await ledger.append(conn, [*scores, Score("s", "bob", 2, "kept", absolute=absolute)])
    await drain()


@pytest.mark.parametrize("rules", RULES, ids=told)
async def test_from_the_first_part_on_the_player_is_nowhere_and_nobody_else_loses_anything(
    drain, ask, part, pool, projection, redis, rows, rules
):
    await played(pool, drain, rules)
    asked = await ask("erase", NAME)
    told, floors = [], set()

    async def compared(*, repair):
        verification = Verification(pool, projection, repair=repair, patience_seconds=5)
        (report,) = [report async for report in verification.run(["s"])]
        return report.equal, report.repaired

    async def shown():
        async with pool.connection() as conn:
            return str(await shown_boards(conn, redis, "s"))

    for number in range(3):
        assert await part() == (2 if number else 0)
        told += await rows(BEGUN)
        floors.update(await rows("select patch_floor from seasons"))
        assert await rows(f"select count(*) from score_events where id < {asked}") == [(12 - PART * len(told),)]
        for repair in (False, True):
            assert await compared(repair=repair) == (True, 0)
            assert NAME not in await shown()
        await redis.flushall()
        await Audit(pool, projection).run()
        assert NAME not in await shown()
        async with pool.connection() as conn:
            absolute = rules.aggregation != "sum"
            again = [Score("s", NAME, 20 + number, absolute=absolute), Score("s", "bob", 1, absolute=absolute)]
            await ledger.append(conn, again)
        assert await rows("select count(*) from standings where score is not null") == [(1,)]
    assert len(floors) == 3, "sealing and snapshots begin anew"
    while await rows(PENDING):
        await part()
    told += await rows(BEGUN)
    assert [effect for (effect,) in told] == [
        *(f"being erased, scores: {PART * number}" for number in (1, 2, 3)),
        "erased, scores: 11",
    ]
    async with pool.connection() as conn:
        expected = await expected_boards(conn, "s")
        assert await shown_boards(conn, redis, "s") == expected
    assert NAME in str(expected)
    assert await compared(repair=False) == (True, 0)
    assert await rows("select key from idempotency_keys") == [("kept",)]
    assert await rows("select count(*) from score_events where user_id <> 'bob'") == [(3,)]
    assert await rows("select from hidden_players") == []


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_dies_at_any_step_of_each_part_leaves_it_to_the_next_one(
    drain, ask, part, pool, projection, redis, rows, step
):
    await played(pool, drain)
    await ask("erase", NAME)
    while await rows(PENDING):
        with contextlib.suppress(CrashError):
            await BatchApplier(pool, projection, 500, crashing_at(step)).apply(floor=0, paused=[])
        await part()
        assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]
    for (table,) in await rows("select tablename from pg_tables where schemaname = 'public'"):
        assert await rows(f"select t from {table} as t where t::text like '%{NAME}%'") == []
    assert await rows(BEGUN) == [("erased, scores: 11",)]


async def test_who_is_being_erased_is_not_shown_again_meanwhile(drain, ask, part, finish, pool, redis, rows):
    await played(pool, drain)
    await ask("hide", NAME)
    await drain()
    asked = await ask("erase", NAME)
    await part()
    await ask("unhide", NAME)
    async with pool.connection() as conn:
        await ledger.append(conn, [Score("s", NAME, 5), Score("s", NAME, 7)])
        ((event_id,),) = await rows("select id from score_events where delta = 5 order by id desc limit 1")
        await moderation_requests.ask_to_void(conn, "s", event_id, Wish("test", None, "a test"))
    async with pool.connection() as other, other.transaction():
        await other.execute("select from outbox where id = %s for update", (asked,))  # as the batch of another lane
        assert await part() == 4
    assert await rows("select action, effect from moderations where action <> 'erase' order by id") == [
        ("hide", "hidden"),
        ("unhide", "shown"),
        ("void", "voided"),
    ]
    assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]
    await finish()
    assert await redis.zrange(keys.board("s"), 0, -1, withscores=True) == [["bob", 2], [NAME, 7]]
    await ask("erase", NAME)
    await ask("hide", NAME)
    await finish()
    assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]
    assert await rows("select user_id from hidden_players") == [(NAME,)]


async def test_a_score_committed_between_two_parts_is_erased_although_it_was_folded(
    drain, ask, part, finish, pool, truth
):
    """Its number was drawn before the wish."""
    await played(pool, drain)
    async with pool.connection() as late:
        await late.set_autocommit(False)
        await ledger.append(late, [Score("s", NAME, 100), Score("s", "bob", 1)])
        asked = await ask("erase", NAME)
        await part()
        await late.commit()
        await late.set_autocommit(True)
    async with pool.connection() as other, other.transaction():
        await other.execute("select from outbox where id = %s for update", (asked,))
        assert await part() == 2
    await finish()
    assert await truth() == {"s": {"bob": 3}}


async def test_neither_boards_of_the_past_nor_events_tell_of_who_is_being_erased(
    http, pool, settings, drain, part, finish, rows
):
    for user_id, delta in ((NAME, 5), ("bob", 4), *[(NAME, 1)] * 7):
        await post(http, user_id, delta=delta)
    await drain()
    await Snapshots(pool, snapshot_connection(settings), 2, lambda _step: None).run()
    assert await rows("select count(*) from snapshots") != [(0,)]
    ((now,),) = await rows("select clock_timestamp()")

    async def then():
        asked = {"asOf": now.astimezone(dt.UTC).isoformat()}
        response = await http.get(f"{SEASON}/leaderboard/top", params=asked)
        return [(item["userId"], item["score"]) for item in response.json()["items"]]

    assert await then() == [(NAME, 12), ("bob", 4)]
    assert (await http.delete(f"{SEASON}/users/{NAME}", params=WHY)).status_code == 202
    await post(http, NAME, delta=1)
    ((later,),) = await rows(f"select max(id) from score_events where user_id = '{NAME}'")
    await part()
    assert (await then(), await top(http)) == ([("bob", 4)], [("bob", 4)])
    told = (await http.get(f"{SEASON}/users/{NAME}/events")).json()["items"]
    assert [event["eventId"] for event in told] == [str(later)]
    left = await rows(f"select id from score_events where user_id = '{NAME}' and id < {later}")
    found = [await http.get(f"{SEASON}/events/{event_id}") for (event_id,) in (*left, (later,))]
    assert [answer.status_code for answer in found] == [404] * 5 + [200]
    audit = (await http.get(f"{SEASON}/moderations")).json()["items"][0]
    assert (audit["state"], audit["effect"], audit["appliedAt"]) == ("pending", f"being erased, scores: {PART}", None)
    written = "select snapshot_id, xmin::text from snapshots order by snapshot_id"
    before = await rows(written)
    await part()
    assert await rows(written) == before, "by the first part, not by each"
    await Snapshots(pool, snapshot_connection(settings), 1, lambda _step: None).run()
    assert await then() == [("bob", 4)]
    await finish()
    assert await rows(f"select from snapshots where '{NAME}' = any(unsettled)") == await rows("select from snapshots")
    assert await then() == [("bob", 4)]
    assert await top(http) == [("bob", 4), (NAME, 1)]


async def test_final_ranks_wait_for_an_erasure_that_has_begun(http, pool, drain, part, finish, rows):
    """Asked for in the epoch before: what the player sent in this one must not be missing."""
    for _ in range(7):
        await post(http, NAME, delta=1)
    await drain()
    assert (await http.delete(f"{SEASON}/users/{NAME}", params=WHY)).status_code == 202
    await http.delete(SEASON)
    await post(http, NAME, delta=4)
    await post(http, "bob", delta=1)
    await part()
    await http.delete(f"{SEASON}?archive=true")
    sealer = Sealer(pool, pool, lambda _step: None)
    reached = []
    waiting = Sealer(pool, pool, reached.append)
    while "seal_claimed" not in reached:
        await waiting.run()
    assert await rows("select count(*) from final_ranks") == [(0,)]
    await finish()
    while await rows("select from season_epochs where archived and sealed_at is null"):
        await sealer.run()
    assert await rows("select rank, user_id, score from final_ranks order by rank") == [(1, NAME, 4), (2, "bob", 1)]


async def test_an_erasure_that_failed_in_between_goes_on_and_is_not_given_up(
    drain, ask, part, finish, pool, projection, redis, rows
):
    await played(pool, drain)
    asked = await ask("erase", NAME)
    await part()
    async with pool.connection() as conn:
        await conn.execute(
            "create function refuse() returns trigger language plpgsql as"
            " $$ begin raise query_canceled using message = 'took too long'; end $$"
        )
        await conn.execute("create trigger slow before delete on score_events execute function refuse()")
        await part()
        await conn.execute("drop trigger slow on score_events")
    assert await rows("select id, last_error like 'took too long%' from outbox where status = 'failed'") == [
        (asked, True)
    ]
    assert await redis.zrange(keys.board("s"), 0, -1) == ["bob"]
    named, every = Outcome(), Outcome()
    await discard_named(pool, projection, [asked], named)
    await discard_all(pool, projection, "s", every)
    assert (named.changed, every.changed, list(every.left)) == ([], [], [asked])
    assert named.refused == {asked: f"event {asked} erases a player, and has erased a part already: retry it"}
    async with pool.connection() as conn:
        await retry_all(conn, "s", Outcome())
    await finish()
    assert await rows(BEGUN) == [("erased, scores: 11",)]
    assert await rows("select from hidden_players") == []


async def test_who_gives_up_an_erasure_while_its_first_part_is_erased_comes_too_late(
    drain, ask, finish, pool, patient_pool, projection, rows, eventually
):
    await played(pool, drain)
    asked = await ask("erase", NAME)
    outcome = Outcome()
    batches = BatchApplier(patient_pool, projection, 500, lambda _step: None)
    waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' offset %s"
    async with asyncio.TaskGroup() as tasks, pool.connection() as other, other.transaction():
        await other.execute("select from seasons where season_id = 's' for update")
        tasks.create_task(batches.apply(floor=0, paused=[]))
        await eventually(waiting % 0)
        tasks.create_task(discard_named(patient_pool, projection, [asked], outcome))
        await eventually(waiting % 1)
    assert outcome.changed == []
    assert outcome.refused == {asked: f"event {asked} erases a player, and has erased a part already: retry it"}
    await finish()
    assert await rows(BEGUN) == [("erased, scores: 11",)]


@pytest.mark.parametrize("batch_size", [1, 3])
async def test_erasures_that_fill_batches_and_must_wait_do_not_keep_others_from_their_boards(
    add, drain, ask, pool, projection, rows, truth, batch_size
):
    players = [f"player-{number}" for number in range(7)]
    await add(*[("s", user_id, 1) for user_id in players])
    await drain()
    for user_id in players:
        await ask("erase", user_id)
    applier = BatchApplier(pool, projection, batch_size, lambda _step: None)

    async def apply_until(query):
        while await rows(query):
            await applier.apply(floor=0, paused=[])

    async with pool.connection() as sealing, sealing.transaction():
        await sealing.execute(f"select {erasing.KEEPS_OFF}", ("s",))
        for number in range(4):
            await add(("s", "bob", 1), ("t", "bob", number + 1))
            await apply_until("select from outbox where status = 'pending' and event_type = 'score'")
        assert await rows("select count(*) from outbox where status = 'pending'") == [(7,)]
    await apply_until(PENDING)
    assert await truth() == {"s": {"bob": 4}, "t": {"bob": 10}}


@pytest.mark.parametrize("rules", [Rules(), Rules(windows=True), Rules(tie_break="earliest")], ids=told)
async def test_what_fitted_only_because_a_part_took_the_standing_away_does_not_keep_the_erasure_from_its_end(
    drain, ask, part, finish, pool, projection, rows, truth, rules
):
    """Each of two scores of later was folded onto nothing."""
    await played(pool, drain, rules)
    await ask("erase", NAME)
    for delta in (3, MAX_SCORE - 3, 1):
        await part()
        async with pool.connection() as conn:
            await ledger.append(conn, [Score("s", NAME, delta)])
    await finish()
    assert await rows(BEGUN) == [("erased, scores: 11",)]
    assert await truth() == {"s": {"bob": 2, NAME: MAX_SCORE}}
    assert await rows("select status, last_error from outbox where status <> 'done'") == [
        ("discarded", overflows.REASON)
    ]
    assert await rows("select delta from score_events where discarded_at is not null") == [(1,)]
    verification = Verification(pool, projection, repair=False, patience_seconds=5)
    assert [report.equal async for report in verification.run(["s"])] == [True]


async def test_the_later_of_two_wishes_ends_both_and_nothing_tells_of_whom_they_were(
    drain, ask, part, finish, pool, rows
):
    await played(pool, drain)
    first = await ask("erase", NAME)
    ((event_id,),) = await rows(f"select max(id) from score_events where user_id = '{NAME}'")
    async with pool.connection() as conn:
        await moderation_requests.ask_to_void(conn, "s", event_id, Wish("test", None, "a test"))
    await part()
    await ask("erase", NAME)
    async with pool.connection() as other, other.transaction():
        await other.execute("update outbox set status = 'failed' where id = %s", (first,))
    await finish()
    audit = "select action, user_id, effect, applied_at is not null from moderations order by id"
    assert await rows(audit) == [
        ("erase", None, "erased, scores: 3", True),
        ("void", None, "voided", True),
        ("erase", None, "erased, scores: 8", True),
    ]
    assert await rows(f"select event_type from outbox where user_id = '{NAME}' or status <> 'done'") == []
