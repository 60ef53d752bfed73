"""Faults of Redis: (b) lost replies, (c) a late script, (e) a truncated log, (f) keys lost or of old, (g) fail-over
to a replica that lags, (h) LOADING, READONLY, OOM, (m) away for long."""

from __future__ import annotations

import os
import signal

from ports import free_port
from redis.asyncio import Redis

from faults.conftest import RULES
from faults.load import PATIENT, get
from shared import keys
from shared.scores import PLAIN
from shared.scripts import APPLY
from shared.windows import BOARDS


async def test_b_replies_lost_three_times_in_a_row(run):
    """redis-py sends what got no reply again, twice; the third loss ends the batch."""
    settings = {"AUDIT_INTERVAL_MS": 3_600_000}  # its scripts' replies would be lost in place of the batch's
    async with run.under_load(workers=1, settings=settings, proxied=("worker-redis",)) as (stack, load):
        (worker,) = stack.workers
        for _ in run.rounds(5, 100):
            await load.more(run.acks(100, 400))
            worker.new_log()
            await stack.proxies["worker-redis"].lose_replies(3, APPLY.sha.encode())
            await stack.until_said(worker, "batch put off")


async def test_c_a_script_that_is_sent_after_its_worker_lost_its_locks(run):
    """Stopped between its statements and its script, its sessions ended; another worker shows the same events and more,
    a reset may come, then the first one goes on. Its script must change nothing, not even until the next audit; nor
    until the next sweep, where seasons have windows: `test_sweeps`."""
    settings = {"AUDIT_INTERVAL_MS": 3_600_000, "OUTBOX_BATCH_SIZE": 10_000}
    load = {"writers": 8, "players": 20, "rules": (PLAIN,) * 3}
    async with run.under_load(workers=1, settings=settings, load=load) as (stack, load):
        worker, *_ = stack.workers
        for _ in run.rounds(3, 30):
            await worker.kill()
            await worker.start(FAULT_POINT="folded:stop")
            await stack.until_stopped(worker)
            await stack.end_worker_sessions()
            # In one batch with what the stopped one holds, or in many: one stands on the same commit as its script.
            in_one = run.rng.random() < 0.5
            if not in_one:
                other = await stack.add_worker()
            await load.more(run.acks(100, 100) if in_one else run.acks(200, 600))
            if run.rng.random() < 0.3:
                await load.reset("s0")
            async with load.paused():
                if in_one:
                    other = await stack.add_worker()
                await stack.caught_up()
                await other.kill()
                os.kill(worker.running.pid, signal.SIGCONT)
                await stack.until_said(worker, "batch put off", "batch late")
                run.require(await load.history.judge(stack.rows, await stack.boards()))
        await worker.kill()
        await worker.start()


async def test_e_the_end_of_the_append_only_file_cut_off(run):
    async with run.under_load() as (stack, load):
        for _ in run.rounds(3, 60):
            await load.more(run.acks(300, 1000))
            await stack.kill_valkey()
            stack.truncate_append_only_file(run.rng.randrange(1, 200_000))
            await stack.start_valkey()


async def test_f_keys_lost_changed_or_of_old(run):
    settings = {"SCRUB_PLAYERS_PER_SECOND": 100_000}
    async with (
        run.under_load(settings=settings) as (stack, load),
        Redis.from_url(stack.valkey.url(), socket_timeout=5) as raw,
    ):
        copies = {}
        for _ in run.rounds(40, 400):
            await load.more(run.acks(50, 250))
            season_id = run.rng.choice(("s0", "s1", "s2"))
            damages = [_flush, _lose_board, _lose_meta, _lose_members, _change_scores]
            if season_id in copies:
                damages += [_restore, _restore_one] * 2
            await run.rng.choice(damages)(raw, run.rng, season_id, copies)
            if season_id not in copies:
                # For a later round; of all its keys at one moment, as a backup would have it.
                names = [*keys.all_shown(season_id), keys.meta(season_id)]
                async with raw.pipeline(transaction=True) as pipe:
                    for name in names:
                        pipe.dump(name)
                    dumps = await pipe.execute()
                copies[season_id] = dict(zip(names, dumps, strict=True))


async def _flush(raw, _rng, _season_id, _copies):
    await raw.flushall()


async def _lose_board(raw, rng, season_id, _copies):
    await raw.delete(rng.choice(keys.shown(season_id, _rules(season_id))))


async def _lose_meta(raw, _rng, season_id, _copies):
    await raw.delete(keys.meta(season_id))


async def _lose_members(raw, rng, season_id, _copies):
    board = _some_board(rng, season_id)
    if gone := await raw.zrandmember(board, rng.randrange(1, 20)):
        await raw.zrem(board, *gone)


async def _change_scores(raw, rng, season_id, _copies):
    """No number beside the board tells of this: the scrub must find it."""
    board = _some_board(rng, season_id)
    if changed := await raw.zrandmember(board, rng.randrange(1, 20)):
        await raw.zadd(board, dict.fromkeys(changed, rng.randrange(1, 100)), xx=True)


def _rules(season_id):
    return RULES[int(season_id.removeprefix("s"))]


def _some_board(rng, season_id):
    return keys.board(season_id, rng.choice(BOARDS if _rules(season_id).windows else BOARDS[:1]))


async def _restore_one(raw, rng, season_id, copies):
    """A board or what is noted beside it, but not both."""
    name = rng.choice([keys.meta(season_id), *keys.shown(season_id, _rules(season_id))])
    await _restore(raw, rng, season_id, {season_id: {name: copies.pop(season_id)[name]}})


async def _restore(raw, _rng, season_id, copies):
    async with raw.pipeline(transaction=True) as pipe:
        for name, dump in copies.pop(season_id).items():
            pipe.delete(name)
            if dump is not None:
                pipe.restore(name, 0, dump)
        await pipe.execute()


async def test_g_fail_over_to_a_replica_that_lags(run):
    """The link to the replica stands still, the primary dies, the replica is promoted and takes over the address."""
    links = ("worker-redis", "api-redis")
    async with run.under_load(proxied=links) as (stack, load):
        for _ in run.rounds(2, 20):
            replica, link = await stack.start_replica()
            await load.more(run.acks(100, 500))
            link.hold()
            await load.more(run.acks(300, 1500))
            await stack.caught_up()  # the replica has none of that
            written = (await stack.redis.info("replication"))["master_repl_offset"]
            await stack.kill_valkey()
            link.cut()
            await stack.promote(replica)
            assert (await stack.redis.info("replication"))["master_repl_offset"] < written
            for name in links:
                stack.proxies[name].target = ("127.0.0.1", replica._port)
                stack.proxies[name].cut()


async def test_h_loading_readonly_and_out_of_memory(run):
    """Workers say so and wait; scores are taken all the same; reads go on where Redis answers them."""
    async with run.under_load(workers=1) as (stack, load):
        (worker,) = stack.workers
        for _ in run.rounds(3, 45):
            await load.more(run.acks(200, 800))
            worker.new_log()
            match ("loading", "read-only", "memory")[run.faults % 3]:
                case "loading":
                    await stack.pad_valkey()
                    await stack.kill_valkey()
                    loading = await stack.start_loading_valkey()
                    await stack.until_said(worker, "LOADING", "loading the dataset")
                    await load.more(run.acks(100, 500))
                    await loading
                case "read-only":
                    await stack.redis.execute_command("REPLICAOF", "127.0.0.1", free_port())
                    await stack.until_said(worker, "READONLY", "read only replica")
                    await load.more(run.acks(100, 500))
                    assert (await get(stack.ports()[0], "/v1/seasons/s0/leaderboard/top"))[0] == 200
                    await stack.redis.execute_command("REPLICAOF", "NO", "ONE")
                case "memory":
                    await stack.redis.config_set("maxmemory", 1)
                    await stack.until_said(worker, "OOM", "command not allowed when used memory")
                    await load.more(run.acks(100, 500))
                    assert (await get(stack.ports()[0], "/v1/seasons/s0/leaderboard/top"))[0] == 200
                    await stack.redis.config_set("maxmemory", 0)


async def test_m_redis_away_for_long(run):
    """Writes are accepted, reads say 503, no event is failed; then everything is shown."""
    async with run.under_load(settings=PATIENT) as (stack, load):
        for _ in run.rounds(1, 2):
            await load.more(run.acks(200, 1000))
            await stack.kill_valkey()
            await load.more(run.acks(3000, 150_000))
            for path in ("top", "rank?userId=u1", "around?userId=u1"):
                status, answer = await get(run.rng.choice(stack.ports()), f"/v1/seasons/s0/leaderboard/{path}")
                assert (status, answer["code"]) == (503, "redis_unavailable")
            assert await get(stack.apis[0].port, "/healthz") == (200, {"status": "ok"})
            assert await stack.ask("select count(*) from outbox where status = 'failed'") == 0
            assert load.unavailable == 0
            await stack.start_valkey()
            await stack.caught_up()
