"""API keys: what they look like, what they allow, and how they are kept: only the digest of a secret is.

`lbk_<id>_<secret>`: the id says which key it is and may be told to anybody, 256 random bits are the secret. A plain
SHA-256 is right for those: nobody guesses them, and a slow hash would only slow every request down.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from shared.postgres import Connection

Scope: TypeAlias = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

_FORM: Final = re.compile(r"lbk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_GAME: Final = re.compile(r"game:[0-9]+")
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32


class ApiKey(NamedTuple):
    """What a key allows. `season_prefixes`: with what the ids of its seasons begin, none = all seasons. `digest`: that
    of the secret that a request came with, empty where none did."""

    key_id: str
    scopes: frozenset[Scope]
    season_prefixes: tuple[str, ...]
    digest: bytes = b""

    def allows(self, scope: Scope) -> bool:
        """admin allows everything; read and write allow nothing but themselves."""
        return scope in self.scopes or "admin" in self.scopes

    def reaches(self, season_id: str) -> bool:
        """A prefix that is a whole game, such as game:7, is that game: 70 is another one."""
        return not self.season_prefixes or any(
            season_id == prefix if _GAME.fullmatch(prefix) else season_id.startswith(prefix)
            for prefix in self.season_prefixes
        )


class LiveKey(NamedTuple):
    """A key that is not revoked, and the digests that it answers to: while it is rotated, those of two secrets."""

    key: ApiKey
    digests: tuple[bytes, ...]


class StoredKey(NamedTuple):
    """A row of the table, without its digests. `previous_until`: so long the secret before the last rotation holds."""

    key_id: str
    name: str
    scopes: list[Scope]
    season_prefixes: list[str]
    created_at: dt.datetime
    rotated_at: dt.datetime | None
    previous_until: dt.datetime | None
    revoked_at: dt.datetime | None


def new_key(key_id: str | None = None) -> tuple[str, str]:
    """A key id, or the one given, and a key that nobody has yet."""
    key_id = key_id or secrets.token_hex(_ID_BYTES)
    return key_id, f"lbk_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def id_in(key: str) -> str | None:
    """The id that the key says of itself, None where it has not the form of one."""
    found = _FORM.fullmatch(key)
    return None if found is None else found[1]


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


# A revoked key stays as a row: that there was one says that this service is not open to everybody.
_LIVE = """
select key_id, scopes, season_prefixes, digest, case when previous_until > now() then previous_digest end
from api_keys where revoked_at is null
"""

_ANY = "select exists (select from api_keys)"

_STORED = """
select key_id, name, scopes, season_prefixes, created_at, rotated_at,
  case when previous_until > now() then previous_until end, revoked_at
from api_keys order by created_at, key_id
"""

_CREATE = "insert into api_keys (key_id, name, digest, scopes, season_prefixes) values (%s, %s, %s, %s, %s)"

_REVOKE = "update api_keys set revoked_at = now() where key_id = any(%s) and revoked_at is null returning key_id"

_ROTATE = """
update api_keys set digest = %s, rotated_at = now(),
  previous_digest = digest, previous_until = now() + %s * interval '1 hour'
where key_id = %s and revoked_at is null
"""

_KNOWN = "select key_id from api_keys where key_id = any(%s)"


async def live(conn: Connection) -> list[LiveKey]:
    cursor = await conn.execute(_LIVE)
    return [
        LiveKey(
            ApiKey(key_id, frozenset(scopes), tuple(prefixes)),
            tuple(bytes(digest) for digest in digests if digest is not None),
        )
        for key_id, scopes, prefixes, *digests in await cursor.fetchall()
    ]


async def any_made(conn: Connection) -> bool:
    """Whether a key was ever made, revoked ones included."""
    cursor = await conn.execute(_ANY)
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def stored(conn: Connection) -> list[StoredKey]:
    """All keys that were ever made, the oldest first."""
    cursor = await conn.execute(_STORED)
    return [StoredKey(*row) for row in await cursor.fetchall()]


async def create(conn: Connection, name: str, scopes: Sequence[Scope], season_prefixes: Sequence[str]) -> str:
    """Make a key; returns it. It is kept nowhere."""
    key_id, key = new_key()
    await conn.execute(_CREATE, (key_id, name, digest_of(key), list(scopes), list(season_prefixes)))
    return key


async def rotate(conn: Connection, key_id: str, grace_hours: float) -> str | None:
    """A new secret for a key, the one before holds for `grace_hours` more. None where there is no such live key."""
    _, key = new_key(key_id)
    cursor = await conn.execute(_ROTATE, (digest_of(key), grace_hours, key_id))
    return key if cursor.rowcount else None


async def revoke(conn: Connection, key_ids: Sequence[str]) -> list[str]:
    """Revoke these keys, for ever; returns those that were live until now."""
    cursor = await conn.execute(_REVOKE, (list(key_ids),))
    return [row[0] for row in await cursor.fetchall()]


async def unknown(conn: Connection, key_ids: Sequence[str]) -> list[str]:
    """Of these ids those that no key ever had."""
    cursor = await conn.execute(_KNOWN, (list(key_ids),))
    found = {row[0] for row in await cursor.fetchall()}
    return [key_id for key_id in key_ids if key_id not in found]
