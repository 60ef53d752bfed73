"""Whether what was accepted until a moment is all committed. A score's moment is when its transaction began, so that
one may become visible after later ones."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Final

from shared.postgres import Connection

WRITERS: Final = ("leaderboard-api", "leaderboard-import", "leaderboard-cli")
"""The names of sessions that add to the ledger."""

_LEEWAY: Final = "interval '20 milliseconds'"
"""By which a session may be late to say that its transaction began."""

# The servers' own word on each session; those that only read are waited for as well, they are short.
_SETTLED: Final = f"""
select %s < clock_timestamp() - {_LEEWAY} and not exists (
  select from pg_stat_activity
  where datname = current_database() and application_name = any(%s) and pid <> pg_backend_pid() and xact_start <= %s)
"""  # noqa: S608 - constants

_PAUSE_SECONDS: Final = 0.01


async def is_settled(conn: Connection, moment: dt.datetime) -> bool:
    """Whether no transaction that began at that moment or before it can add to the ledger any more.

    Asked in a statement of its own, before the one that reads: what that sees is complete then. By PostgreSQL's clock.
    """
    row = await (await conn.execute(_SETTLED, (moment, list(WRITERS), moment))).fetchone()
    assert row is not None
    return bool(row[0])


async def settle(conn: Connection, moment: dt.datetime) -> None:
    """Return once that is so. Bounded by its caller's deadline; transactions that add scores take milliseconds."""
    while not await is_settled(conn, moment):  # noqa: ASYNC110 - PostgreSQL has no event for it
        await asyncio.sleep(_PAUSE_SECONDS)
