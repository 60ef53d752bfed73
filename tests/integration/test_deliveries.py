"""Final ranks on their way to who is to be told: once written down, signed, and sent until they are taken."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl

import pytest
from conftest import CrashError, client_of, crashing_at, make_settings, serving
from receiver import SECRET, receiving, status
from season_calls import SEASON, post, put

from api.app import create_app
from shared import deliveries, epochs, moderation_requests, seasons
from shared.deliveries import PAUSES
from shared.moderation_requests import Wish
from shared.webhook_signature import secrets_in
from shared.webhook_targets import Target
from worker.deliveries import DELIVERY_STEPS, Deliveries
from worker.schedules import SeasonEnds
from worker.webhook_post import WebhookPost

RANKS = [("ann", 30), ("bob", 20), ("cid", 20)]


@pytest.fixture
async def receiver():
    async with receiving() as (found, port):
        found.url = f"http://127.0.0.1:{port}/ranks?of=race"
        yield found


@pytest.fixture
async def http(dsn, redis, servers):  # noqa: ARG001 - emptied before the service starts
    """Of an API that may send to this machine."""
    settings = make_settings(dsn, servers.redis_url, webhook_secret=SECRET, webhook_targets="any")
    async with serving(create_app(settings)) as base_url, client_of(base_url) as client:
        yield client


@pytest.fixture
def ask(pool):
    async def rows(query, *parameters):
        async with pool.connection() as conn:
            return await (await conn.execute(query, parameters)).fetchall()

    return rows


@pytest.fixture
def worker(pool):
    """A worker's task; each one given is another worker."""

    def make(reach=lambda _step: None, secret=SECRET, reach_of_targets="any"):
        return Deliveries(pool, WebhookPost(secrets_in(secret), reach_of_targets), reach)

    return make


@pytest.fixture
def seal(pool):
    """What sealing leaves of an epoch that is over."""

    async def sealed(epoch=1, ranks=RANKS):
        async with pool.connection() as conn, conn.transaction():
            for rank, (user_id, score) in enumerate(ranks, 1):
                await conn.execute(
                    "insert into final_ranks values ('race', %s, %s, %s, %s)", (epoch, rank, user_id, score)
                )
            changed = await conn.execute(
                "update season_epochs set sealed_at = now(), players = %s where season_id = 'race' and epoch = %s",
                (len(ranks), epoch),
            )
            assert changed.rowcount == 1

    return sealed


@pytest.fixture
async def due(http, receiver, seal):
    """Final ranks that are to be sent: of a season that was reset."""
    await put(http, rewards={"url": receiver.url, "top": 2})
    await http.delete(SEASON)
    await seal()


@pytest.fixture
def again(ask):
    """The time of the next attempt comes."""

    async def pass_time():
        await ask("update deliveries set next_at = now() returning 1")

    return pass_time


STATE = "select status, attempts, last_error, body is null from deliveries"


async def test_put_sets_who_is_told_and_get_says_it(http):
    made = await put(http, 201, rewards={"url": "https://game.example/x"})
    assert made["rewards"] == {"url": "https://game.example/x", "top": 100}
    assert (await http.get(SEASON)).json() == made
    assert (await put(http, 200))["rewards"] is None


@pytest.mark.parametrize(
    ("rewards", "code"),
    [
        ({"url": "game.example"}, "invalid_rewards"),
        ({"url": "http://169.254.169.254/"}, "invalid_rewards"),
        ({"url": "https://game.example", "top": 0}, "invalid_rewards"),
        ({"url": "https://game.example", "top": 1001}, "invalid_rewards"),
        ({"top": 10}, "invalid_body"),
        ({"url": "https://game.example", "secret": "x"}, "invalid_body"),
    ],
)
async def test_what_nobody_can_be_told_at_is_refused(http, rewards, code):
    response = await http.put(SEASON, json={"rewards": rewards})
    assert (response.status_code, response.json()["code"]) == (400, code)


async def test_without_a_secret_and_beyond_the_public_network_it_is_refused(dsn, servers):
    for changes, url, code in (
        ({}, "https://game.example", "webhooks_off"),
        ({"webhook_secret": SECRET}, "http://game.example", "invalid_rewards"),
        ({"webhook_secret": SECRET}, "https://10.0.0.8", "invalid_rewards"),
    ):
        app = create_app(make_settings(dsn, servers.redis_url, **changes))
        async with serving(app) as base_url, client_of(base_url) as http:
            response = await http.put(SEASON, json={"rewards": {"url": url}})
            assert (response.status_code, response.json()["code"]) == (400, code)


async def test_the_best_of_a_sealed_epoch_are_sent_once_signed(http, receiver, worker, seal, ask):
    await put(http, rewards={"url": receiver.url, "top": 2})
    await http.delete(SEASON)
    await worker().run()
    assert receiver.received == []  # not sealed yet
    await seal()
    await worker().run()
    (received,) = receiver.received
    said = received.verified()
    (ended,) = await ask("select began_at, ended_at from season_epochs")
    began_at, ended_at = (moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z") for moment in ended)
    assert said == {
        "type": "season.closed",
        "timestamp": ended_at,
        "data": {
            "seasonId": "race",
            "epoch": 1,
            "reason": "reset",
            "beganAt": began_at,
            "endedAt": ended_at,
            "totalPlayers": 3,
            "ranks": [{"rank": 1, "userId": "ann", "score": 30}, {"rank": 2, "userId": "bob", "score": 20}],
        },
    }
    assert (received.path, received.headers["content-type"]) == ("/ranks?of=race", "application/json")
    assert await ask(STATE) == [("done", 1, None, True)]
    digest = "select body_digest = sha256(%s), body_bytes, webhook_id from deliveries"
    assert await ask(digest, received.body) == [(True, len(received.body), received.webhook_id)]
    assert await ask("select * from epoch_hooks") == []
    assert await worker().run() is None
    assert len(receiver.received) == 1


@pytest.mark.usefixtures("due")
async def test_what_is_not_taken_is_sent_again_the_same(receiver, worker, again, ask):
    receiver.answers = [
        status(503),
        status(307, "location: http://127.0.0.1:1/"),
        b"nonsense\r\n\r\n",
        b"",
        status(204),
    ]
    for number, told in enumerate(
        ("answered with 503", "answered with 307", "the answer is not HTTP", "the answer"), 1
    ):
        seconds = await worker().run()
        assert PAUSES[number - 1] * 0.85 < seconds < PAUSES[number - 1] * 1.1
        ((state, attempts, error, gone),) = await ask(STATE)
        assert (state, attempts, gone) == ("pending", number, False)
        assert error.startswith(told)
        assert await worker().run() is not None  # too soon
        await again()
    await worker().run()
    assert await ask(STATE) == [("done", 5, None, True)]
    assert len({(received.webhook_id, received.body) for received in receiver.received}) == 1
    assert len(receiver.received) == 5
    assert receiver.received[4].verified()["data"]["epoch"] == 1


@pytest.mark.usefixtures("due")
async def test_nobody_waits_for_a_receiver_that_does_not_answer_for_ever(receiver, worker, ask, monkeypatch):
    monkeypatch.setattr("worker.webhook_post._DEADLINE_SECONDS", 0.05)
    receiver.answers = [None]
    await worker().run()
    assert await ask(STATE) == [("pending", 1, "no answer within 0.05 s", False)]


@pytest.mark.usefixtures("due")
async def test_of_an_answer_no_more_than_its_head_is_read(receiver, worker, again, ask):
    receiver.answers = [
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n",
    ]
    await worker().run()
    assert (await ask(STATE))[0][0] == "pending"
    await again()
    await worker().run()
    assert (await ask(STATE))[0][0] == "done"


@pytest.mark.usefixtures("due")
async def test_after_the_last_attempt_or_410_it_is_given_up_until_an_operator_says_otherwise(
    receiver, worker, ask, pool
):
    receiver.answers = [status(410)]
    await worker().run()
    assert await ask(STATE) == [("failed", 1, "answered with 410", False)]
    async with pool.connection() as conn:
        assert await deliveries.retry(conn, [], every=True) == [1]
    receiver.answers = [status(500)]
    await ask("update deliveries set attempts = %s returning 1", len(PAUSES))
    await worker().run()
    assert await ask(STATE) == [("failed", len(PAUSES) + 1, "answered with 500", False)]
    assert await worker().run() is None
    async with pool.connection() as conn:
        assert await deliveries.retry(conn, [1, 2], every=False) == [1]
        await worker().run()
        assert await ask(STATE) == [("done", 1, None, True)]
        assert await deliveries.retry(conn, [1], every=False) == []


@pytest.mark.usefixtures("due")
@pytest.mark.parametrize("told", ["rewards.url must be a URL", "UnicodeError: "], ids=["refused", "a bug"])
async def test_a_url_that_was_stored_and_can_not_be_sent_to_costs_attempts_and_is_given_up(
    worker, again, ask, pool, monkeypatch, told
):
    async with pool.connection() as conn:
        await deliveries.write(conn)
    await ask("update deliveries set url = %s returning 1", f"https://[::ffff:93.184.216.34%{'a' * 80}]/")
    if told.startswith("UnicodeError"):
        # What no resolver can be asked for, should the rules let it pass.
        target = Target(True, "a" * 64, 443, "a", "/")
        monkeypatch.setattr("worker.webhook_post.target_of", lambda *_: target)
    for number in range(1, len(PAUSES) + 2):
        await worker().run()
        ((state, attempts, error, _),) = await ask(STATE)
        assert (state, attempts) == ("pending" if number <= len(PAUSES) else "failed", number)
        assert error.startswith(told)
        await again()
    assert await worker().run() is None


@pytest.mark.usefixtures("due")
async def test_several_workers_send_it_once(receiver, worker, ask):
    await asyncio.gather(*(worker().run() for _ in range(3)))
    assert len(receiver.received) == 1
    assert await ask(STATE) == [("done", 1, None, True)]


@pytest.mark.usefixtures("due")
@pytest.mark.parametrize("step", DELIVERY_STEPS)
async def test_a_worker_that_dies_after_sending_sends_the_same_once_more(receiver, worker, again, ask, step):
    with pytest.raises(CrashError):
        await worker(crashing_at(step)).run()
    await worker().run()
    if step in ("delivery_claimed", "delivery_sent"):
        # Its attempt may be under way still: nobody makes another one before its time.
        assert await ask(STATE) == [("pending", 1, None, False)]
    if step != "delivery_noted":
        await again()
        await worker().run()
    assert (await ask(STATE))[0][0] == "done"
    assert len(receiver.received) == (2 if step == "delivery_sent" else 1)
    assert len({(received.webhook_id, received.body) for received in receiver.received}) == 1


@pytest.mark.usefixtures("due")
async def test_an_attempt_that_was_long_in_coming_back_says_nothing_of_those_after_it(pool, ask, again):
    async with pool.connection() as conn:
        await deliveries.write(conn)
        (late,) = await deliveries.claim(conn, 1)
        await again()
        (newest,) = await deliveries.claim(conn, 1)
        await deliveries.note_failed(conn, late, "late", None)
        assert await ask(STATE) == [("pending", 2, None, False)]
        await deliveries.note_failed(conn, newest, "newest", 5)
        await deliveries.note_taken(conn, late)
        assert await ask(STATE) == [("done", 2, None, True)]


async def test_one_that_fails_keeps_no_other_from_being_sent(http, receiver, worker, seal, ask):
    await put(http, rewards={"url": "http://127.0.0.1:1/"})
    await http.delete(SEASON)
    await put(http, rewards={"url": receiver.url})
    await http.delete(SEASON)
    await seal(1)
    await seal(2, [])
    await worker().run()
    found = await ask("select epoch, status, last_error from deliveries order by epoch")
    assert found[0][:2] == (1, "pending")
    assert "refused" in found[0][2].lower() or "Connect" in found[0][2]
    assert found[1] == (2, "done", None)
    assert receiver.received[0].verified()["data"]["ranks"] == []


async def test_each_epoch_is_told_of_once_as_the_season_was_when_it_ended(http, receiver, worker, seal, pool, ask):
    await put(http, rewards={"url": receiver.url})
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["race"])
        await epochs.end(conn, "race", "close")
    await put(http, rewards={"url": "http://127.0.0.1:1/"})
    await seal()
    await http.delete(SEASON)  # of the epoch that was closed
    await worker().run()
    assert [received.verified()["data"]["reason"] for received in receiver.received] == ["close"]
    await put(http, aggregation="best", rewards={"url": receiver.url})  # other rules: nobody is told
    await seal(2, [])
    await worker().run()
    await put(http, aggregation="best")
    await http.delete(SEASON)  # nobody is to be told
    await seal(3)
    await worker().run()
    assert await ask("select epoch, status from deliveries") == [(1, "done")]


async def test_the_end_of_a_season_is_told_of_but_not_where_it_was_put_off(http, receiver, worker, seal, pool, ask):
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    rewards = {"url": receiver.url}
    ends = SeasonEnds(pool, lambda _step: None)
    await put(http, endsAt="2026-01-01T00:00:00Z", rewards=rewards)
    await ask("update seasons set created_at = '2025-12-01' returning 1")
    await ends.run()
    await ask("delete from season_epochs returning 1")  # its end is put off before it was sealed
    await put(http, endsAt=later)
    assert await ask("select * from epoch_hooks") == []
    await put(http, endsAt="2026-01-01T00:00:00Z", rewards=rewards)
    await ends.run()
    await seal()
    await worker().run()
    await put(http, endsAt="2026-01-01T00:00:00Z", rewards=rewards)
    await ends.run()
    await worker().run()
    assert [received.verified()["data"]["reason"] for received in receiver.received] == ["end"]


async def test_nobody_is_told_of_an_epoch_that_was_never_open(http, receiver, worker, seal, pool, ask):
    """It began after the end of its season: by a reset, or by a PUT of an endsAt that has passed."""
    ends = SeasonEnds(pool, lambda _step: None)
    await put(http, rewards={"url": receiver.url})
    assert await post(http, delta=1) == (202, None)
    await http.delete(SEASON)
    await put(http, rewards={"url": receiver.url}, endsAt="2026-01-01T00:00:00Z")
    await ends.run()
    await http.delete(SEASON)
    await ends.run()
    await http.post(f"{SEASON}/close")
    await http.delete(SEASON)
    assert await ask("select epoch, wanted from season_epochs order by 1") == [(1, True), (2, False), (3, False)]
    assert await ask("select epoch from epoch_hooks") == [(1,)]
    await seal()
    await worker().run()
    assert [received.verified()["data"]["epoch"] for received in receiver.received] == [1]


@pytest.mark.usefixtures("due")
async def test_an_erased_player_is_not_in_what_is_still_to_be_sent(receiver, worker, pool, ask):
    async with pool.connection() as conn, conn.transaction():
        await deliveries.write(conn)
        await deliveries.forget_player(conn, "race", "ann")
        await deliveries.forget_player(conn, "race", "dan")
    await worker().run()
    (received,) = receiver.received
    assert received.verified()["data"]["ranks"] == [{"rank": 2, "userId": "bob", "score": 20}]
    assert await ask("select body_digest = sha256(%s) from deliveries", received.body) == [(True,)]


@pytest.mark.usefixtures("due")
async def test_a_name_that_leads_into_the_own_network_is_not_followed(receiver, worker, ask):
    """Judged at each attempt, whatever the name said when it was put."""
    port = receiver.url.split(":")[2].split("/")[0]
    await worker(reach_of_targets="public").run()
    assert "https" in (await ask(STATE))[0][2]
    await ask("update deliveries set url = %s, next_at = now() returning 1", f"https://localhost:{port}/")
    await worker(reach_of_targets="public").run()
    assert (await ask(STATE))[0][2].startswith("localhost is at no public address")
    assert receiver.received == []


@pytest.mark.usefixtures("due")
async def test_without_a_secret_nothing_is_sent_and_nothing_lost(receiver, worker, again, ask):
    await worker(secret="").run()
    assert (await ask(STATE))[0][2].startswith("WEBHOOK_SECRET is not set")
    await again()
    await worker(secret=f"{SECRET} whsec_{'bmV3' * 10}").run()
    assert receiver.received[0].verified()
    assert receiver.received[0].verified(f"whsec_{'bmV3' * 10}")


async def test_over_tls_the_receivers_certificate_must_be_right(
    http, worker, seal, ask, again, certificate, monkeypatch
):
    """The address is the one that was judged; the name is the one that the certificate must have."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with receiving(ssl=context) as (receiver, port):
        await put(http, rewards={"url": f"https://localhost:{port}/"})
        await http.delete(SEASON)
        await seal()
        await worker().run()
        assert "certificate verify failed" in (await ask(STATE))[0][2]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await again()
        await worker().run()
        assert (await ask(STATE))[0][0] == "done"
        await ask(
            "update deliveries set status = 'pending', body = '', next_at = now(), url = %s returning 1",
            f"https://127.0.0.1:{port}/",
        )
        await worker().run()
        assert "certificate verify failed" in (await ask(STATE))[0][2]
        assert len(receiver.received) == 1


async def test_what_is_due_is_found_among_what_was_delivered(pool):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into deliveries "
            "(season_id, epoch, url, webhook_id, body, body_digest, body_bytes, status, next_at) "
            "select 's' || n, 1, '', '', case when n > 19900 then ''::bytea end, '', 0, "
            "case when n > 19900 then 'pending' else 'done' end, now() + (n - 19950) * interval '1 h' "
            "from generate_series(1, 20000) as n"
        )
        await conn.execute("analyze deliveries")
        plan = await (await conn.execute(f"explain {deliveries.CLAIM}", (30.0, 16))).fetchall()
        assert len(await deliveries.claim(conn, 16)) == 16
    assert any("deliveries_pending_idx" in row[0] for row in plan), plan
    assert not any("Seq Scan" in row[0] for row in plan), plan


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of localhost, signed by itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_a_restored_ledger_tells_of_an_epoch_under_the_same_id(http, receiver, seal, pool, ask):
    """A backup of before it was written down: receivers count it once."""
    await put(http, rewards={"url": receiver.url})
    await http.post(f"{SEASON}/close")
    await seal()
    told = []
    async with pool.connection() as conn:
        for _ in range(2):
            async with conn.transaction(force_rollback=True):
                assert await deliveries.write(conn) == "race"
                told += await (await conn.execute("select webhook_id from deliveries")).fetchall()
    assert told[0] == told[1]
    ((ended_at,),) = await ask("select ended_at from season_epochs")
    assert told[0][0] == deliveries.webhook_id("race", 1, ended_at) != deliveries.webhook_id("race", 2, ended_at)


async def test_who_is_erased_while_ranks_are_written_down_is_not_told_of(http, receiver, seal, pool, drain):
    await put(http, rewards={"url": receiver.url})
    await http.post(f"{SEASON}/scores", json={"userId": "ann", "delta": 30})
    await drain()
    await http.delete(SEASON)
    await seal()
    async with pool.connection() as writing, pool.connection() as conn:
        async with writing.transaction():
            assert await deliveries.write(writing) == "race"
            await moderation_requests.ask_for(conn, "erase", "race", "ann", Wish("test", None, "a test"))
            erasing = asyncio.create_task(drain())
            waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            while not await (await conn.execute(waits)).fetchone():
                assert not erasing.done()
        assert await erasing == 1
        (body,) = await (await conn.execute("select body from deliveries")).fetchone()
        assert b"ann" not in body
        assert b"bob" in body


async def test_a_reset_and_what_is_written_down_of_its_season_do_not_deadlock(http, receiver, seal, pool):
    """Closed, sealed, and reset just as it is written down."""
    await put(http, rewards={"url": receiver.url})
    await http.post(f"{SEASON}/close")
    await seal()
    async with pool.connection() as writing, pool.connection() as resetting:
        async with resetting.transaction():
            await seasons.lock(resetting, ["race"])
            await epochs.end(resetting, "race", "reset", followed=True)
            async with writing.transaction():
                assert await deliveries.write(writing) is None
        async with writing.transaction():
            assert await deliveries.write(writing) == "race"
