"""Which servers a command talks to, and talking to them: those of the settings, else those of `make run`.

Never one of each: a ledger and boards that do not belong together would be taken for one another's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import psycopg
from redis.exceptions import RedisError

from cli.embedded.memory import remembered
from cli.embedded.postgres import embedded_dsn
from cli.embedded.valkey import embedded_url
from shared.postgres import Connection, Pool, connection_settings, create_pool, wait_for_schema, wait_for_server
from shared.projection import Projection
from shared.redis_client import Client, create_client
from shared.revision import StaleSchemaError
from shared.settings import Settings

_STATEMENT_SECONDS: Final = 600
"""A season's ledger is summed in one statement, about a second per million events."""

_LOCK_SECONDS: Final = 5
_REDIS_SECONDS: Final = 10.0
_NONE: Final = (
    "{settings} not set, and {data_dir} remembers no embedded servers: set what is missing (environment or .env), or "
    "start servers with `make run`, or point DATA_DIR at where `make run` keeps its data"
)
_SILENT: Final = "PostgreSQL does not answer ({reason}); is it, or `make run`, running?"
_MIXED: Final = (
    "{missing} is not set, {given} is: whose ledger and whose boards are meant? Set both (environment or .env), or "
    "none to take the servers of `make run`"
)


class NoServersError(Exception):
    """No server is named, or not rightly; the message says what to set or start."""


class UnreachableError(Exception):
    """A server does not answer, or is not ready for this build; the message says which, and what would help."""


class Servers(NamedTuple):
    """`place`: which servers they are, in words without secrets."""

    pool: Pool
    projection: Projection
    place: str


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Servers]:
    """Both servers, once they answer; closed in the end. Raises NoServersError or UnreachableError."""
    url = _redis_url(settings)
    try:
        client = create_client(url, "cli", timeout_seconds=_REDIS_SECONDS, retries=1)
    except ValueError as error:
        raise NoServersError(f"REDIS_URL is wrong: {error}") from error
    try:
        async with connected_ledger(settings) as pool:
            try:
                await client.ping()
            except (RedisError, OSError) as error:
                raise UnreachableError(
                    f"Redis does not answer at {_without_password(url)} ({error}); is it, or `make run`, running?"
                ) from error
            yield Servers(pool, Projection(client), f"{await place_of(pool)} and {_place_of_redis(client)}")
    finally:
        await client.aclose()


@asynccontextmanager
async def connected_ledger(settings: Settings, process: str = "cli") -> AsyncIterator[Pool]:
    """PostgreSQL alone: what a command that needs no board can do while Redis is away. `process`: how its sessions are
    named."""
    try:
        conninfo = connection_settings(
            ledger_dsn(settings),
            process,
            statement_ms=_STATEMENT_SECONDS * 1000,
            lock_ms=_LOCK_SECONDS * 1000,
            # Who stops a command with Ctrl-Z inside a transaction must not hold a season for ever.
            idle_in_transaction_ms=60_000,
        )
    except psycopg.ProgrammingError as error:
        raise NoServersError(f"POSTGRES_DSN is wrong: {str(error).strip()}") from error
    await _require_postgres(conninfo)
    pool = create_pool(conninfo, max_size=2, min_size=1, patience_seconds=_STATEMENT_SECONDS + 5, wait_seconds=10)
    try:
        await pool.open()
        yield pool
    finally:
        await pool.close(timeout=0.5)


@asynccontextmanager
async def connected_to(dsn: str) -> AsyncIterator[Connection]:
    """One autocommit connection, whatever the database has in it. Raises NoServersError or UnreachableError."""
    try:
        # Statements that fill or copy a database have the time they need.
        conninfo = connection_settings(dsn, "cli", statement_ms=0, lock_ms=0, idle_in_transaction_ms=60_000)
    except psycopg.ProgrammingError as error:
        raise NoServersError(f"POSTGRES_DSN is wrong: {str(error).strip()}") from error
    try:
        conn = await wait_for_server(conninfo, 0)
    except psycopg.Error as error:
        raise UnreachableError(_SILENT.format(reason=str(error).strip())) from error
    async with conn:
        yield conn


def ledger_dsn(settings: Settings) -> str:
    """PostgreSQL of the settings, else that of `make run`. Raises NoServersError."""
    if settings.postgres_dsn:
        return settings.postgres_dsn
    memory = remembered(settings.data_dir)
    if memory is None:
        raise NoServersError(_NONE.format(settings="POSTGRES_DSN is", data_dir=settings.data_dir))
    return embedded_dsn(memory.postgres_port, memory.postgres_password)


def place(conn: Connection) -> str:
    """Which server and database this is, as the connection found it, whatever DSN and environment say."""
    info = conn.info
    return f"PostgreSQL {_address(info.host, info.port)}/{info.dbname}"


async def place_of(pool: Pool) -> str:
    async with pool.connection() as conn:
        return place(conn)


def _redis_url(settings: Settings) -> str:
    if settings.redis_url and settings.postgres_dsn:
        return settings.redis_url
    if settings.redis_url:
        raise NoServersError(_MIXED.format(missing="POSTGRES_DSN", given="REDIS_URL"))
    if settings.postgres_dsn:
        raise NoServersError(_MIXED.format(missing="REDIS_URL", given="POSTGRES_DSN"))
    memory = remembered(settings.data_dir)
    if memory is None:
        raise NoServersError(_NONE.format(settings="POSTGRES_DSN and REDIS_URL are", data_dir=settings.data_dir))
    return embedded_url(memory.valkey_port, memory.valkey_password)


def _place_of_redis(client: Client) -> str:
    found = client.connection_pool.connection_kwargs
    where = found.get("path") or _address(found.get("host", "localhost"), found.get("port", 6379))
    return f"Redis {where}/{found.get('db') or 0}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _require_postgres(conninfo: str) -> None:
    try:
        await wait_for_schema(conninfo, 0)
    except StaleSchemaError as error:
        raise UnreachableError(str(error)) from error
    except psycopg.Error as error:
        raise UnreachableError(_SILENT.format(reason=str(error).strip())) from error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
