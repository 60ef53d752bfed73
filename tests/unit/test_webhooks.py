"""Webhooks: where they may go, how they are signed, and how long they are tried."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
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


ZONE = "%" + "a" * 80


@pytest.mark.parametrize("reach", ["public", "any"])
@pytest.mark.parametrize(
    "host",
    [
        *(f"[::ffff:93.184.216.34{ZONE}]", f"[2606:4700::1111{ZONE}]", "[2606:4700::1111%25eth0]", "93.184.216.34%1"),
        *("[2606:4700::1111]x", "x[2606:4700::1111]", "[v1.x]", "game.example%41", "@game.example"),
    ],
)
def test_what_is_no_plain_host_is_none(host, reach):
    with pytest.raises(InvalidRequestError, match=r"rewards\.url must be a URL"):
        target_of(f"https://{host}/", reach)


def in_ipv6(ipv4):
    """What stands for it there."""
    number = int(ipaddress.IPv4Address(ipv4))
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    yield from (f"::{ipv4}", f"::ffff:{ipv4}", f"::ffff:0:{ipv4}", f"64:ff9b::{ipv4}", f"2002:{high}:{low}::1")


@pytest.mark.parametrize(
    "ipv4", ["127.0.0.1", "10.0.0.8", "100.64.0.1", "192.168.1.1", "192.0.0.1", "192.0.0.9", "198.18.0.1", "240.0.0.1"]
)
def test_what_stands_for_an_inner_address_is_judged_as_that(ipv4):
    assert [address for address in (ipv4, *in_ipv6(ipv4)) if may_go(address, "public")] == []
    assert all(may_go(address, "any") for address in (ipv4, *in_ipv6(ipv4)))


@pytest.mark.parametrize(
    "ipv4", ["169.254.169.254", "169.254.1.1", "168.63.129.16", "100.100.100.200", "192.0.0.192", "224.0.0.1"]
)
def test_where_clouds_tell_secrets_nobody_may_go(ipv4):
    for address in (ipv4, *in_ipv6(ipv4)):
        assert not may_go(address, "any"), address
        assert not may_go(address, "public"), address


@pytest.mark.parametrize("address", ["fd00:ec2::254", "fe80::1", "64:ff9b:1::7f00:1", "2001:0:1::1", "ff02::1", "::"])
def test_ipv6_that_nobody_may_go_to(address):
    assert not may_go(address, "any")
    assert not may_go(address, "public")


@pytest.mark.parametrize(
    "address", ["::1", "fec0::1", "fd00::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1", "100::1", "4000::1"]
)
def test_ipv6_that_is_not_public(address):
    assert not may_go(address, "public")
    assert may_go(address, "any")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "2a00:1450::1", *in_ipv6("93.184.216.34")])
def test_public_addresses(address):
    assert may_go(address, "public")


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
