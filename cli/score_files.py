"""Files of scores as `leaderboard import` reads them: lines of JSON or CSV, packed with gzip or not, line by line.

Whatever the size of the file, a chunk of its lines is in memory. What a line must be is in `shared.scores`.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Annotated, BinaryIO, Final, NamedTuple, cast

import msgspec

from shared.board_files import COLUMNS, About, Format
from shared.errors import InvalidRequestError
from shared.imports import Entry
from shared.scores import parse_moment, parse_score, parse_user_id

CHUNK_LINES: Final = 2000
MAX_LINE_BYTES: Final = 64 * 1024

_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,16}")
_GZIP: Final = b"\x1f\x8b"
_NEEDED: Final = ("userId", "score")


class FileError(Exception):
    """The file can't be read; the message says what is wrong with it."""


class Line(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`rank` says nothing that the scores do not. `reachedAt`: null = when it is imported."""

    user_id: str
    score: int
    rank: int | None = None
    reached_at: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None


class Mistake(NamedTuple):
    line: int
    told: str


class Chunk(NamedTuple):
    """What stands in the lines behind `after_line`, up to `last_line`. `read_bytes`: of the file so far, as it lies on
    disk."""

    after_line: int
    last_line: int
    entries: list[Entry]
    mistakes: list[Mistake]
    read_bytes: int


class ScoreFile:
    """`about`: what the first line says of the rest, where there is such a line, once `chunks` has come past it."""

    def __init__(self, raw: BinaryIO, kind: Format) -> None:
        self.about: About | None = None
        self._raw = raw
        self._kind = kind
        self._digest = hashlib.sha256()
        self._line = 0

    @property
    def size(self) -> int:
        """Bytes, as it lies on disk."""
        return self._raw.seek(0, io.SEEK_END)

    @property
    def digest(self) -> bytes:
        """SHA-256 of what was read, unpacked."""
        return self._digest.digest()

    def chunks(self, after_line: int = 0) -> Iterator[Chunk]:
        """The lines behind `after_line`. Raises FileError."""
        self._raw.seek(0)
        self._digest, self._line = hashlib.sha256(), 0
        try:
            parts = self._tables(after_line) if self._kind == "csv" else self._objects(after_line)
            while True:
                entries: list[Entry] = []
                mistakes: list[Mistake] = []
                first = max(self._line, after_line)
                for part in parts:
                    (entries if isinstance(part, Entry) else mistakes).append(part)  # type: ignore[arg-type]
                    if self._line >= first + CHUNK_LINES:
                        break
                if self._line <= first:
                    return
                yield Chunk(first, self._line, entries, mistakes, self._raw.tell())
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileError(f"behind line {self._line} the file is damaged, or was cut: {error}") from error

    def _lines(self) -> Iterator[bytes]:
        packed = self._raw.read(len(_GZIP)) == _GZIP
        self._raw.seek(0)
        lines = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=self._raw))) if packed else self._raw
        while line := lines.readline(MAX_LINE_BYTES):
            self._line += 1
            if len(line) == MAX_LINE_BYTES:
                raise FileError(f"line {self._line} is longer than {MAX_LINE_BYTES} bytes: this is no file of scores")
            self._digest.update(line)
            yield line

    def _objects(self, after_line: int) -> Iterator[Entry | Mistake]:
        decode, lines = msgspec.json.Decoder(Line).decode, self._lines()
        for line in lines:
            number = self._line
            if number <= after_line or not line.strip():
                continue
            try:
                found = decode(line)
                yield _entry(number, found.user_id, found.score, found.reached_at)
            except InvalidRequestError as error:
                yield Mistake(number, error.message)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if number == 1 and self._is_about(line):
                    continue
                yield Mistake(number, f'{error}; a line is like {{"userId":"ann","score":25}}')

    def _is_about(self, line: bytes) -> bool:
        try:
            self.about = msgspec.json.decode(line, type=About)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return True

    def _tables(self, after_line: int) -> Iterator[Entry | Mistake]:
        # What is no UTF-8 becomes what no player's id may hold.
        text = (line.decode("utf-8", "surrogateescape") for line in self._lines())
        try:
            names = next(csv.reader(text), [])
        except csv.Error as error:
            raise FileError(f"line 1 is no CSV, it went on up to line {self._line}: {error}") from error
        columns = _columns(names)
        while self._line < after_line and next(text, None) is not None:
            pass
        rows = csv.reader(text, strict=True)
        while True:
            number = self._line + 1
            try:
                row = next(rows)
                if row:
                    yield columns(number, row)
            except StopIteration:
                return
            except csv.Error as error:
                yield Mistake(number, f"this is no CSV: {error}")
            except InvalidRequestError as error:
                yield Mistake(number, error.message)


def _columns(names: Sequence[str]) -> Callable[[int, Sequence[str]], Entry]:
    """What makes an entry of a row whose columns have these names, in whatever order. Raises FileError."""
    found = [name.removeprefix("\ufeff").strip() for name in names]  # spreadsheets begin with a byte order mark
    if not set(_NEEDED) <= set(found) <= set(COLUMNS) or len(set(found)) < len(found):
        raise FileError(
            f"line 1 must name the columns {' and '.join(_NEEDED)}, perhaps {COLUMNS[0]} and {COLUMNS[3]}, no others; "
            f"not {','.join(names)[:200]!r}"
        )
    user, score = (found.index(name) for name in _NEEDED)
    moment = found.index(COLUMNS[3]) if COLUMNS[3] in found else None

    def entry(number: int, row: Sequence[str]) -> Entry:
        if len(row) != len(found):
            raise InvalidRequestError(f"there are {len(row)} fields; line 1 names {len(found)}")
        if _WHOLE_NUMBER.fullmatch(row[score]) is None:
            raise InvalidRequestError(f"score must be a whole number within ±(2^53 - 1), not {row[score][:40]!r}")
        reached_at = None if moment is None or not row[moment] else _moment(row[moment])
        return _entry(number, row[user], int(row[score]), reached_at)

    return entry


def _moment(text: str) -> dt.datetime:
    with suppress(ValueError):
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    raise InvalidRequestError(f"reachedAt must be like 2026-11-27T03:18:28.133742Z, not {text[:40]!r}")


def _entry(number: int, user_id: str, score: int, reached_at: dt.datetime | None) -> Entry:
    if reached_at is not None:
        reached_at = parse_moment(reached_at, "reachedAt", "invalid_reached_at")
    return Entry(number, parse_user_id(user_id), parse_score(score), reached_at)
