"""Connections to PostgreSQL: named after their process, with a timeout on everything.

Nothing here retries a statement: who sent it knows whether sending it twice is right.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeAlias, TypeVar

import psycopg
import structlog
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.revision import require_schema

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
Pool: TypeAlias = AsyncConnectionPool["PatientConnection"]

T = TypeVar("T")

REFUSED = (psycopg.DataError, psycopg.IntegrityError)
"""What the database says of a row that it will never take. Everything else is trouble that may pass."""

log = structlog.get_logger()


def connection_settings(
    dsn: str, process: str, *, statement_ms: int, lock_ms: int, idle_in_transaction_ms: int, **further: str
) -> str:
    """`dsn` with the process's name, timeouts (milliseconds) and `further` settings of its sessions added; what `dsn`
    itself says of `options` stays."""
    ours = {
        "statement_timeout": statement_ms,
        "lock_timeout": lock_ms,
        "idle_in_transaction_session_timeout": idle_in_transaction_ms,
        "default_transaction_isolation": r"read\ committed",  # the batch protocol rests on it
        "jit": "off",
        **further,
    }
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    options = " ".join([*(f"-c {name}={value}" for name, value in ours.items()), str(given.get("options") or "")])
    return make_conninfo(
        dsn,
        application_name=f"leaderboard-{process}",
        options=options.strip(),
        connect_timeout=5,
        # A server that vanished without a word is noticed within about 15 s even while nothing is sent.
        keepalives_idle=5,
        keepalives_interval=5,
        keepalives_count=2,
        tcp_user_timeout=15_000,
    )


class PatientConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that gives up a server which took a statement and then says nothing.

    The server's own statement_timeout can't help when the server, or the network to it, is what stopped.
    """

    patience_seconds = 60.0

    async def wait(self, gen: PQGen[T], *args: Any, **named: Any) -> T:
        """As in psycopg; TimeoutError when nothing came within `patience_seconds`, and the connection is closed."""
        async with asyncio.timeout(self.patience_seconds):
            return await super().wait(gen, *args, **named)


def create_pool(
    conninfo: str, *, max_size: int, patience_seconds: float, min_size: int = 2, wait_seconds: float = 1.0
) -> Pool:
    """A closed pool of autocommit connections; a caller that waits longer than `wait_seconds` gets PoolTimeout.

    `patience_seconds` should be somewhat longer than the server's own statement timeout.
    """

    async def configure(conn: PatientConnection) -> None:
        conn.patience_seconds = patience_seconds

    return AsyncConnectionPool(
        conninfo,
        connection_class=PatientConnection,
        kwargs={"autocommit": True},
        min_size=min(min_size, max_size),
        max_size=max_size,
        timeout=wait_seconds,
        configure=configure,
        # Short, so that the pool asks again at the next request instead of sleeping through a recovery.
        reconnect_timeout=2.0,
        open=False,
    )


async def renew_if_lost(pool: Pool, error: Exception) -> None:
    """After an error that says that the server went away: the pool's idle connections are as dead as the one that
    noticed. Replace them, or each costs a request its answer."""
    if isinstance(error, psycopg.OperationalError) and not isinstance(error, PoolTimeout):
        state = error.sqlstate
        if state is None or state.startswith(("08", "57P")):
            await pool.drain()


async def wait_for_schema(conninfo: str, timeout_seconds: float) -> None:
    """Return once the database answers and has the right schema.

    Raises StaleSchemaError at once when the schema is another, psycopg.OperationalError when nothing answered in
    time. Run by each process before it opens anything else.
    """
    async with await wait_for_server(conninfo, timeout_seconds) as conn:
        await require_schema(conn)


async def schema_awaited(conninfo: str, timeout_seconds: float, stop: asyncio.Event) -> bool:
    """`wait_for_schema`, given up as soon as `stop` is set; returns whether to go on."""
    waiting = asyncio.create_task(wait_for_schema(conninfo, timeout_seconds))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        return False
    stopping.cancel()
    await waiting
    return not stop.is_set()


async def wait_for_server(conninfo: str, timeout_seconds: float) -> Connection:
    """A connection, as soon as the server gives one; psycopg.OperationalError when it did not in time."""
    give_up_at = time.monotonic() + timeout_seconds
    announced = False
    while True:
        try:
            return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            if time.monotonic() >= give_up_at:
                raise
            if not announced:
                log.info("waiting for PostgreSQL", seconds=timeout_seconds, reason=str(error).strip())
                announced = True
            await asyncio.sleep(0.2)
