"""What is added to POSTGRES_DSN: a name and timeouts; what it says itself stays."""

from __future__ import annotations

import re

import pytest
from psycopg.conninfo import conninfo_to_dict

from shared.postgres import connection_settings

URL = "postgresql://ann:s%20e%2Fcret@db.example:6432/board?sslmode=require"
WORDS = "host=db.example port=6432 user=ann password='s e/cret' dbname=board sslmode=require"
OWN = {
    "host": "db.example",
    "port": "6432",
    "user": "ann",
    "password": "s e/cret",
    "dbname": "board",
    "sslmode": "require",
}


def settings_of(dsn):
    return conninfo_to_dict(
        connection_settings(dsn, "worker", statement_ms=3000, lock_ms=500, idle_in_transaction_ms=15_000)
    )


def options_of(dsn):
    """The server's settings in the order in which the server will take them."""
    words = re.split(r"(?<!\\) ", str(settings_of(dsn)["options"]))
    assert words[::2] == ["-c"] * (len(words) // 2)
    return [tuple(word.split("=", 1)) for word in words[1::2]]


@pytest.mark.parametrize("dsn", [URL, WORDS], ids=["url", "words"])
def test_what_the_dsn_says_stays(dsn):
    found = settings_of(dsn)
    assert {name: str(found[name]) for name in OWN} == OWN


@pytest.mark.parametrize("dsn", [URL, WORDS], ids=["url", "words"])
def test_the_connection_is_named_and_bounded(dsn):
    found = settings_of(dsn)
    assert found["application_name"] == "leaderboard-worker"
    assert int(found["connect_timeout"]) > 0
    assert int(found["tcp_user_timeout"]) > 0
    assert dict(options_of(dsn)) == {
        "statement_timeout": "3000",
        "lock_timeout": "500",
        "idle_in_transaction_session_timeout": "15000",
        "default_transaction_isolation": r"read\ committed",
        "jit": "off",
    }


@pytest.mark.parametrize(
    "dsn",
    [
        f"{URL}&options=-c%20search_path%3Dboards%20-c%20lock_timeout%3D9",
        f"{WORDS} options='-c search_path=boards -c lock_timeout=9'",
    ],
    ids=["url", "words"],
)
def test_its_own_options_stay_and_win(dsn):
    options = options_of(dsn)
    assert options[-2:] == [("search_path", "boards"), ("lock_timeout", "9")]
    assert dict(options)["statement_timeout"] == "3000"
    assert dict(options)["lock_timeout"] == "9"
