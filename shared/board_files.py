"""A board as a file: lines of JSON (NDJSON) or CSV (RFC 4180), both in UTF-8. Pure; reads and writes nothing.

NDJSON begins with a line that says what the file is (`About`), so that it can be read without anything else, and one
that was cut short is known by its number of players. CSV begins with the names of its columns.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from shared.scores import Aggregation, Order, Rules, TieBreak
from shared.windows import Window

Format: TypeAlias = Literal["ndjson", "csv"]

FORMATS: Final[tuple[Format, ...]] = ("ndjson", "csv")

COLUMNS: Final = ("rank", "userId", "score", "reachedAt")
"""Of CSV; the last one only where the season knows when scores were reached."""


class About(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What board a file holds, as of when, and the rules by which it came to be. `window`: null = all time."""

    season_id: str
    epoch: int
    exported_at: dt.datetime
    window: Window | None
    players: int
    aggregation: Aggregation
    order: Order
    windows: bool
    tie_break: TieBreak

    @property
    def rules(self) -> Rules:
        return Rules(self.aggregation, self.order, self.windows, self.tie_break)


class PlainRow(msgspec.Struct, frozen=True, rename="camel"):
    rank: int
    user_id: str
    score: int


class Row(PlainRow, frozen=True, rename="camel"):
    """`reachedAt`: RFC 3339, in UTC, to the microsecond."""

    reached_at: str


class Writer(Protocol):
    """What a file's bytes are. `rows`: rank, player, score and, where the season knows it, when that was reached."""

    def head(self) -> bytes: ...

    def lines(self, rows: Sequence[Sequence[Any]]) -> bytes: ...


class NdjsonWriter:
    def __init__(self, about: About) -> None:
        self._about = about
        self._encoder = msgspec.json.Encoder()
        self._row: type[PlainRow] = PlainRow if about.rules.plain else Row

    def head(self) -> bytes:
        return self._encoder.encode(self._about) + b"\n"

    def lines(self, rows: Sequence[Sequence[Any]]) -> bytes:
        row = self._row
        return self._encoder.encode_lines([row(*values) for values in rows])


class CsvWriter:
    """Values are as they are: what a spreadsheet takes for a formula is a player's id all the same."""

    def __init__(self, about: About) -> None:
        self._columns = COLUMNS[:3] if about.rules.plain else COLUMNS

    def head(self) -> bytes:
        return self.lines([self._columns])

    def lines(self, rows: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()


def writer_of(kind: Format, about: About) -> Writer:
    return CsvWriter(about) if kind == "csv" else NdjsonWriter(about)
