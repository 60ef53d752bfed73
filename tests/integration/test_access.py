"""Keys: who may do what, and how soon a change of the keys is felt. Over HTTP, against a running API."""

from __future__ import annotations

import contextlib
import signal

import psycopg
import pytest
from conftest import client_of, make_settings, serving
from stream_client import listening

from api import access, streams
from api.app import create_app
from shared import api_keys

ADMIN_KEY = "an-admin-key-of-a-deployment"
SCORE = {"userId": "ann", "delta": 1}
TOP = "/v1/seasons/eu-1/leaderboard/top"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Keys are read anew all the time, so that no test waits for it."""
    monkeypatch.setattr(access, "_REFRESH_SECONDS", 0.01)


@pytest.fixture
def make(pool):
    """Makes a key."""

    async def make_now(*scopes, prefixes=()):
        async with pool.connection() as conn:
            return await api_keys.create(conn, "test", scopes, prefixes)

    return make_now


@pytest.fixture
def api(dsn, redis, servers):  # noqa: ARG001 - emptied before
    """Serves the API with further settings."""

    @contextlib.asynccontextmanager
    async def serve(**changes):
        settings = make_settings(dsn, servers.redis_url, **changes)
        async with serving(create_app(settings)) as url, client_of(url) as client:
            yield client

    return serve


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def told(response):
    return response.status_code, response.json().get("code")


async def awaited(ask, status):
    """The first answer of that status; the test's timeout bounds it."""
    while (response := await ask()).status_code != status:
        pass
    return response


WRITES = [
    ("POST", "/v1/seasons/eu-1/scores", SCORE),
    ("POST", "/v1/seasons/eu-1/scores/batch", [SCORE]),
    ("POST", "/api/leaderboard/score", {"game_id": 7, "user_id": 1, "score": 2}),
]
ADMINISTERS = [
    ("PUT", "/v1/seasons/eu-1", {}),
    ("POST", "/v1/seasons/eu-1/close", None),
    ("DELETE", "/v1/seasons/eu-1", None),
]
READS = [
    ("GET", TOP, None),
    ("GET", "/v1/seasons/eu-1/leaderboard/rank?userId=ann", None),
    ("GET", "/v1/seasons/eu-1/leaderboard/around?userId=ann", None),
    ("POST", "/v1/seasons/eu-1/leaderboard/ranks", {"userIds": ["ann"]}),
    ("GET", "/v1/users/ann/ranks", None),
    ("GET", "/v1/seasons", None),
    ("GET", "/v1/seasons/eu-1", None),
    ("GET", "/api/leaderboard/top/7", None),
    ("GET", "/api/leaderboard/rank/7/1", None),
]
OPEN = ["/healthz", "/readyz", "/api/health", "/openapi.json", "/docs"]


@pytest.mark.parametrize("read_access", ["open", "keyed"])
async def test_each_scope_allows_its_own_and_admin_everything(api, make, read_access):
    keys = {scope: await make(scope) for scope in ("read", "write", "admin")}
    async with api(read_access=read_access, admin_key=ADMIN_KEY) as http:
        for calls, needed in ((WRITES, "write"), (ADMINISTERS, "admin"), (READS, "read")):
            open_to_all = needed == "read" and read_access == "open"
            for method, path, body in calls:
                without = await http.request(method, path, json=body)
                if open_to_all:
                    assert without.status_code in (200, 404), path
                else:
                    assert told(without) == (401, "unauthorized"), path
                    assert without.headers["www-authenticate"] == 'Bearer realm="leaderboard"'
                for scope, key in keys.items():
                    response = await http.request(method, path, json=body, headers=bearer(key))
                    if scope in (needed, "admin") or open_to_all:
                        assert response.status_code in (200, 201, 202, 404, 409), (path, scope, response.text)
                    else:
                        assert told(response) == (403, "insufficient_scope"), (path, scope)
        for path in OPEN:
            assert (await http.get(path)).status_code == 200
        assert (await http.delete("/v1/seasons/eu-1", headers=bearer(ADMIN_KEY))).status_code == 200


async def test_a_key_of_seasons_reaches_no_others(api, make):
    key = await make("read", "write", "admin", prefixes=["eu-", "game:7"])
    async with api(read_access="keyed") as http:
        for method, path, body in [*WRITES, *ADMINISTERS]:
            response = await http.request(method, path, json=body, headers=bearer(key))
            assert response.status_code in (200, 201, 202, 409), path
        elsewhere = [
            *[(method, path.replace("eu-1", "us-1"), body) for method, path, body in WRITES[:2] + ADMINISTERS + READS],
            ("POST", "/api/leaderboard/score", {"game_id": 8, "user_id": 1, "score": 2}),
            ("GET", "/api/leaderboard/top/8", None),
            ("GET", "/api/leaderboard/rank/8/1", None),
            ("GET", "/api/leaderboard/top/70", None),
        ]
        for method, path, body in elsewhere:
            response = await http.request(method, path, json=body, headers=bearer(key))
            if path.rstrip("/1").endswith("/7"):
                assert response.status_code in (200, 404), path
            else:
                assert told(response) == (403, "wrong_season"), path
                assert "eu- or game:7" in response.json()["error"]


async def test_a_kept_answer_is_for_those_who_may_read(api, make):
    key = await make("read")
    async with api(read_access="keyed") as http:
        for _ in range(3):
            assert (await http.get(TOP, headers=bearer(key))).status_code == 200
            assert (await http.get(TOP)).status_code == 401
            assert (await http.head(TOP)).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Basic dTpw",
        "Bearer lbk_000000000000_" + "A" * 43,
        "Bearer " + "A" * 64,
        "bearer lbk_é",
        f"Bearer {ADMIN_KEY}x",
        f"Bearer {ADMIN_KEY[:-1]}",
    ],
)
async def test_what_is_no_key_is_told_so_even_where_reading_is_open(api, header):
    async with api(admin_key=ADMIN_KEY) as http:
        response = await http.get(TOP, headers={"Authorization": header.encode("latin-1")})
        assert told(response) == (401, "invalid_key")
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
        assert ADMIN_KEY[:10] not in response.text


async def test_a_secret_of_another_key_opens_nothing(api, make):
    first, second = await make("write"), await make("write")
    mixed = first[:17] + second[17:]
    assert api_keys.id_in(mixed) == api_keys.id_in(first)
    async with api() as http:
        assert told(await http.post("/v1/seasons/s/scores", json=SCORE, headers=bearer(mixed))) == (
            401,
            "invalid_key",
        )


async def test_what_is_made_rotated_or_revoked_is_felt_by_a_running_api(api, make, pool):
    async with api() as http:

        def write(key=None):
            return http.post("/v1/seasons/s/scores", json=SCORE, headers=bearer(key) if key else {})

        assert (await write()).status_code == 202  # no key was ever made
        key = await make("write")
        key_id = api_keys.id_in(key)
        await awaited(write, 401)
        await awaited(lambda: write(key), 202)
        async with pool.connection() as conn:
            newer = await api_keys.rotate(conn, key_id, grace_hours=1)
        await awaited(lambda: write(newer), 202)
        assert (await write(key)).status_code == 202
        async with pool.connection() as conn:
            newest = await api_keys.rotate(conn, key_id, grace_hours=0)
        await awaited(lambda: write(newest), 202)
        await awaited(lambda: write(newer), 401)
        await awaited(lambda: write(key), 401)
        async with pool.connection() as conn:
            assert await api_keys.revoke(conn, [key_id]) == [key_id]
            assert await api_keys.rotate(conn, key_id, grace_hours=1) is None
        await awaited(lambda: write(newest), 401)
        assert (await write()).status_code == 401  # the last key is gone: still closed


async def test_only_digests_are_stored(make, pool):
    key = await make("admin")
    async with pool.connection() as conn:
        row = await (await conn.execute("select t::text, digest from api_keys as t")).fetchone()
    assert key not in row[0]
    assert key[17:].encode().hex() not in row[0]
    assert row[1] == api_keys.digest_of(key)


async def test_another_address_than_loopback_is_closed_without_keys(api):
    async with api(api_host="192.0.2.1") as http:
        assert (await http.post("/v1/seasons/s/scores", json=SCORE)).status_code == 401
    async with api(api_host="192.0.2.1", allow_anonymous=True) as http:
        assert (await http.post("/v1/seasons/s/scores", json=SCORE)).status_code == 202


async def test_while_postgres_is_gone_the_keys_that_were_read_hold(own_postgres, servers, redis):  # noqa: ARG001
    settings = make_settings(own_postgres.dsn(), servers.redis_url, admin_key=ADMIN_KEY, read_access="keyed")
    async with await psycopg.AsyncConnection.connect(own_postgres.dsn()) as conn:
        key = await api_keys.create(conn, "test", ["read"], [])
    async with serving(create_app(settings)) as url, client_of(url) as http:
        assert (await http.get(TOP, headers=bearer(key))).status_code == 200
        own_postgres.running.send_signal(signal.SIGKILL)
        await own_postgres.running.wait()
        for _ in range(20):
            assert (await http.get(TOP, headers=bearer(key))).status_code == 200
            assert (await http.get(TOP)).status_code == 401
    # One that never read them knows its admin key only.
    async with serving(create_app(settings)) as url, client_of(url) as http:
        assert told(await http.get(TOP, headers=bearer(key))) == (503, "postgres_unavailable")
        assert (await http.get(TOP, headers=bearer(ADMIN_KEY))).status_code == 200


@pytest.mark.parametrize("end", ["revoked", "rotated"])
async def test_a_stream_ends_with_its_key(api, make, pool, monkeypatch, end):
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.05)
    key, other = await make("read"), await make("read")
    async with api(read_access="keyed") as http:
        path = "/v1/seasons/eu-1/leaderboard/stream"
        assert (await http.get(path)).status_code == 401
        async with listening(http, path, Authorization=f"Bearer {key}") as stream:
            async with listening(http, path, Authorization=f"Bearer {other}") as unharmed:
                await stream.event()
                await unharmed.event()
                async with pool.connection() as conn:
                    if end == "revoked":
                        await api_keys.revoke(conn, [api_keys.id_in(key)])
                    else:
                        await api_keys.rotate(conn, api_keys.id_in(key), grace_hours=0)
                assert await stream.message() is None
            assert (await http.get(path, headers=bearer(key))).status_code == 401


async def test_a_stream_of_nobody_ends_once_reading_needs_a_key(api, make, monkeypatch):
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.05)
    async with api(read_access="keyed") as http, listening(http, "/v1/seasons/eu-1/leaderboard/stream") as stream:
        await stream.event()
        await make("read")
        assert await stream.message() is None


async def test_the_first_key_is_not_asked_for_before_it_is_known(settings, pool, make, monkeypatch):
    """It is made between the two questions, whichever comes first."""
    made = []

    def then_made(ask):
        async def asked(conn):
            found = await ask(conn)
            if not made:
                made.append(await make("write"))
            return found

        return asked

    for name in ("any_made", "live"):
        monkeypatch.setattr(api_keys, name, then_made(getattr(api_keys, name)))
    keys = access.Access(settings)
    await keys.load(pool)
    assert made
    assert keys.asks
    scope = {"method": "POST", "path_params": {}, "headers": [(b"authorization", f"Bearer {made[0]}".encode())]}
    assert keys.admit(scope, access.Need.WRITE) is not None


async def test_while_there_is_no_key_pages_of_others_change_nothing(api, make):
    """Browsers send such requests without asking first."""
    async with api() as http:
        own = str(http.base_url).rstrip("/")
        for method, path, body in [*WRITES, *ADMINISTERS]:
            response = await http.request(method, path, json=body, headers={"Origin": "https://evil.example"})
            assert told(response) == (403, "wrong_origin"), path
            response = await http.request(method, path, json=body, headers={"Origin": own})
            assert response.status_code in (200, 201, 202, 409), path
        assert (await http.get(TOP, headers={"Origin": "https://evil.example"})).status_code == 200
        key = await make("write")
        await awaited(lambda: http.post("/v1/seasons/s/scores", json=SCORE), 401)
        headers = {"Origin": "https://evil.example", **bearer(key)}
        assert (await http.post("/v1/seasons/s/scores", json=SCORE, headers=headers)).status_code == 202
