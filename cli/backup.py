"""`leaderboard backup`: the ledger and all that hangs on it in one file, whole or not at all."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cli import archives
from cli.archives import ArchiveError
from cli.console import bar, print_json, tell_place
from cli.servers import connected_to, ledger_dsn, place
from shared.revision import current_revision
from shared.settings import Settings


class FileExistsAlreadyError(Exception):
    """The message says what to do."""


class Backup(NamedTuple):
    """`size` in bytes."""

    file: Path
    size: int
    revision: str
    seconds: float


async def back_up(settings: Settings, file: Path, *, force: bool) -> Backup:
    """Dump the database, as of one moment; the service goes on. What is dumped is on disk before it gets its name.

    Raises FileExistsAlreadyError, ArchiveError, and as `connected_to`.
    """
    started = time.monotonic()
    if file.exists() and not force:  # noqa: ASYNC240 - one look
        raise FileExistsAlreadyError(f"{file} exists; --force replaces it once the new one is whole")
    dsn = ledger_dsn(settings)
    async with connected_to(dsn) as conn:
        tell_place(place(conn))
        revision = await current_revision(conn)
        major = conn.info.server_version // 10_000
    if revision is None:
        raise ArchiveError("the database has no leaderboard in it: nothing to back up")
    program = archives.to_dump(major)
    with _whole(file, force=force) as partial, bar("bytes written", None) as progress:
        # Who waits for a table that a migration holds holds up all that comes after it.
        argv = ["--format=custom", "--lock-wait-timeout=5s", f"--file={partial}"]
        await archives.run(program, argv, dsn, lambda: progress.reach(partial.stat().st_size))
    return Backup(file, file.stat().st_size, revision, time.monotonic() - started)  # noqa: ASYNC240 - one look


@contextmanager
def _whole(file: Path, *, force: bool) -> Iterator[Path]:
    """A name beside it to write to, which becomes `file` in the end, or goes away."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".partial", dir=file.parent)  # mode 600
    except OSError as error:
        raise ArchiveError(f"can't write to {file.parent}: {error.strerror}") from error
    partial = Path(name)
    try:
        yield partial
        os.fsync(handle)
        if force:
            partial.replace(file)
        else:
            try:
                file.hardlink_to(partial)  # unlike a rename, never over one that somebody made meanwhile
            except FileExistsError:
                raise FileExistsAlreadyError(f"{file} was made by somebody else meanwhile") from None
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    finally:
        os.close(handle)
        partial.unlink(missing_ok=True)


def print_backup(backup: Backup, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "file": str(backup.file),
                "bytes": backup.size,
                "revision": backup.revision,
                "seconds": round(backup.seconds, 3),
            }
        )
        return
    print(f"{backup.file}: {backup.size:,} bytes, schema {backup.revision}, in {backup.seconds:.1f} s")
