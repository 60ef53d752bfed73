"""A batch of scores as it comes over the wire, and its answer's parts. Pure: bytes in, scores out.

The fields of an item are those of a single score, its rules those of shared.scores. Must stay fast for thousands of
items: nothing else runs in the process meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import Final, Literal, TypeAlias

import msgspec

from api.endpoint import decoded
from api.errors import ErrorBody
from api.seasons_api import ScoreBody, score_of
from shared.errors import InvalidRequestError, LeaderboardError
from shared.scores import Score, SeasonId, all_acceptable, parse_idempotency_key

MAX_ITEMS: Final = 5000
NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})

_MANY: Final = 20 * MAX_ITEMS
"""Values that an array of scores has no use for, however wrong some of them are."""

_STRING: Final = re.compile(rb'(?s)"(?:[^"\\]|\\.)*+(?:"|\\?\Z)')
_LINE: Final = re.compile(rb"[^\n]+")
_LIST: Final = msgspec.json.Decoder(list[ScoreBody])
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM: Final = msgspec.json.Decoder(ScoreBody)


class ItemResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`eventId`: of a score that is stored, not the key that came with it."""

    status: Literal["queued", "replayed", "refused"]
    event_id: str | msgspec.UnsetType = msgspec.UNSET
    code: str | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


Item: TypeAlias = Score | ItemResult
"""An item as it came: a score, or the result of what is none; not the exception, which would hold on to its frames."""


class BatchQueued(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    queued: int
    replayed: int
    refused: int
    results: list[ItemResult]


class BatchRefused(ErrorBody, frozen=True, rename="camel"):
    """The error where every item was refused."""

    results: list[ItemResult]


def refused(error: LeaderboardError) -> ItemResult:
    return ItemResult("refused", code=error.code, error=error.message)


def read_array(season_id: SeasonId, body: bytearray) -> list[Item]:
    """The items of a JSON array, in order. Raises InvalidRequestError where it is none, or not of 1 to MAX_ITEMS."""
    try:
        bodies = decoded(_LIST, body)
    except InvalidRequestError:  # one item is to blame, or the array itself
        _require_few_values(body)
        items = decoded(_RAW_LIST, body)
        _require_count(len(items), f"{len(items)} came")
        return [_item(season_id, raw) for raw in items]
    _require_count(len(bodies), f"{len(bodies)} came")
    return _scores(season_id, bodies)


def read_lines(season_id: SeasonId, body: bytearray) -> list[Item]:
    """The items of lines of JSON, in order, blank lines passed by. Raises InvalidRequestError: not 1 to MAX_ITEMS."""
    lines = list(islice(_lines(body), MAX_ITEMS + 1))
    last = body.rstrip().count(b"\n") + 1
    _require_count(len(lines), f"{last} lines came" if lines else "none came")
    try:
        # Not msgspec's decode_lines: it takes two scores in a line, and one over two.
        bodies = [_ITEM.decode(line) for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [_item(season_id, line) for line in lines]
    return _scores(season_id, bodies)


def _lines(body: bytearray) -> Iterator[bytes]:
    return (line for match in _LINE.finditer(body) if (line := match[0].strip()))


def _require_few_values(body: bytearray) -> None:
    """Half a million numbers, looked at one by one, would take 34 MB."""
    if body.count(b",") >= _MANY and (commas := _STRING.sub(b"", body).count(b",")) >= _MANY:
        raise InvalidRequestError(
            f"a batch must hold 1 to {MAX_ITEMS} scores; {commas + 1} values came", code="invalid_body"
        )


def _require_count(count: int, came: str) -> None:
    if not 1 <= count <= MAX_ITEMS:
        raise InvalidRequestError(f"a batch must hold 1 to {MAX_ITEMS} scores; {came}", code="invalid_body")


def _scores(season_id: SeasonId, bodies: Sequence[ScoreBody]) -> list[Item]:
    user_ids = [body.user_id for body in bodies]
    keys = [body.event_id for body in bodies]
    deltas, scores = [body.delta for body in bodies], [body.score for body in bodies]
    absolute = bodies[0].score is not msgspec.UNSET
    told, others = (scores, deltas) if absolute else (deltas, scores)
    alike = told.count(msgspec.UNSET) == 0 and others.count(msgspec.UNSET) == len(bodies)
    if (
        alike
        and all(body.epoch is None and body.occurred_at is None for body in bodies)
        and all_acceptable(user_ids, told, [key for key in keys if key is not None], absolute=absolute)  # type: ignore[arg-type]
    ):
        return list(map(Score, repeat(season_id), user_ids, told, keys, repeat(absolute)))  # type: ignore[arg-type]
    return [_checked(season_id, body) for body in bodies]


def _item(season_id: SeasonId, text: bytes | msgspec.Raw) -> Item:
    try:
        return _checked(season_id, decoded(_ITEM, text))
    except InvalidRequestError as error:
        return refused(error)


def _checked(season_id: SeasonId, body: ScoreBody) -> Item:
    try:
        key = None if body.event_id is None else parse_idempotency_key(body.event_id)
        return score_of(season_id, body, key)
    except InvalidRequestError as error:
        return refused(error)
