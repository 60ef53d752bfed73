"""`leaderboard export` and `import`: the commands, their options and what they teach."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TypeAlias, TypeVar, cast, get_args

import typer

from cli.console import fail, run_to_end, settings_or_fail
from shared.board_files import FORMATS, Format
from shared.errors import ConflictError, InvalidRequestError
from shared.scores import Aggregation, Order, TieBreak, parse_season_id
from shared.settings import Settings
from shared.windows import WINDOWS, Window

T = TypeVar("T")

_STAYS: Final = ", what was added before stays: the same command goes on there"

_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print the result as one JSON document")]
_Format: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="ndjson or csv [default: as the file's name says; - to be read needs it]",
        show_default=False,
    ),
]


def export(
    season: Annotated[str, typer.Argument(help="a season's id", show_default=False)],
    *,
    format: _Format = None,  # noqa: A002 - the option's name
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="the file [default: standard output]; .gz packs it", show_default=False),
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="24h, 3d or 7d, in seasons that have windows", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the file, once the new one is whole")] = False,
    json: _Json = False,
) -> None:
    """Write a season's whole board, best first, as of one moment: rank, userId, score, and reachedAt where that counts.

    Straight from PostgreSQL, beside the running service. The file gets its name when it is whole and on disk; one that
    is interrupted leaves nothing behind.
    """
    from cli import exports  # noqa: PLC0415

    kind = _format(format, "" if output is None else output.name, "ndjson")
    span = cast("Window | None", _one_of(window, "--window", WINDOWS))
    settings = settings_or_fail()
    try:
        done = _done("export", settings, exports.export(settings, season, span, kind, output, force=force))
    except exports.ReaderLeftError:
        exports.close_standard_output()
        return
    exports.print_exported(done, as_json=json)


def import_scores(
    file: Annotated[str, typer.Argument(help="NDJSON or CSV, packed with gzip or not; - = standard input")],
    *,
    season: Annotated[str, typer.Option("--season", help="into this season", show_default=False)],
    format: _Format = None,  # noqa: A002 - the option's name
    aggregation: Annotated[
        str | None, typer.Option(help="of a season that is new: sum, best or latest", show_default=False)
    ] = None,
    order: Annotated[str | None, typer.Option(help="of a season that is new: desc or asc", show_default=False)] = None,
    windows: Annotated[
        bool | None, typer.Option("--windows/--no-windows", help="of a season that is new", show_default=False)
    ] = None,
    tie_break: Annotated[
        str | None, typer.Option(help="of a season that is new: member or earliest", show_default=False)
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="leave out lines that are wrong")] = False,
    again: Annotated[bool, typer.Option("--again", help="count a file once more that was imported")] = False,
    backlog: Annotated[
        int | None,
        typer.Option(min=0, help="pause while more scores than so many wait for a worker", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="end once all of it is on the board")] = False,
    json: _Json = False,
) -> None:
    """Add a file's scores to a season: what `export` wrote, or any lines with userId and score.

    All of the file is checked first; where a line is wrong, nothing is imported. An import that is interrupted, at
    whatever moment, goes on where it was when it is run again; a file that was imported does nothing again, until the
    season is reset. Scores go through the ledger like all others: in a season that sums they are points to add, else
    scores that were reached, at reachedAt where the line says it. What is read from standard input is kept in a
    temporary file first.
    """
    from cli import imports  # noqa: PLC0415
    from cli.fitting_seasons import Choice  # noqa: PLC0415

    name = "standard input" if file == "-" else Path(file).name
    kind = _format(format, name, None)
    choice = Choice(
        cast("Aggregation | None", _one_of(aggregation, "--aggregation", get_args(Aggregation))),
        cast("Order | None", _one_of(order, "--order", get_args(Order))),
        windows,
        cast("TieBreak | None", _one_of(tie_break, "--tie-break", get_args(TieBreak))),
    )
    manner = imports.Manner(skip_bad=skip_bad, again=again, wait=wait, backlog=backlog)
    settings = settings_or_fail()
    try:
        season_id = parse_season_id(season)
    except InvalidRequestError as error:
        fail(error.message, code=2)
    with _opened(file) as raw:
        source = imports.Source(raw, name, kind)
        done = _done("import", settings, imports.load(settings, source, season_id, choice, manner))
    imports.print_imported(done, name, as_json=json)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The file, such that it can be read twice."""
    try:
        if file != "-":
            with Path(file).open("rb") as raw:
                yield raw
            return
        with tempfile.TemporaryFile() as raw:
            shutil.copyfileobj(sys.stdin.buffer, raw)
            yield cast("BinaryIO", raw)
    except OSError as error:
        fail(f"can't read {file}: {error.strerror}", code=2)


def _format(given: str | None, name: str, otherwise: Format | None) -> Format:
    if given is not None:
        return cast("Format", _one_of(given, "--format", FORMATS))
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix == ".csv":
        return "csv"
    if suffix in (".ndjson", ".jsonl"):
        return "ndjson"
    if otherwise is None:
        fail("say --format ndjson or csv: the file's name does not tell", code=2)
    return otherwise


def _one_of(given: str | None, option: str, words: tuple[str, ...]) -> str | None:
    if given is not None and given not in words:
        fail(f"{option} must be one of {', '.join(words)}, not {given!r}", code=2)
    return given


def _done(process: str, settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    from cli.imports import BadLinesError  # noqa: PLC0415
    from cli.score_files import FileError  # noqa: PLC0415
    from cli.whole_files import FileExistsAlreadyError, FolderError  # noqa: PLC0415

    try:
        return run_to_end(process, settings, work, stays=_STAYS if process == "import" else "")
    except FileExistsAlreadyError as error:
        fail(str(error), code=2)
    except (BadLinesError, FileError, FolderError) as error:
        fail(str(error))
    except ConflictError as error:
        fail(error.message)
