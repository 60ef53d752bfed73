"""`leaderboard export`: a season's board to a file or to standard output, straight from PostgreSQL."""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from cli.console import bar, complain, counted, print_json
from cli.servers import connected_ledger
from cli.whole_files import require_absent, whole
from shared.board_export import exported
from shared.board_files import About, Format, writer_of
from shared.scores import parse_season_id
from shared.settings import Settings
from shared.windows import Window


class ReaderLeftError(Exception):
    """Who read standard output has seen enough."""


class Exported(NamedTuple):
    """`file`: None = standard output."""

    about: About
    file: Path | None
    seconds: float


async def export(
    settings: Settings, season: str, window: Window | None, kind: Format, file: Path | None, *, force: bool
) -> Exported:
    """Raises SeasonNotFoundError, ConflictError where there is no such window, FileExistsAlreadyError, FolderError,
    ReaderLeftError, and as `connected_ledger`."""
    started = time.monotonic()
    season_id = parse_season_id(season)
    if file is not None:
        require_absent(file, force=force)
    async with (
        connected_ledger(settings) as pool,
        pool.connection() as conn,
        exported(conn, season_id, window) as (about, chunks),
    ):
        writer = writer_of(kind, about)
        with _opened(file, force=force) as out, bar("players", about.players, paced=True) as progress:
            out.write(writer.head())
            async for rows in chunks:
                out.write(writer.lines(rows))
                progress.add(len(rows))
    return Exported(about, file, time.monotonic() - started)


@contextmanager
def _opened(file: Path | None, *, force: bool) -> Iterator[BinaryIO]:
    if file is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise ReaderLeftError from None
        return
    with whole(file, force=force) as partial:
        packed = file.suffix == ".gz"
        with cast("BinaryIO", gzip.open(partial, "wb", compresslevel=5)) if packed else partial.open("wb") as out:
            yield out


def print_exported(done: Exported, *, as_json: bool) -> None:
    """Nothing where the board itself went to standard output, but for a word beside it on a terminal."""
    about, file, seconds = done
    if file is None:
        if sys.stderr.isatty():
            complain(f"{counted(about.players, 'player')} in {seconds:.1f} s")
        return
    size = file.stat().st_size
    if as_json:
        print_json(
            {
                "seasonId": about.season_id,
                "epoch": about.epoch,
                "exportedAt": about.exported_at,
                "players": about.players,
                "file": str(file),
                "bytes": size,
                "seconds": round(seconds, 3),
            }
        )
        return
    print(f"{file}: {counted(about.players, 'player')}, {size:,} bytes, in {seconds:.1f} s")


def close_standard_output() -> None:
    """Nobody reads it any more, of which Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
