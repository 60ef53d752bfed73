"""A tournament from its scores to its receiver: reset by schedule, sealed from the ledger, sent, and then let go of."""

from __future__ import annotations

import pytest
from conftest import client_of, make_settings, serving
from receiver import SECRET, receiving
from season_calls import SEASON, post, put

from api.app import create_app
from shared.webhook_signature import secrets_in
from worker.deliveries import Deliveries
from worker.schedules import ScheduledResets
from worker.sealer import Sealer
from worker.webhook_post import WebhookPost


@pytest.fixture
async def http(dsn, redis, servers):  # noqa: ARG001 - emptied before the service starts
    settings = make_settings(dsn, servers.redis_url, webhook_secret=SECRET, webhook_targets="any")
    async with serving(create_app(settings)) as base_url, client_of(base_url) as client:
        yield client


@pytest.mark.parametrize("end", ["schedule", "close", "reset", "restart"])
async def test_from_scores_to_receiver(http, pool, projection, drain, end):
    async with receiving() as (receiver, port):
        rewards = {"url": f"http://127.0.0.1:{port}/"}
        await put(http, resets={"cron": "0 0 * * 1"}, rewards=rewards)
        if end != "restart":
            for user_id, delta in (("ann", 5), ("bob", 7), ("ann", 4)):
                assert (await post(http, user_id, delta=delta))[0] == 202
        if end == "schedule":
            async with pool.connection() as conn:
                await conn.execute("update reset_schedules set next_at = now()")
            await ScheduledResets(pool, projection, lambda _step: None).run()
        elif end == "close":
            await http.post(f"{SEASON}/close")
        elif end == "reset":
            await http.delete(SEASON)
        else:
            await put(http, aggregation="best", rewards=rewards)
        await drain()  # what was pending as it ended counts
        async with pool.connection() as conn:
            sealer = Sealer(pool, pool, lambda _step: None)
            wanted = "select wanted from season_epochs"
            assert await (await conn.execute(wanted)).fetchone() == (end != "restart",)
            while await (await conn.execute("select 1 from epoch_hooks")).fetchone():
                await sealer.run()
                await Deliveries(pool, WebhookPost(secrets_in(SECRET), "any"), lambda _step: None).run()
            assert await (await conn.execute(wanted)).fetchone() == (False,)
        told = [received.verified()["data"] for received in receiver.received]
    ranks = [{"rank": 1, "userId": "ann", "score": 9}, {"rank": 2, "userId": "bob", "score": 7}]
    expected = [] if end == "restart" else [(end, 2, ranks)]
    assert [(closed["reason"], closed["totalPlayers"], closed["ranks"]) for closed in told] == expected
