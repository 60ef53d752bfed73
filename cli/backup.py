"""`leaderboard backup`: the ledger and all that hangs on it in one file, whole or not at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from cli import archives
from cli.archives import ArchiveError
from cli.console import bar, print_json, tell_place
from cli.servers import connected_to, ledger_dsn, place
from cli.whole_files import require_absent, whole
from shared.revision import current_revision
from shared.settings import Settings


class Backup(NamedTuple):
    """`size` in bytes."""

    file: Path
    size: int
    revision: str
    seconds: float


async def back_up(settings: Settings, file: Path, *, force: bool) -> Backup:
    """Dump the database, as of one moment; the service goes on. What is dumped is on disk before it gets its name.

    Raises FileExistsAlreadyError, FolderError, ArchiveError, and as `connected_to`.
    """
    started = time.monotonic()
    require_absent(file, force=force)
    dsn = ledger_dsn(settings)
    async with connected_to(dsn) as conn:
        tell_place(place(conn))
        revision = await current_revision(conn)
        major = conn.info.server_version // 10_000
    if revision is None:
        raise ArchiveError("the database has no leaderboard in it: nothing to back up")
    program = archives.to_dump(major)
    with whole(file, force=force) as partial, bar("bytes written", None) as progress:
        # Who waits for a table that a migration holds holds up all that comes after it.
        argv = ["--format=custom", "--lock-wait-timeout=5s", f"--file={partial}"]
        await archives.run(program, argv, dsn, lambda: progress.reach(partial.stat().st_size))
    return Backup(file, file.stat().st_size, revision, time.monotonic() - started)  # noqa: ASYNC240 - one look


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
