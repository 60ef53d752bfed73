"""Where webhooks may go: the rules, without I/O.

An admin key may be a game's, bound to its seasons; the worker that sends stands inside the operator's network. So a URL
names a public server unless the operator's settings say otherwise, and what its name resolves to is judged anew at each
attempt, right before that very address is connected to (docs/decisions/0027-tournaments.md).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from shared.errors import InvalidRequestError

Reach: TypeAlias = Literal["public", "any"]
"""https to public addresses alone, or http and addresses of the own network too."""

MAX_URL_LENGTH: Final = 2048
DEFAULT_TOP: Final = 100
MAX_TOP: Final = 1000

_VISIBLE: Final = re.compile(r"[!-~]+")
_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*"
)
_PORTS: Final = {"https": 443, "http": 80}

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Target(NamedTuple):
    """`authority`: host and port as a Host header says them. `resource`: path and query."""

    secure: bool
    host: str
    port: int
    authority: str
    resource: str


def target_of(url: str, reach: Reach) -> Target:
    """InvalidRequestError where it is no URL that webhooks may go to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _invalid() from None
    address = _address(host)
    if (
        len(url) > MAX_URL_LENGTH
        or not _VISIBLE.fullmatch(url)
        or parts.scheme not in _PORTS
        or (address is None and not _NAME.fullmatch(host))
        or port == 0
        or "@" in parts.netloc
        or "#" in url
    ):
        raise _invalid()
    if reach == "public" and parts.scheme != "https":
        raise InvalidRequestError("rewards.url must be https://, unless WEBHOOK_TARGETS=any", code="invalid_rewards")
    if address is not None and not may_go(host, reach):
        raise InvalidRequestError(
            "rewards.url must not name an address of the own network, unless WEBHOOK_TARGETS=any, and none that is "
            "link-local",
            code="invalid_rewards",
        )
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port or _PORTS[parts.scheme], parts.netloc, resource)


def may_go(address: str, reach: Reach) -> bool:
    """Whether webhooks may go to that IP address. Link-local ones are never right: clouds tell secrets there."""
    found = _address(address)
    if found is None or found.is_link_local or found.is_multicast or found.is_unspecified:
        return False
    return reach == "any" or found.is_global


def require_top(top: int) -> int:
    if not 1 <= top <= MAX_TOP:
        raise InvalidRequestError(f"rewards.top must be from 1 to {MAX_TOP}, not {top}", code="invalid_rewards")
    return top


def _address(text: str) -> _Address | None:
    """The address, of one that stands for an IPv4 address in IPv6 that one; None where it is none."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found.packed[:12] == _NAT64:
            return ipaddress.IPv4Address(found.packed[12:])
    return found


_NAT64: Final = ipaddress.IPv6Address("64:ff9b::").packed[:12]


def _invalid() -> InvalidRequestError:
    return InvalidRequestError(
        f"rewards.url must be a URL of at most {MAX_URL_LENGTH} visible ASCII characters, https://host/path, without "
        "user, password and fragment",
        code="invalid_rewards",
    )
