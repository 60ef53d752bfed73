"""Where webhooks may go: the rules, without I/O.

An admin key may be a game's, bound to its seasons; the worker that sends stands inside the operator's network. So a URL
names a public server unless the operator's settings say otherwise, and what its name resolves to is judged anew at each
attempt, right before that very address is connected to (docs/decisions/0027-tournaments.md).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
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
_PORT: Final = re.compile(r"(:[0-9]*)?")
_PORTS: Final = {"https": 443, "http": 80}

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# The clouds' own services that are not link-local, and prefixes behind which an IPv4 address stands that they do not
# tell for certain: NAT64 of one's own (RFC 8215), Teredo.
_NEVER: Final = tuple(
    map(
        ipaddress.ip_network,
        ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::/32", "64:ff9b:1::/48", "2001::/32"),
    )
)

# IPv4-compatible, -mapped, -translated (RFC 2765), NAT64 (RFC 6052).
_IPV4_AT_THE_END: Final = tuple(
    map(ipaddress.ip_network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
)

_PUBLIC_IPV6: Final = ipaddress.ip_network("2000::/3")

# Of what counts as global or is not known to `ipaddress` in each version of Python: for protocols, for documentation.
_NOT_PUBLIC: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "2001::/23", "3fff::/20")))


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
        or not _is_plain(parts.netloc.lower(), host)
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
    """Whether webhooks may go to that IP address. Some are never right: clouds tell secrets there."""
    found = _address(address)
    if found is None or found.is_link_local or found.is_multicast or found.is_unspecified or _within(found, _NEVER):
        return False
    return reach == "any" or _is_public(found)


def require_top(top: int) -> int:
    if not 1 <= top <= MAX_TOP:
        raise InvalidRequestError(f"rewards.top must be from 1 to {MAX_TOP}, not {top}", code="invalid_rewards")
    return top


def _is_plain(netloc: str, host: str) -> bool:
    """Whether it is that host, perhaps with a port, and nothing else: no user, nothing around the brackets."""
    shown = f"[{host}]" if ":" in host else host
    return netloc.startswith(shown) and _PORT.fullmatch(netloc.removeprefix(shown)) is not None


def _address(text: str) -> _Address | None:
    """The address, of one that stands for an IPv4 address in IPv6 that one; None where it is none, or has a zone."""
    if "%" in text:
        return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv4Address) or found.is_loopback or found.is_unspecified:
        return found
    if found.sixtofour is not None:
        return found.sixtofour
    return ipaddress.IPv4Address(found.packed[12:]) if _within(found, _IPV4_AT_THE_END) else found


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_IPV6:
        return False
    return address.is_global and not _within(address, _NOT_PUBLIC)


def _within(address: _Address, networks: Iterable[_Network]) -> bool:
    return any(address in network for network in networks)


def _invalid() -> InvalidRequestError:
    return InvalidRequestError(
        f"rewards.url must be a URL of at most {MAX_URL_LENGTH} visible ASCII characters, https://host/path, without "
        "user, password and fragment",
        code="invalid_rewards",
    )
