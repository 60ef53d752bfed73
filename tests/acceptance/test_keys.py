"""`leaderboard keys` and what keys do to processes that run: made, listed, rotated, revoked, and told nowhere else."""

from __future__ import annotations

import json
import re

import httpx2
import psycopg
import pytest
from ports import free_port

from shared import api_keys

ADMIN_KEY = "hush-hush-hush-hush-hush-0123456789"
SCORE = {"userId": "ann", "delta": 1}


@pytest.fixture
def keys(program, dsn):
    """Runs a command against the test's database."""

    def run(*argv):
        done = program("cli", "keys", *argv, POSTGRES_DSN=dsn)
        assert "Traceback" not in done.stderr
        return done

    return run


def test_keys_from_their_making_to_their_end(keys):
    assert keys("list").stdout == "no keys; `leaderboard keys create` makes one\n"
    done = keys("create", "Game server EU", "--scope", "write", "--scope", "read", "--season-prefix", "eu-")
    assert done.returncode == 0
    key = done.stdout.strip()
    key_id = api_keys.id_in(key)
    made = json.loads(keys("create", "ops", "--scope", "admin", "--json").stdout)
    assert api_keys.id_in(made["key"]) == made["id"]

    listed = keys("list").stdout
    line = next(line for line in listed.splitlines() if key_id in line)
    assert re.split(r"\s{2,}", line.strip())[:4] == [key_id, "Game server EU", "write, read", "eu-…"]
    assert key not in listed

    rotated = keys("rotate", key_id).stdout.strip()
    assert api_keys.id_in(rotated) == key_id
    assert rotated != key
    first, second = json.loads(keys("list", "--json").stdout)
    assert (first["id"], first["scopes"], first["seasonPrefixes"]) == (key_id, ["write", "read"], ["eu-"])
    assert first["previousUntil"] is not None
    assert second["revokedAt"] is None

    assert keys("revoke", key_id, made["id"]).stdout == "revoked 2 keys\n"
    assert keys("revoke", key_id).stdout == "revoked 0 keys, 1 had been before\n"
    assert all(key["revokedAt"] for key in json.loads(keys("list", "--json").stdout))
    done = keys("rotate", key_id)
    assert (done.returncode, done.stdout) == (2, "")


def test_what_is_wrong_is_told_and_changes_nothing(keys, dsn):
    wrong = {
        "--scope must be one of read, write, admin": ["create", "x", "--scope", "write", "--scope", "root"],
        "beginning of a season's id": ["create", "x", "--scope", "read", "--season-prefix", "eu/"],
        "name must not be empty": ["create", " ", "--scope", "read"],
        "--scope": ["create", "x"],
        "no key has the id 0123456789ab, none was revoked": ["revoke", "0123456789ab"],
        "no key that holds has the id nobody": ["rotate", "nobody"],
    }
    for told, argv in wrong.items():
        done = keys(*argv)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in re.sub(r"\s+", " ", done.stderr)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select count(*) from api_keys").fetchone() == (0,)


def test_an_address_for_others_needs_a_key_first(program, start_program, until, keys, dsn, servers):
    given = {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url, "API_HOST": "0.0.0.0", "API_PORT": free_port()}
    done = program("api", **given)
    assert (done.returncode, done.stdout) == (1, "")
    for word in ("api: can't start", "leaderboard keys create", "ADMIN_KEY", "ALLOW_ANONYMOUS"):
        assert word in done.stderr
    url = f"http://127.0.0.1:{given['API_PORT']}/v1/seasons/s/scores"

    def answers(**headers):
        try:
            return httpx2.post(url, json=SCORE, headers=headers, trust_env=False).status_code
        except httpx2.TransportError:
            return None

    open_to_all = start_program("api", **given, ALLOW_ANONYMOUS="true", API_WORKERS=1)
    until(lambda: answers() == 202, "everybody may")
    open_to_all.terminate()
    out, err = open_to_all.communicate()
    assert "no keys" in out + err

    key = keys("create", "game", "--scope", "write").stdout.strip()
    start_program("api", **given, API_WORKERS=1)
    until(lambda: answers() == 401, "nobody may without a key")
    assert answers(Authorization=f"Bearer {key}") == 202


def test_no_secret_is_ever_logged(start_program, until, keys, dsn, servers):
    """At the most talkative level, whatever is asked and whatever fails."""
    key = keys("create", "game", "--scope", "write").stdout.strip()
    unknown = f"lbk_{'0' * 12}_{'Q' * 43}"
    given = {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url, "API_PORT": free_port(), "WORKER_HEALTH_PORT": 0}
    given |= {"LOG_LEVEL": "debug", "ADMIN_KEY": ADMIN_KEY, "READ_ACCESS": "keyed", "API_WORKERS": 2}
    api, worker = start_program("api", **given), start_program("worker", **given)
    url = f"http://127.0.0.1:{given['API_PORT']}"

    def ask(method, path, secret, **body):
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx2.request(method, f"{url}{path}", headers=headers, trust_env=False, **body)

    def lives():
        try:
            return httpx2.get(f"{url}/healthz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    until(lives, "the API answers")
    season = "/v1/seasons/s"
    for secret in (key, ADMIN_KEY, unknown):
        ask("POST", f"{season}/scores", secret, json=SCORE)
        ask("POST", f"{season}/scores", secret, content=b"{")
        ask("GET", f"{season}/leaderboard/top", secret)
        ask("DELETE", season, secret)
        ask("GET", f"/nothing?key={secret}", secret)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("alter table score_events rename to away")
        assert ask("POST", f"{season}/scores", key, json=SCORE).status_code == 503
        conn.execute("alter table away rename to score_events")
    said = ""
    for process in (api, worker):
        process.terminate()
        said += "".join(process.communicate())
    assert said.count("season") > 5
    password = psycopg.conninfo.conninfo_to_dict(dsn)["password"]
    assert [secret for secret in (key, key[17:], ADMIN_KEY, unknown, f":{password}@") if secret in said] == []


def test_a_wrong_admin_key_is_not_told(program, dsn, servers):
    done = program("api", POSTGRES_DSN=dsn, REDIS_URL=servers.redis_url, ADMIN_KEY="short secret")
    assert done.returncode == 2
    assert "ADMIN_KEY: " in done.stderr
    assert "short secret" not in done.stderr


def test_the_first_key_tells_what_it_closes(keys):
    told = "this is the first key: from now on writing, /ops and /metrics need one"
    assert told in keys("create", "mine", "--scope", "admin").stderr
    assert told not in keys("create", "another", "--scope", "write").stderr
