"""`leaderboard backup`, `restore`, `restored`: the commands, their options and what they teach."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from cli.console import fail, run_to_end, settings_or_fail
from shared.settings import Settings

T = TypeVar("T")

_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print the result as one JSON document")]


def backup(
    file: Annotated[Path, typer.Argument(help="where to write the backup", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="replace the file, once the new one is whole")] = False,
    json: _Json = False,
) -> None:
    """Write all of PostgreSQL to a file, as of one moment, beside the running service.

    pg_dump's custom format, readable by its owner alone. Redis needs no backup: boards are built from PostgreSQL. The
    file gets its name when it is whole and on disk; one that is interrupted leaves nothing behind.
    """
    from cli.backup import back_up, print_backup  # noqa: PLC0415

    settings = settings_or_fail()
    print_backup(_done("backup", settings, back_up(settings, file, force=force)), as_json=json)


def restore(
    file: Annotated[Path, typer.Argument(help="a backup", show_default=False)],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="put it in the place of a database that is not empty, which is kept beside it"),
    ] = False,
    json: _Json = False,
) -> None:
    """Make a backup the ledger; boards follow by themselves, whatever Redis shows.

    It is restored and migrated in a database of its own, which takes the name of POSTGRES_DSN's in one transaction: an
    interrupted one changes nothing. Needs the right to create databases. Stop the api first: scores that it takes until
    then stay in the database from before. Workers may run on.
    """
    from cli.restore import print_restored  # noqa: PLC0415
    from cli.restore import restore as restore_now  # noqa: PLC0415

    settings = settings_or_fail()
    print_restored(_done("restore", settings, restore_now(settings, file, replace=replace)), as_json=json)


def restored(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    json: _Json = False,
) -> None:
    """Tell the service that its PostgreSQL was restored by other means than `restore`: boards are built anew.

    After a storage snapshot, a pg_restore by hand, or a recovery that ended on no new timeline, workers can't tell a
    restored PostgreSQL from one that was deposed, and leave boards that are ahead of it alone.
    """
    from cli.restored import note, print_noted  # noqa: PLC0415

    settings = settings_or_fail()
    if not yes:
        if not sys.stdin.isatty():
            fail("this makes all boards follow this PostgreSQL; say --yes where nobody can be asked", code=2)
        typer.confirm("Is this PostgreSQL, and no other, the one that leads?", abort=True, err=True)
    print_noted(_done("restored", settings, note(settings)), as_json=json)


def _done(process: str, settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    from cli.archives import ArchiveError  # noqa: PLC0415
    from cli.migrations import MigrationError  # noqa: PLC0415
    from cli.restore import NotEmptyError  # noqa: PLC0415
    from cli.whole_files import FileExistsAlreadyError, FolderError  # noqa: PLC0415

    try:
        return run_to_end(process, settings, work)
    except (FileExistsAlreadyError, NotEmptyError) as error:
        fail(str(error), code=2)
    except (ArchiveError, FolderError, MigrationError) as error:
        fail(str(error))
