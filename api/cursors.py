"""Cursors: where the next page begins, as a text that means nothing to the client."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Final, TypeAlias

import msgspec

from api.boards import Behind
from shared.board_entries import TIE_LENGTH
from shared.errors import InvalidRequestError
from shared.scores import MAX_NUMBER, MAX_USER_ID_LENGTH, EventId, parse_score, parse_season_id

_Member: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=TIE_LENGTH + MAX_USER_ID_LENGTH)]
_EVENT: Final = msgspec.msgpack.Decoder(Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)])
_MAX_DIGITS: Final = 10
_MAX_NUMBER: Final = 2**31 - 1
_PLACE: Final = msgspec.msgpack.Decoder(tuple[int, _Member, int])


def cursor_behind(place: Behind) -> str:
    """The cursor of the page that begins behind this place."""
    return urlsafe_b64encode(msgspec.msgpack.encode(tuple(place))).rstrip(b"=").decode()


def place_of(cursor: str) -> Behind:
    """The place that `cursor_behind` was given. Raises InvalidRequestError."""
    try:
        score, member, tied = _PLACE.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return Behind(parse_score(score), member, tied)
    except (ValueError, msgspec.MsgspecError, InvalidRequestError) as error:
        raise _invalid_cursor() from error


def season_behind(cursor: str | None) -> str:
    """The season behind which the next page of seasons begins, '' without a cursor. Raises InvalidRequestError."""
    if cursor is None:
        return ""
    try:
        return parse_season_id(cursor)
    except InvalidRequestError as error:
        raise _invalid_cursor() from error


def cursor_of_event(event_id: EventId) -> str:
    """The cursor of the page of events that begins behind this one."""
    return urlsafe_b64encode(msgspec.msgpack.encode(event_id)).rstrip(b"=").decode()


def event_behind(cursor: str | None) -> EventId | None:
    """The event that `cursor_of_event` was given, None without a cursor. Raises InvalidRequestError."""
    if cursor is None:
        return None
    try:
        return EventId(_EVENT.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))))
    except (ValueError, msgspec.MsgspecError) as error:
        raise _invalid_cursor() from error


def number_of(cursor: str) -> int:
    """The number behind which the next page begins. Raises InvalidRequestError."""
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_DIGITS and int(cursor) <= _MAX_NUMBER:
        return int(cursor)
    raise _invalid_cursor()


def _invalid_cursor() -> InvalidRequestError:
    return InvalidRequestError(
        "cursor must be the nextCursor of the page before, or be left out", code="invalid_cursor"
    )
