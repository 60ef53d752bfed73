"""`leaderboard restore`: a backup becomes the ledger, whole or not at all, and the boards follow it.

It is restored, migrated and marked beside the database that is there, and takes its name in one transaction.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cli import archives, migrations
from cli.archives import ArchiveError
from cli.console import bar, print_json, tell_place
from cli.servers import connected_to, ledger_dsn, place
from shared import seasons
from shared.postgres import Connection
from shared.revision import REVISION, current_revision
from shared.settings import Settings

_JOBS: Final = 4
_RESTORING: Final = "_restoring"
_LONGEST_NAME: Final = 63

_DATABASE: Final = """
select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype, datlocale
from pg_database where datname = %s
"""

_IS_EMPTY: Final = """
select not exists (
  select from pg_class join pg_namespace on pg_namespace.oid = relnamespace
  where nspname not in ('pg_catalog', 'information_schema', 'pg_toast'))
"""

_END_SESSIONS: Final = "select pg_terminate_backend(pid) from pg_stat_activity where datname = any(%s)"

_PROVIDERS: Final = {"c": "libc", "i": "icu", "b": "builtin"}


class NotEmptyError(Exception):
    """The message says what to do."""


class Restored(NamedTuple):
    """`kept`: the name under which the database from before is kept, None where it was empty or there was none."""

    database: str
    dumped_revision: str
    kept: str | None
    seconds: float


class _Before(NamedTuple):
    empty: bool
    history: int


async def restore(settings: Settings, file: Path, *, replace: bool) -> Restored:
    """Put the backup in the place of the database; sessions on that are ended. On any failure nothing is changed.

    Raises NotEmptyError, ArchiveError, migrations.MigrationError, and as `connected_to`.
    """
    started = time.monotonic()
    if not file.is_file():  # noqa: ASYNC240 - one look
        raise ArchiveError(f"there is no file {file}")
    dsn = ledger_dsn(settings)
    async with connected_to(_on(dsn, "postgres")) as admin:
        database = str(conninfo_to_dict(dsn).get("dbname") or admin.info.user)
        tell_place(place(admin).rpartition("/")[0] + f"/{database}")
        program = archives.to_restore(admin.info.server_version // 10_000)
        found = await archives.contents(program, file)
        if found.revision > REVISION:
            raise ArchiveError(f"{file} has schema {found.revision}, this build knows {REVISION}: take the later build")
        before = await _look(_on(dsn, database), admin, database)
        if before is not None and not before.empty and not replace:
            raise NotEmptyError(
                f"database {database} is not empty; --replace puts the backup in its place, and keeps it under "
                "another name"
            )
        await _alone(admin)
        scratch = (database[: _LONGEST_NAME - len(_RESTORING)]) + _RESTORING
        await _drop(admin, scratch)  # of one that was killed
        try:
            await _create(admin, scratch, like=database)
            await _fill(program, file, _on(dsn, scratch), history=0 if before is None else before.history + 1)
            kept = await _swap(admin, dsn, scratch, database, before)
        except BaseException:
            await asyncio.shield(_drop(admin, scratch))
            raise
    return Restored(database, found.revision, kept, time.monotonic() - started)


async def _look(dsn: str, admin: Connection, database: str) -> _Before | None:
    if await (await admin.execute(_DATABASE, (database,))).fetchone() is None:
        return None
    async with connected_to(dsn) as conn:
        (empty,) = await _row(conn, _IS_EMPTY)
        history = 0
        if not empty and await current_revision(conn) is not None:
            try:
                history = await seasons.history(conn)
            except psycopg.errors.UndefinedTable:  # a schema from before there was one
                history = 0
    return _Before(bool(empty), history)


async def _alone(admin: Connection) -> None:
    (alone,) = await _row(admin, "select pg_try_advisory_lock(hashtext('leaderboard-restore'))")
    if not alone:
        raise ArchiveError("another restore is under way on this server")


async def _create(admin: Connection, name: str, *, like: str) -> None:
    """An empty database with the owner, encoding and locale of another, where there is that one."""
    query = sql.SQL("create database {} template template0").format(sql.Identifier(name))
    row = await (await admin.execute(_DATABASE, (like,))).fetchone()
    if row is not None:
        owner, encoding, provider, collate, ctype, locale = row
        query += sql.SQL(" owner {} encoding {} locale_provider {} lc_collate {} lc_ctype {}").format(
            sql.Identifier(owner), encoding, sql.SQL(_PROVIDERS[provider]), collate, ctype
        )
        if locale is not None:
            query += sql.SQL(" {} {}").format(sql.SQL(f"{_PROVIDERS[provider]}_locale"), locale)
    await admin.execute(query)


async def _fill(program: archives.Program, file: Path, dsn: str, *, history: int) -> None:
    argv = ["--no-owner", "--no-privileges", "--exit-on-error", f"--jobs={min(_JOBS, os.cpu_count() or 1)}", str(file)]
    with bar("restoring", None) as progress:
        await archives.run(program, argv, dsn, lambda: progress.say("restoring"))
        progress.say("migrating")
        await asyncio.to_thread(migrations.migrate, dsn)
        progress.say("analyzing")
        async with connected_to(dsn) as conn:
            await seasons.note_restore(conn, history)
            await conn.execute("analyze")


async def _swap(admin: Connection, dsn: str, scratch: str, database: str, before: _Before | None) -> str | None:
    """Give the database's name to the restored one; returns what that from before is called now.

    A rename keeps new sessions waiting and waits 5 s for those that there are: they are ended meanwhile.
    """
    now = dt.datetime.now(dt.UTC)
    kept = (database[: _LONGEST_NAME - 23]) + f"_before_{now:%Y%m%d_%H%M%S}"

    async def rename() -> None:
        async with admin.transaction():
            for old, new in [(database, kept)] if before is not None else []:
                await admin.execute(_RENAME.format(sql.Identifier(old), sql.Identifier(new)))
            await admin.execute(_RENAME.format(sql.Identifier(scratch), sql.Identifier(database)))

    async with connected_to(_on(dsn, "postgres")) as other:
        renaming = asyncio.create_task(rename())
        while not renaming.done():
            await other.execute(_END_SESSIONS, ([database, scratch],))
            await asyncio.wait([renaming], timeout=0.1)
        await renaming
    if before is None:
        return None
    if before.empty:
        await _drop(admin, kept)
        return None
    return kept


_RENAME: Final = sql.SQL("alter database {} rename to {}")


async def _drop(admin: Connection, name: str) -> None:
    await admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


async def _row(conn: Connection, query: str) -> tuple[Any, ...]:
    row = await (await conn.execute(query)).fetchone()
    assert row is not None
    return row


def _on(dsn: str, database: str) -> str:
    return make_conninfo(dsn, dbname=database)


def print_restored(restored: Restored, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "database": restored.database,
                "dumpedRevision": restored.dumped_revision,
                "revision": REVISION,
                "kept": restored.kept,
                "seconds": round(restored.seconds, 3),
            }
        )
        return
    was = "" if restored.dumped_revision == REVISION else f", migrated from {restored.dumped_revision}"
    print(f"database {restored.database} restored in {restored.seconds:.1f} s, schema {REVISION}{was}")
    if restored.kept is not None:
        print(
            f"what was there before is database {restored.kept}; once it is not needed: drop database {restored.kept}"
        )
    print("workers build all boards anew by themselves; see that it is done: leaderboard verify")
