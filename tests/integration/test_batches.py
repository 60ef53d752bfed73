"""Batches of the outbox against real servers: what they do to ledger, standings and boards, come what may."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from conftest import CrashError, crashing_at

from shared import folds, keys, ledger, outbox, overflows, seasons, standings
from shared.projection import Projection
from shared.reconciliation import reconcile
from shared.scores import MAX_SCORE, Rules, Score
from shared.verification import Verification
from worker.batch import STEPS, BatchApplier, SeasonsLockedError


async def test_many_seasons_and_players_in_one_batch(add, drain, truth):
    await add(*((f"s{number % 5}", f"u{number % 11}", number + 1) for number in range(500)))
    assert await drain() == 500
    boards = await truth()
    assert len(boards) == 5
    assert sum(sum(board.values()) for board in boards.values()) == sum(range(501))


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_changes_nothing_in_the_end(add, pool, projection, drain, truth, step):
    await add(("s", "ann", 5), ("s", "bob", 7))
    await drain()
    await add(("s", "ann", 1), ("s", "cid", 2))
    crashing = BatchApplier(pool, projection, 500, crashing_at(step))
    with pytest.raises(CrashError):
        await crashing.apply(floor=0, paused=[])
    await add(("s", "bob", 1))
    await drain()
    assert await truth() == {"s": {"ann": 6, "bob": 8, "cid": 2}}


async def test_events_of_before_a_reset_are_done_without_effect(add, drain, pool, projection, truth):
    await add(("s", "old", 5))
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["s"])
        await seasons.begin_next_epoch(conn, "s")
    await add(("s", "new", 1))
    assert await drain() == 2
    await reconcile(pool, projection, "s")
    assert await truth() == {"s": {"new": 1}}


async def test_what_did_not_fit_before_a_reset_is_done_without_effect_too(add, drain, pool, truth):
    await add(("s", "old", MAX_SCORE), ("s", "old", 1), ("t", "rich", MAX_SCORE), ("t", "rich", 1))
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["s"])
        await seasons.begin_next_epoch(conn, "s")
    assert await drain() == 4
    assert await truth() == {"t": {"rich": MAX_SCORE}}
    async with pool.connection() as conn:
        failed = await conn.execute("select user_id, delta from outbox where status = 'failed'")
        assert await failed.fetchall() == [("rich", 1)]


@pytest.fixture
def folded(monkeypatch):
    """How many events each fold was given."""
    sizes, fold = [], folds.fold

    async def noted(conn, event_ids, rules):
        sizes.append(len(event_ids))
        return await fold(conn, event_ids, rules)

    monkeypatch.setattr(folds, "fold", noted)
    return sizes


async def test_a_poison_event_is_set_aside_with_its_reason_and_the_others_pass(add, drain, pool, truth):
    """The sum of a player leaves ±(2^53 - 1): that event fails, its 499 neighbours do not."""
    await add(("s", "rich", MAX_SCORE))
    await add(*(("s", f"u{number}", 1) for number in range(250)))
    await add(("s", "rich", 1))
    await add(*(("s", f"u{number}", 1) for number in range(248)))
    assert await drain() == 500
    async with pool.connection() as conn:
        failed = await (
            await conn.execute("select user_id, attempts, last_error from outbox where status = 'failed'")
        ).fetchall()
    assert [row[:2] for row in failed] == [("rich", 1)]
    assert "standings_score_check" in failed[0][2]
    assert (await truth())["s"]["rich"] == MAX_SCORE


@pytest.mark.parametrize("rules", [Rules(), Rules(windows=True), Rules(tie_break="earliest")], ids=str)
async def test_however_many_events_do_not_fit_they_cost_their_batch_one_more_fold(
    add, drain, pool, projection, truth, folded, rules
):
    """Of each player those count that fit behind the ones before, in the order of their ids."""
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s", "t"], rules)
    await add(("s", "rich", MAX_SCORE), ("s", "poor", 1 - MAX_SCORE))
    await drain()
    folded.clear()
    beyond = [("s", "rich", 1), ("s", "poor", -2), ("s", "new", MAX_SCORE)]
    await add(("s", "new", 1), *beyond * 160, ("s", "rich", -5), ("s", "rich", 6), ("s", "rich", 5))
    await add(("s", "poor", -1), ("s", "even", MAX_SCORE), ("s", "even", 1), ("s", "even", -1))
    await add(*[("t", "ann", 1)] * 12)
    assert await drain() == 500
    assert folded == [500, 19]
    assert await truth() == {
        "s": {"rich": MAX_SCORE, "poor": -MAX_SCORE, "new": 1, "even": MAX_SCORE},
        "t": {"ann": 12},
    }
    async with pool.connection() as conn:
        failed = await conn.execute(
            "select user_id, delta, count(*), count(distinct last_error) from outbox where status = 'failed'"
            " group by user_id, delta order by user_id, delta"
        )
        assert await failed.fetchall() == [
            ("new", MAX_SCORE, 160, 1),
            ("poor", -2, 160, 1),
            ("rich", 1, 160, 1),
            ("rich", 6, 1, 1),
        ]
    verification = Verification(pool, projection, repair=False, patience_seconds=5)
    assert all([report.equal async for report in verification.run(["s", "t"])])


@pytest.mark.parametrize("rules", [Rules(), Rules(windows=True), Rules(tie_break="earliest")], ids=str)
async def test_events_that_fit_together_all_count_also_where_they_come_to_more_than_a_row_may_hold(
    add, drain, pool, truth, folded, rules
):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], rules)
    players = [f"player-{number}" for number in range(40)]
    await add(*[("s", user_id, -MAX_SCORE) for user_id in players])
    await drain()
    folded.clear()
    for deltas in ((MAX_SCORE, 5, -3), (5, MAX_SCORE - 1, -2), (MAX_SCORE, MAX_SCORE, 1)):
        players, some = players[1:], players[0]
        await add(*[("s", some, delta) for delta in deltas])
    await add(*[("s", user_id, delta) for user_id in players for delta in (MAX_SCORE, 7)])
    assert await drain() == 83
    assert (len(folded), folded[0], sum(folded[1:])) == (3, 83, 82)
    boards = (await truth())["s"]
    assert (boards["player-0"], boards["player-1"], boards["player-2"]) == (2, 2, MAX_SCORE)
    assert {boards[user_id] for user_id in players} == {7}
    async with pool.connection() as conn:
        failed = await conn.execute("select user_id, delta from outbox where status = 'failed'")
        assert await failed.fetchall() == [("player-2", 1)]


async def test_what_does_not_fit_is_found_beside_what_is_refused_for_other_reasons(add, drain, pool, truth):
    async with pool.connection() as conn:
        await conn.execute("alter table standings add constraint no_ghosts check (user_id <> 'ghost' or score is null)")
    await add(("s", "rich", MAX_SCORE), ("s", "ghost", 1), ("s", "rich", 1), ("s", "ann", 1), ("s", "ghost", 2))
    assert await drain() == 5
    assert await truth() == {"s": {"rich": MAX_SCORE, "ann": 1}}
    async with pool.connection() as conn:
        failed = await conn.execute("select user_id, last_error from outbox where status = 'failed' order by id")
        (_, of_ghost), of_rich, (_, of_ghost_again) = await failed.fetchall()
    assert of_rich == ("rich", overflows.REASON)
    assert all("no_ghosts" in reason for reason in (of_ghost, of_ghost_again))


async def test_a_player_whose_first_event_is_refused_is_shown_for_the_next_one(add, drain, pool, truth):
    """The refused one leaves a standing without a score, in the same batch that then gives it one."""
    async with pool.connection() as conn:
        await conn.execute("alter table standings add check (score < 13)")
    scores = [("bob", 13), ("ann", 13), ("bob", 1), ("cid", 1), ("ann", 13), ("bob", 13)]  # from either end
    await add(*(("s", *score) for score in scores))
    assert await drain() == 6
    assert await truth() == {"s": {"bob": 1, "cid": 1}}


async def test_a_failed_event_that_an_aborted_batch_had_shown_is_taken_back(add, pool, projection, drain, truth):
    """Alone it fitted and was shown, but the commit failed; folded after another event it no longer fits."""
    await add(("s", "rich", 5))
    async with pool.connection() as conn:
        await conn.execute("update outbox set status = 'done' where user_id = 'rich'")
        await conn.execute("update outbox set status = 'pending'")
    await add(("s", "rich", MAX_SCORE - 3))
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select from outbox order by id limit 1 for update")
        with pytest.raises(CrashError):
            await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    await drain()
    assert await truth() == {"s": {"rich": 5}}


async def test_an_event_that_fitted_with_another_one_and_was_shown_is_taken_back(
    add, pool, projection, drain, redis, truth
):
    await add(("s", "rich", MAX_SCORE))
    await drain()
    await add(("s", "rich", 1), ("s", "rich", -5))
    with pytest.raises(CrashError):
        await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    assert await redis.zscore(keys.board("s"), "rich") == MAX_SCORE - 4
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select from outbox where delta = -5 for update")
        await drain()
        assert await redis.zscore(keys.board("s"), "rich") == MAX_SCORE
    await drain()
    assert await truth() == {"s": {"rich": MAX_SCORE - 5}}


@pytest.mark.parametrize("known", [False, True])
async def test_a_failed_event_that_was_shown_is_taken_back(known, add, drain, pool, projection, redis, truth):
    """Its player's standing is sent again, or the player removed who has none."""
    if known:
        await add(("s", "ghost", 1))
        await drain()
    await add(("s", "ann", 1), ("s", "ghost", 5))
    with pytest.raises(CrashError):
        await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    assert await redis.zscore(keys.board("s"), "ghost") == (6 if known else 5)
    async with pool.connection() as conn:
        await conn.execute("alter table standings add constraint no_ghosts check (user_id <> 'ghost' or score < 5)")
    await drain()
    assert await truth() == {"s": {"ann": 1, "ghost": 1} if known else {"ann": 1}}
    # A roll-back of Redis to what the aborted batch showed is repaired as well.
    async with pool.connection() as conn:
        tombs = await (await conn.execute("select score from standings where user_id = 'ghost'")).fetchall()
    assert tombs == [(1 if known else None,)]


async def test_two_workers_over_the_same_players_do_not_deadlock_or_double(add, patient_pool, projection, truth):
    await add(*((f"s{number % 4}", f"u{number % 13}", 1) for number in range(6000)))
    appliers = [BatchApplier(patient_pool, projection, 100, lambda _step: None) for _ in range(3)]

    async def work(applier):
        total = 0
        while (batch := await applier.apply(floor=0, paused=[])).events:
            total += batch.events
        return total

    totals = await asyncio.gather(*(work(applier) for applier in appliers))
    assert sum(totals) == 6000
    assert sum(sum(board.values()) for board in (await truth()).values()) == 6000


async def test_batches_of_different_shares_do_not_wait_for_each_other(add, pool, projection, drain, truth):
    """The seasons of one are locked from its fold to its commit; the other has others, and is through before."""
    held, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(Projection):
        async def apply(self, updates):
            held.set()
            await goes_on.wait()
            return await super().apply(updates)

    await add(*((f"s{number}", "ann", 1) for number in range(100)))
    every = list(range(8))
    slow = BatchApplier(pool, Slow(projection._client), 500, lambda _step: None)
    first = asyncio.create_task(slow.apply(floor=0, paused=[], shares=every))
    await held.wait()
    second = await BatchApplier(pool, projection, 500, lambda _step: None).apply(floor=0, paused=[], shares=every)
    goes_on.set()
    assert second.events > 0
    assert (await first).shares != second.shares
    assert (await first).events + second.events + await drain() == 100
    assert len(await truth()) == 100


async def test_a_claim_of_all_seasons_tells_which_shares_have_much(add, pool):
    await add(*(("much", f"u{number}", 1) for number in range(90)), ("little", "ann", 1), *[("some", "ann", 1)] * 9)
    async with pool.connection() as conn, conn.transaction():
        claimed = await outbox.claim(conn, floor=0, paused=[], limit=100)
        hashed = "select hashtext(season_id) & 7 from unnest(%s::text[]) as season_id"
        expected = await (await conn.execute(hashed, (["much", "some"],))).fetchall()
    assert {(share,) for share in claimed.shares} == set(expected)
    assert len(claimed.event_ids) == 100


async def test_where_others_have_all_shares_the_first_is_taken_all_the_same(add, pool, applier, truth):
    await add(*((f"s{number}", "ann", 1) for number in range(100)))
    async with pool.connection() as conn, conn.transaction():
        for share in range(8):
            await outbox.claim(conn, floor=0, paused=[f"s{number}" for number in range(100)], limit=1, shares=[share])
        found = [await applier.apply(floor=0, paused=[], shares=[share, 0]) for share in range(8)]
    assert [batch.shares for batch in found] == [[share] for share in range(8)]
    assert sum(batch.events for batch in found) == 100
    assert len(await truth()) == 100


async def test_a_batch_gives_up_a_season_held_elsewhere(add, applier, pool):
    await add(("held", "ann", 1), ("free", "ann", 1))
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["held"])
        with pytest.raises(SeasonsLockedError) as locked:
            await applier.apply(floor=0, paused=[])
    assert set(locked.value.season_ids) == {"held", "free"}


@pytest.mark.parametrize("aggregation", ["sum", "best", "latest"])
async def test_a_new_standing_leaves_room_on_its_page(add, drain, pool, aggregation):
    """For the rows that take its place, which are shorter; nothing is in it."""
    async with pool.connection() as conn:
        await conn.execute("insert into seasons (season_id, aggregation) values ('s', %s)", (aggregation,))
        sizes = []
        for score in (5, 6, 7):
            await add(Score("s", "ann", score, absolute=aggregation != "sum"))
            await drain()
            row = await conn.execute("select pg_column_size(standing.*) from standings as standing")
            sizes += await row.fetchone()
            async with conn.transaction(force_rollback=True):
                (told,) = await standings.touch_players(conn, "s", ["ann"])
            assert set(told[5:]) == {None}
    assert sizes[1:] == [sizes[0] - 29] * 2


async def test_an_epoch_is_taken_at_commit_not_at_arrival(pool, add, drain, truth):
    """A score whose statement began before a reset committed belongs to the ended epoch, one after to the new."""
    await add(("s", "ann", 1))
    async with pool.connection() as writing, pool.connection() as resetting:
        async with writing.transaction():
            await ledger.append(writing, [Score("s", "before", 1)])
            async with resetting.transaction():
                await seasons.lock(resetting, ["s"])
                await seasons.begin_next_epoch(resetting, "s")
        await ledger.append(writing, [Score("s", "after", 1)])
    await drain()
    assert await truth() == {"s": {"after": 1}}


async def test_append_inserts_all_rows_or_none(pool):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["known"])
        with pytest.raises(ledger.UnknownSeasonError):
            await ledger.append(conn, [Score("known", "ann", 1), Score("unknown", "ann", 1)])
        with pytest.raises(psycopg.IntegrityError):
            await ledger.append(conn, [Score("known", "ann", 1), Score("known", "x" * 200, 1)])
        assert await (await conn.execute("select count(*) from score_events")).fetchone() == (0,)
        assert await (await conn.execute("select count(*) from outbox")).fetchone() == (0,)


async def test_a_claim_of_a_share_reads_no_further_than_its_reach(add, pool):
    async with pool.connection() as conn:
        names = [f"s{number}" for number in range(20)]
        cursor = await conn.execute("select name, hashtext(name) & 7 from unnest(%s::text[]) as name", (names,))
        share_of = dict(await cursor.fetchall())
        near = names[0]
        far = next(name for name in names if share_of[name] != share_of[near])
        await add(*((near, "ann", 1) for _ in range(40)), (far, "ann", 1))
        for limit, found in ((1, 0), (2, 1)):
            async with conn.transaction(force_rollback=True):
                claimed = await outbox.claim(conn, floor=0, paused=[], limit=limit, shares=[share_of[far]])
                assert len(claimed.event_ids) == found
