"""The whole service against a plain dict: random POSTs, DELETEs, archives, batches, crashes and losses in Redis, in any
order.

After a drain and an audit, what GET answers must equal the dict. Real HTTP, PostgreSQL and Valkey.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import httpx2
from conftest import CrashError, compare_everywhere, crashing_at, make_settings, serving
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from redis.asyncio import Redis

from api.app import create_app
from shared import keys
from shared.epochs import UNSEALED
from shared.postgres import create_pool
from shared.projection import Projection
from shared.reconciliation import LateError, pass_late
from worker.app import worker_connection
from worker.batch import STEPS, BatchApplier
from worker.sealer import Sealer
from worker.upkeep import Audit, Purge

_FINAL_RANKS = "select season_id, epoch, user_id, score from final_ranks"

SEASONS = ("one", "two")
season_ids = st.sampled_from(SEASONS)
user_ids = st.sampled_from(("ann", "bob", "cid", "Zoë 🎮"))
deltas = st.integers(-20, 20).filter(bool)


class Service:
    """The parts of a running service, opened once for all examples."""

    def __init__(self, runner, dsn, redis_url):
        self.run = runner.run
        self.stack = contextlib.AsyncExitStack()
        self.settings = make_settings(dsn, redis_url)
        self.run(self._open())

    async def _open(self):
        enter = self.stack.enter_async_context
        base_url = await enter(serving(create_app(self.settings)))
        self.http = await enter(httpx2.AsyncClient(base_url=base_url, timeout=20))
        self.pool = await enter(create_pool(worker_connection(self.settings), max_size=6, patience_seconds=60))
        self.redis = await enter(Redis.from_url(self.settings.redis_url, decode_responses=True, protocol=3))
        self.raw = await enter(Redis.from_url(self.settings.redis_url))
        self.projection = Projection(self.redis)

    def close(self):
        self.run(self.stack.aclose())

    async def empty(self):
        await self.redis.flushall()
        async with self.pool.connection() as conn:
            await conn.execute(
                "truncate seasons, season_epochs, final_ranks, score_events, outbox, standings, idempotency_keys"
                " restart identity"
            )
        await self.redis.publish(keys.CHANGES, "\n".join(SEASONS))


def machine_for(service):  # noqa: C901 - a state machine is a list of rules
    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.model = {season_id: {} for season_id in SEASONS}
            self.copies = {}
            self.archives = {}
            self.sealer = Sealer(service.pool, service.pool, lambda _step: None)
            service.run(service.empty())

        @rule(
            season_id=season_ids,
            scores=st.lists(st.tuples(user_ids, deltas), min_size=1, max_size=6),
        )
        def post(self, season_id, scores):
            async def send():
                path = f"/v1/seasons/{season_id}/scores"
                bodies = [{"userId": user_id, "delta": delta} for user_id, delta in scores]
                return await asyncio.gather(*(service.http.post(path, json=body) for body in bodies))

            assert [response.status_code for response in service.run(send())] == [202] * len(scores)
            board = self.model[season_id]
            for user_id, delta in scores:
                board[user_id] = board.get(user_id, 0) + delta

        @rule(season_id=season_ids)
        def delete(self, season_id):
            response = service.run(service.http.delete(f"/v1/seasons/{season_id}"))
            assert response.status_code == 200
            self.model[season_id] = {}
            assert self.shown(season_id) == {}

        @rule(season_id=season_ids)
        def archive(self, season_id):
            response = service.run(service.http.delete(f"/v1/seasons/{season_id}?archive=true"))
            assert response.status_code == 200
            if self.model[season_id]:
                assert response.json()["archived"]
                self.archives[season_id, response.json()["epoch"]] = self.model[season_id]
            self.model[season_id] = {}
            assert self.shown(season_id) == {}

        @rule()
        def seal(self):
            service.run(self.sealer.run())

        @rule(size=st.integers(1, 8))
        def batch(self, size):
            service.run(self.apply(size, None))

        @rule(size=st.integers(1, 8), step=st.sampled_from(STEPS))
        def batch_that_crashes(self, size, step):
            service.run(self.apply(size, step))

        @rule(season_id=season_ids)
        def reset_that_crashes_before_redis_follows(self, season_id):
            async def reset():
                async with service.pool.connection() as conn:
                    await conn.execute(
                        "insert into seasons (season_id) values (%s) on conflict do nothing", (season_id,)
                    )
                    await conn.execute(
                        "update seasons set epoch = epoch + 1, token = greatest(token + 1,"
                        " (extract(epoch from clock_timestamp()) * 1000000)::bigint) where season_id = %s",
                        (season_id,),
                    )

            service.run(reset())
            self.model[season_id] = {}

        @rule()
        def wipe_redis(self):
            service.run(service.redis.flushall())

        @rule(season_id=season_ids, kind=st.sampled_from((keys.board, keys.meta)))
        def lose_a_key(self, season_id, kind):
            service.run(service.redis.delete(kind(season_id)))

        @rule(season_id=season_ids, user_id=user_ids)
        def lose_a_player(self, season_id, user_id):
            service.run(service.redis.zrem(keys.board(season_id), user_id))

        @rule()
        def take_a_copy_of_redis(self):
            async def copy():
                return {key: await service.raw.dump(key) for key in await service.raw.keys("*")}

            self.copies = service.run(copy())

        @rule()
        def roll_redis_back_to_the_copy(self):
            async def restore():
                await service.raw.flushall()
                for key, value in self.copies.items():
                    await service.raw.restore(key, 0, value)

            service.run(restore())

        @rule()
        def audit(self):
            service.run(Audit(service.pool, service.projection).run())

        @rule()
        def purge(self):
            service.run(Purge(service.pool, service.projection, 24, 24).run())

        @rule()
        def settle(self):
            async def drain():
                while await self.apply(500, None):
                    pass
                await Audit(service.pool, service.projection).run()
                async with service.pool.connection() as conn:
                    while await (await conn.execute(f"select 1 from season_epochs where {UNSEALED}")).fetchone():
                        await self.sealer.run()
                    for season_id, epoch, user_id, score in await (await conn.execute(_FINAL_RANKS)).fetchall():
                        archives.setdefault((season_id, epoch), {})[user_id] = score
                    return await compare_everywhere(conn, service.redis)

            archives = {}
            boards = service.run(drain())
            assert archives == self.archives
            assert boards == {season_id: board for season_id, board in self.model.items() if board}
            for season_id, board in self.model.items():
                self.assert_shown_soon(season_id, board)

        def teardown(self):
            self.settle()

        async def apply(self, size, step):
            applier = BatchApplier(service.pool, service.projection, size, crashing_at(step))
            try:
                return (await applier.apply(floor=0, paused=[])).events
            except CrashError:
                return 0
            except LateError as error:  # a crashed batch's clock and ours may fall on the same microsecond
                await pass_late(service.pool, service.projection, error)
                return 1

        def assert_shown_soon(self, season_id, board):
            """The hint that a board changed may still be under way; no answer is kept for more than a second."""
            give_up_at = time.monotonic() + 3
            while (shown := self.shown(season_id)) != board and time.monotonic() < give_up_at:
                pass
            assert shown == board

        def shown(self, season_id):
            items = service.run(service.http.get(f"/v1/seasons/{season_id}/leaderboard/top?limit=1000")).json()["items"]
            scores = [item["score"] for item in items]
            assert scores == sorted(scores, reverse=True)
            return {item["userId"]: item["score"] for item in items}

    return Machine


def test_any_schedule_ends_where_the_dict_does(dsn, servers):
    with asyncio.Runner() as runner:
        service = Service(runner, dsn, servers.redis_url)
        try:
            run_state_machine_as_test(
                machine_for(service),
                settings=settings(
                    max_examples=150,
                    stateful_step_count=30,
                    deadline=None,
                    derandomize=False,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            service.close()
