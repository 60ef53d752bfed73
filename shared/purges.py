"""Deleting what is no longer needed, in small batches: the rules that worker and operator share.

Several at once do no harm. Nothing that is pending or failed is ever deleted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from shared import epoch_purges, ledger, outbox, seasons, snapshots
from shared.postgres import Connection, Pool

_CHUNK: Final = 2000

_Step: TypeAlias = Callable[[Connection, int], Awaitable[outbox.Purged]]
"""Deletes a chunk behind the place that the chunk before ended at (0 = the first)."""


class Deleted(NamedTuple):
    """A chunk that was deleted: of what, and how many rows."""

    what: str
    rows: int


class Purge:
    """Deletes done and discarded events, idempotency keys and archives past their retentions, and what belongs to other
    epochs that a reset ended. `key_retention_hours` None: no key. `archive_retention_days` 0: no archive."""

    def __init__(
        self,
        pool: Pool,
        *,
        retention_hours: float,
        key_retention_hours: float | None,
        archive_retention_days: float = 0,
    ) -> None:
        self._pool = pool
        self._steps: dict[str, _Step] = {"outbox events": partial(_outbox, retention_hours=retention_hours)}
        if key_retention_hours is not None:
            self._steps["idempotency keys"] = partial(_keys, retention_hours=key_retention_hours)
        self._steps["minutes of ended epochs"] = partial(_ended, table="window_buckets")
        self._steps["standings of ended epochs"] = partial(_ended, table="standings")
        self._steps["snapshots of ended epochs"] = _snapshots
        self._steps["final ranks of ended epochs"] = partial(_final_ranks, retention_days=archive_retention_days)
        self._steps["ledger rows of ended epochs"] = _ledger_rows

    @property
    def kinds(self) -> list[str]:
        return list(self._steps)

    async def run(self) -> AsyncIterator[Deleted]:
        """Delete all that may go; yields after each chunk, also after one where nothing was."""
        for what, step in self._steps.items():
            after: int | None = 0
            while after is not None:
                async with self._pool.connection() as conn:
                    purged = await step(conn, after)
                after = purged.next_after
                yield Deleted(what, purged.deleted)


async def _outbox(conn: Connection, after: int, *, retention_hours: float) -> outbox.Purged:
    return await outbox.purge(conn, after=after, retention_hours=retention_hours, limit=_CHUNK)


async def _keys(conn: Connection, _after: int, *, retention_hours: float) -> outbox.Purged:
    deleted = await ledger.purge_keys(conn, retention_hours, _CHUNK)
    return outbox.Purged(deleted, 0 if deleted == _CHUNK else None)


async def _ended(conn: Connection, _after: int, *, table: seasons.EpochTable) -> outbox.Purged:
    deleted = await seasons.purge_ended_epochs(conn, table, _CHUNK)
    return outbox.Purged(deleted, 0 if deleted == _CHUNK else None)


async def _snapshots(conn: Connection, _after: int) -> outbox.Purged:
    deleted = await snapshots.purge(conn, _CHUNK)
    return outbox.Purged(deleted, 0 if deleted == _CHUNK else None)


async def _final_ranks(conn: Connection, after: int, *, retention_days: float) -> outbox.Purged:
    if not after:
        await epoch_purges.expire(conn, retention_days)
    deleted = await epoch_purges.purge(conn, "final_ranks", _CHUNK)
    return outbox.Purged(deleted, 1 if deleted == _CHUNK else None)


async def _ledger_rows(conn: Connection, _after: int) -> outbox.Purged:
    deleted = await epoch_purges.purge(conn, "score_events", _CHUNK)
    if deleted < _CHUNK:
        deleted += await epoch_purges.purge_unnoted(conn, _CHUNK)
    if deleted < _CHUNK:
        await epoch_purges.note(conn)
    return outbox.Purged(deleted, 0 if deleted >= _CHUNK else None)
