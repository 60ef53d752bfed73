"""Webhooks: where they may go, how they are signed, and how long they are tried."""

from __future__ import annotations

import base64
import datetime as dt
import json

import pytest
from standardwebhooks.webhooks import Webhook

from shared.deliveries import PAUSES, pause_seconds
from shared.errors import InvalidRequestError
from shared.webhook_signature import secrets_in, signature
from shared.webhook_targets import may_go, target_of

OLD, NEW = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def test_each_receiver_that_knows_one_of_the_secrets_is_content():
    body = json.dumps({"name": "Zoë"}).encode()
    seconds = int(dt.datetime.now(dt.UTC).timestamp())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature(secrets_in(f"{OLD} {NEW}"), "msg_1", seconds, body),
    }
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(body, headers) == {"name": "Zoë"}
    for changed in ({**headers, "webhook-id": "msg_2"}, {**headers, "webhook-timestamp": str(seconds + 1)}):
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(OLD).verify(body, changed)


@pytest.mark.parametrize("text", ["secret", "whsec_", "whsec_AAAA", "whsec_%%%", OLD[6:], "whsec_" + "A" * 92])
def test_what_is_no_secret_is_refused_without_being_told(text):
    with pytest.raises(ValueError, match="24 to 64 bytes") as caught:
        secrets_in(f"{OLD} {text}")
    assert text == "whsec_" or text not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "resource"),
    [
        ("https://game.example", "game.example", 443, "game.example", "/"),
        ("https://Game.example:8443/a/b?c=d", "game.example", 8443, "Game.example:8443", "/a/b?c=d"),
        ("https://93.184.215.14/x", "93.184.215.14", 443, "93.184.215.14", "/x"),
        ("https://[2606:4700::1111]:444/x", "2606:4700::1111", 444, "[2606:4700::1111]:444", "/x"),
    ],
)
def test_what_may_be_a_url(url, host, port, authority, resource):
    found = target_of(url, "public")
    assert (found.secure, *found[1:]) == (True, host, port, authority, resource)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "game.example",
            "ftp://game.example",
            "http://game.example",
            "https://",
            "https://a b/",
            "https://ä.example",
        ),
        *("https://user:pass@game.example/", "https://game.example/#x", "https://game.example:0/", "https://[::1/"),
        *(
            "https://game.example:99999/",
            "https://game..example/",
            "https://" + "a" * 64 + "/",
            "https://a/" + "b" * 2048,
        ),
        *(
            "https://127.0.0.1/",
            "https://10.0.0.8/",
            "https://169.254.169.254/",
            "https://[::1]/",
            "https://[fe80::1]/",
        ),
        *("https://[::ffff:10.0.0.8]/", "https://[64:ff9b::a9fe:a9fe]/", "https://0.0.0.0/", "https://224.0.0.1/"),
    ],
)
def test_what_may_be_none(url):
    with pytest.raises(InvalidRequestError, match=r"rewards\.url") as caught:
        target_of(url, "public")
    assert caught.value.code == "invalid_rewards"


def test_the_own_network_where_the_settings_say_so():
    assert target_of("http://10.0.0.8:9000/x", "any")[:3] == (False, "10.0.0.8", 9000)
    assert may_go("127.0.0.1", "any")
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0", "::ffff:169.254.1.1"):
        assert not may_go(address, "any")


def test_a_receiver_is_tried_for_three_days_ever_less_often():
    assert list(PAUSES) == sorted(PAUSES)
    assert 3 * 86_400 <= sum(pause_seconds(number, 0.5) for number in range(1, len(PAUSES) + 1)) <= 3.5 * 86_400
    assert pause_seconds(1, 0.0) < PAUSES[0] < pause_seconds(1, 0.999)
    assert pause_seconds(len(PAUSES) + 1, 0.5) is None
