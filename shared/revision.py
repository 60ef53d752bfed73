"""Which schema this build needs, and whether a database has it. A test keeps REVISION equal to alembic's head.

Revisions are numbers of four digits, so that they compare as text.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import psycopg

REVISION: Final = "0026"

SchemaState = Literal["ok", "missing"]


class StaleSchemaError(Exception):
    """The database's schema is not the one this build needs; the message names the command that mends it."""


async def current_revision(conn: psycopg.AsyncConnection[Any]) -> str | None:
    """The revision that alembic noted in this database, None where it never ran."""
    try:
        cursor = await conn.execute("select version_num from alembic_version")
    except psycopg.errors.UndefinedTable:
        return None
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def schema_state(conn: psycopg.AsyncConnection[Any]) -> SchemaState:
    return "ok" if _suffices(await current_revision(conn)) else "missing"


async def require_schema(conn: psycopg.AsyncConnection[Any]) -> None:
    """Raise StaleSchemaError unless the database is at REVISION or beyond."""
    found = await current_revision(conn)
    if not _suffices(found):
        raise StaleSchemaError(
            f"the database's schema is at revision {found or 'none'}, this build needs {REVISION}; "
            "run: leaderboard migrate"
        )


def _suffices(found: str | None) -> bool:
    """A later schema too: migrations keep what the builds before them use, so that both run during a deploy."""
    return found is not None and found >= REVISION
