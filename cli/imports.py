"""`leaderboard import`: a file of scores into a season, once, whatever interrupts it.

All of the file is read before anything of it counts. Then chunk after chunk is committed, each together with how far
the file is read (`shared.imports`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import BinaryIO, Final, NamedTuple

from cli.console import Bar, bar, complain, counted, print_json, tell_place
from cli.fitting_seasons import Choice, fitting
from cli.score_files import FileError, Mistake, ScoreFile
from cli.servers import connected_ledger, place
from shared import imports
from shared.board_files import About, Format
from shared.errors import ConflictError
from shared.imports import Import, State
from shared.postgres import Connection
from shared.scores import SeasonId
from shared.settings import Settings

TOLD_MISTAKES: Final = 20

_LOOK_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 10.0
"""So long nothing of what waits may be shown before somebody is told that a worker is missing."""


class BadLinesError(Exception):
    """Lines of the file are wrong; nothing of it was imported. The message lists the first ones."""


class Manner(NamedTuple):
    """`again`: a file that was imported counts once more. `backlog`: so many of the outbox's events may wait; None =
    any number."""

    skip_bad: bool = False
    again: bool = False
    wait: bool = False
    backlog: int | None = None


class Source(NamedTuple):
    """A file that can be read twice, and what it is called."""

    raw: BinaryIO
    name: str
    kind: Format


class Survey(NamedTuple):
    """A file as it was read from its beginning to its end: `wrong` of its lines are mistakes, the first are told."""

    digest: bytes
    about: About | None
    lines: int
    entries: int
    wrong: int
    mistakes: list[Mistake]


class Imported(NamedTuple):
    """`before`: how it stood at the beginning. `scores`: that this run added. `shown`: whether they are on the board,
    None = nobody waited for it."""

    of: Import
    created: bool
    survey: Survey
    before: State
    scores: int
    seconds: float
    shown: bool | None


async def load(settings: Settings, source: Source, season_id: SeasonId, choice: Choice, manner: Manner) -> Imported:
    """Import the file, or what of it is not in the ledger yet.

    Raises FileError, BadLinesError, SeasonNotFoundError, ConflictError where the season does not take it, and as
    `connected_ledger`.
    """
    file = ScoreFile(source.raw, source.kind)
    survey = await _surveyed(file)
    if survey.wrong and not manner.skip_bad:
        raise BadLinesError(_told(source.name, survey))
    started = time.monotonic()
    async with connected_ledger(settings, "import") as pool, pool.connection() as conn:
        tell_place(place(conn))
        season, created = await fitting(conn, season_id, choice, survey.about)
        of = Import(season_id, season.epoch, survey.digest, season.settings.rules)
        before = await imports.begin(conn, of, source.name, again=manner.again)
        scores = 0
        if before.finished_at is None:
            if season.state != "open":
                raise ConflictError(f"season {season_id} is {season.state}: it takes no scores")
            scores = await _all_added(conn, of, file, before, survey=survey, manner=manner)
        seconds = time.monotonic() - started
        if manner.wait:
            await _until_shown(conn, of)
    return Imported(of, created, survey, before, scores, seconds, True if manner.wait else None)


async def _surveyed(file: ScoreFile) -> Survey:
    lines = entries = wrong = 0
    mistakes: list[Mistake] = []
    with bar("bytes checked", file.size, paced=True) as progress:
        for chunk in file.chunks():
            lines, entries, wrong = chunk.last_line, entries + len(chunk.entries), wrong + len(chunk.mistakes)
            mistakes += chunk.mistakes[: TOLD_MISTAKES - len(mistakes)]
            await asyncio.sleep(0)  # where a signal is noticed
            progress.reach(chunk.read_bytes)
    if file.about is not None and file.about.players != entries + wrong:
        told = f"line 1 says that {file.about.players:,} players follow, there are {entries + wrong:,}: it was cut"
        wrong += 1
        mistakes.append(Mistake(lines, told))
    return Survey(file.digest, file.about, lines, entries, wrong, mistakes)


async def _all_added(
    conn: Connection, of: Import, file: ScoreFile, before: State, *, survey: Survey, manner: Manner
) -> int:
    """How many scores were added."""
    scores = 0
    with bar("lines imported", survey.lines, paced=True) as progress:
        for chunk in file.chunks(before.lines):
            if manner.backlog is not None:
                await _until_taken(conn, manner.backlog, progress)
            scores += await imports.add(conn, of, chunk.entries, chunk.after_line, chunk.last_line)
            progress.reach(chunk.last_line)
    if file.digest != survey.digest:
        raise FileError(f"the file was changed meanwhile: {counted(scores, 'score')} of it count, as it was or is now")
    await imports.finish(conn, of, survey.lines)
    return scores


async def _until_taken(conn: Connection, backlog: int, progress: Bar) -> None:
    while await imports.exceed(conn, backlog):
        progress.add(0)
        await asyncio.sleep(_LOOK_SECONDS)


async def _until_shown(conn: Connection, of: Import) -> None:
    last = await imports.last_event(conn, of)
    left = most = await imports.unshown(conn, of, last)
    changed, told = time.monotonic(), False
    with bar("scores shown", most, paced=True) as progress:
        while left:
            progress.reach(most - left)
            await asyncio.sleep(_LOOK_SECONDS)
            now = await imports.unshown(conn, of, last)
            if now != left:
                left, changed = now, time.monotonic()
            elif not told and time.monotonic() > changed + _PATIENCE_SECONDS:
                complain(f"{counted(left, 'score')} wait for a worker: is one running?")
                told = True


def print_imported(done: Imported, name: str, *, as_json: bool) -> None:
    of, survey, before = done.of, done.survey, done.before
    rate = done.scores / done.seconds if done.seconds else 0.0
    if as_json:
        print_json(
            {
                "seasonId": of.season_id,
                "epoch": of.epoch,
                "created": done.created,
                "file": name,
                "digest": of.digest.hex(),
                "lines": survey.lines,
                "skipped": survey.wrong,
                "afterLine": before.lines,
                "scores": done.scores,
                "shown": done.shown,
                "seconds": round(done.seconds, 3),
                "scoresPerSecond": round(rate),
            }
        )
        return
    into = f"season {of.season_id}, epoch {of.epoch}" + (", which was made for it" if done.created else "")
    if before.finished_at is not None:
        since = f"{before.finished_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%SZ}"
        print(f"nothing to do: {name} is in {into} since {since}; --again counts it once more")
        return
    behind = f" behind line {before.lines:,}, where it was interrupted," if before.lines else ""
    skipped = f"; {counted(survey.wrong, 'line')} left out" if survey.wrong else ""
    scores = counted(done.scores, "score")
    print(f"{name}:{behind} {scores} into {into}, in {done.seconds:.1f} s ({rate:,.0f}/s){skipped}")


def _told(name: str, survey: Survey) -> str:
    lines = "".join(f"\n  line {line}: {told}" for line, told in survey.mistakes)
    more = survey.wrong - len(survey.mistakes)
    further = f"\n  and {more:,} more" if more > 0 else ""
    wrong = counted(survey.wrong, "line")
    return f"{name}: {wrong} wrong, nothing was imported (--skip-bad leaves them out){lines}{further}"
