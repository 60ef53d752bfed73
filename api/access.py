"""Who may do what: keys as `Authorization: Bearer`, compared in memory, read anew from PostgreSQL every two seconds.

A key that is made, rotated or revoked is felt within that time. While PostgreSQL does not answer, the keys that were
last read hold: nobody can revoke one there meanwhile, and reads go on. A key is never logged, nor told in an answer.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import random
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

import psycopg
import structlog
from starlette.types import Scope

from api.answers import head_of
from shared import api_keys
from shared.api_keys import ApiKey, LiveKey
from shared.errors import ForbiddenError, PostgresUnavailableError, UnauthorizedError, UnavailableError
from shared.postgres import Pool
from shared.settings import Settings

_REFRESH_SECONDS: Final = 2.0
_BEARER: Final = b"bearer "
_NO_DIGEST: Final = bytes(32)

ADMIN: Final = ApiKey("ADMIN_KEY", frozenset({"admin"}), ())
"""The key of the setting of that name."""

log = structlog.get_logger()


class Need(Enum):
    """What an endpoint asks of who calls it."""

    OPEN = auto()
    """Nothing: whether the service lives, and pages and documents that hold no data."""
    READ = auto()
    """A key that may read, or none where reading is open."""
    WRITE = auto()
    ADMIN = auto()
    METRICS = auto()
    """A key that may read and is bound to no seasons; never none once there are keys."""


class NobodyAllowedError(Exception):
    """The service would refuse everybody, or is about to be open to a network without anybody having said so."""


class Access:
    """The keys of one process. It asks nothing of anybody while none was ever made and the service may be open."""

    def __init__(self, settings: Settings) -> None:
        given = settings.admin_key
        self._admin_digest = None if given is None else api_keys.digest_of(given.get_secret_value())
        self._may_be_open = settings.allow_anonymous or is_loopback(settings.api_host)
        self._origins = frozenset(settings.origins)
        self._reads_open = settings.read_access == "open"
        self._keys: Mapping[str, LiveKey] | None = None
        self.asks = True
        """Whether it asks for keys."""
        self.first_read = asyncio.Event()
        """Set once they were read, or could not be."""

    async def load(self, pool: Pool) -> None:
        """Read all keys. Raises what psycopg raises."""
        async with pool.connection() as conn:
            # In this order: the first key, made in between, must not be asked for while it is not known.
            any_made = await api_keys.any_made(conn)
            keys = await api_keys.live(conn)
        self._keys = {live.key.key_id: live for live in keys}
        self.asks = any_made or bool(keys) or self._admin_digest is not None or not self._may_be_open

    async def follow(self, pool: Pool) -> None:
        """Read them again and again, until cancelled."""
        failures = 0
        while True:
            try:
                await self.load(pool)
                failures = 0
            except (psycopg.Error, OSError, TimeoutError) as error:
                failures += 1
                if failures == 1:
                    log.warning("keys not read", error=str(error).strip() or type(error).__name__)
            self.first_read.set()
            await asyncio.sleep(_REFRESH_SECONDS * (0.8 + 0.4 * random.random()))  # noqa: S311 - jitter

    def holds(self, key: ApiKey | None) -> bool:
        """Whether a request to read that passed by this key, or without one, would still pass."""
        if key is None:
            return not self.asks or self._reads_open
        if key is ADMIN or self._keys is None:
            return True
        live = self._keys.get(key.key_id)
        return live is not None and live.key == key._replace(digest=b"") and key.digest in live.digests

    def refuse_foreign_page(self, scope: Scope) -> None:
        """Raise ForbiddenError where a web page of another origin would change something while no key is asked for:
        browsers send some requests for any page, and only this machine is meant to be let in."""
        head = head_of(scope)
        origin = head.get(b"origin")
        if self.asks or origin is None or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return
        own = head.get(b"host", b"")
        if origin not in (b"http://" + own, b"https://" + own) and origin.decode("latin-1") not in self._origins:
            raise ForbiddenError("this page's origin is not in CORS_ORIGINS, and no key was made", code="wrong_origin")

    def admit(self, scope: Scope, need: Need, *, season_in_body: bool = False) -> ApiKey | None:
        """The key of a request that may pass, None where it needs none. Raises UnauthorizedError, ForbiddenError.

        `season_in_body`: the handler asks `require_season` itself, once it knows the season.
        """
        if not self.asks or need is Need.OPEN:
            return None
        given = head_of(scope).get(b"authorization")
        if given is None:
            if need is Need.READ and self._reads_open:
                return None
            if self._keys is None and self._admin_digest is None:
                raise _unread()  # perhaps there are none
            raise UnauthorizedError("this needs a key: send the header Authorization: Bearer <key>")
        key = self._known(given)
        if need is Need.READ and self._reads_open:
            return key
        _require_scope(key, need)
        if key.season_prefixes and not season_in_body:
            season_id = _season_in_path(scope)
            if season_id is None:
                raise ForbiddenError(
                    f"this concerns all seasons; the key is for {_told(key)} only", code="wrong_season"
                )
            require_season(key, season_id)
        return key

    def _known(self, header: bytes) -> ApiKey:
        """The key of that header. Compared in constant time: how long it takes tells nothing of any secret."""
        if header[: len(_BEARER)].lower() != _BEARER:
            raise UnauthorizedError("Authorization must be: Bearer <key>", code="invalid_key")
        text = header[len(_BEARER) :].strip().decode("latin-1")
        digest = api_keys.digest_of(text)
        if self._admin_digest is not None and hmac.compare_digest(digest, self._admin_digest):
            return ADMIN
        if self._keys is None:
            raise _unread()
        live = self._keys.get(api_keys.id_in(text) or "")
        matches = False
        for kept in live.digests if live is not None else (_NO_DIGEST,):
            matches |= hmac.compare_digest(digest, kept)
        if live is None or not matches:
            raise UnauthorizedError("the key is not known, was revoked, or is incomplete", code="invalid_key")
        return live.key._replace(digest=digest)


def require_season(key: ApiKey | None, season_id: str) -> None:
    """Raise ForbiddenError where the key is bound to other seasons."""
    if key is not None and not key.reaches(season_id):
        raise ForbiddenError(f"the key is for {_told(key)}, not for this season", code="wrong_season")


def require_some_key(settings: Settings, *, any_made: bool) -> None:
    """Raise NobodyAllowedError where a service with these settings would be open to a network unawares."""
    if any_made or settings.admin_key is not None or settings.allow_anonymous or is_loopback(settings.api_host):
        return
    raise NobodyAllowedError(
        f"API_HOST {settings.api_host} is reached from outside, and there is no key yet. Make one with `leaderboard "
        "keys create`, or set ADMIN_KEY; ALLOW_ANONYMOUS=true serves everybody who gets there"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_scope(key: ApiKey, need: Need) -> None:
    match need:
        case Need.WRITE:
            allowed, word = key.allows("write"), "write"
        case Need.ADMIN:
            allowed, word = key.allows("admin"), "admin"
        case _:
            allowed, word = key.allows("read"), "read"
    if not allowed:
        raise ForbiddenError(f"this needs a key with the scope {word}", code="insufficient_scope")


def _season_in_path(scope: Scope) -> str | None:
    found = scope["path_params"]
    if "sid" in found:
        return str(found["sid"])
    return f"game:{found['game_id']}" if "game_id" in found else None


def _unread() -> UnavailableError:
    return PostgresUnavailableError("keys can't be read at the moment; try again shortly")


def _told(key: ApiKey) -> str:
    return "seasons that begin with " + " or ".join(key.season_prefixes)
