"""Reads that wait for a write, and scores that wait until they are on the board: what the query says, and what is
answered.

Endpoints that are answered without a task (`api.direct_cycle`) wait here: nothing is awaited but futures.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from api.endpoint import whole_number_in
from api.visibility import Visibility
from shared.errors import EventNotFoundError, InvalidRequestError
from shared.scores import EventId, SeasonId, parse_event_id

MAX_WAIT_MS: Final = 2000
DEFAULT_WAIT_MS: Final = 1000

Pending: TypeAlias = bool | msgspec.UnsetType
"""Whether the event that was asked for is still to come; UNSET where none was."""


def waits(query: dict[str, str]) -> bool:
    """Whether a read is to wait, or says so wrongly."""
    return "after" in query or "wait" in query


def wait_ms_in(query: dict[str, str], default: int) -> int:
    """How long to wait, milliseconds. Raises InvalidRequestError."""
    return whole_number_in(query, "wait", default=default, lowest=0, highest=MAX_WAIT_MS)


async def pending_after(visibility: Visibility, season_id: SeasonId, query: dict[str, str]) -> bool:
    """Wait for the event that the query names; whether it is still to come. Raises InvalidRequestError, and
    EventNotFoundError where the season has no such event."""
    if "after" not in query:
        raise InvalidRequestError("wait goes with after=<eventId>, the score to wait for", code="invalid_wait")
    event_id = parse_event_id(query["after"], "after")
    wait_ms = wait_ms_in(query, DEFAULT_WAIT_MS)
    word = await visibility.wait(season_id, event_id, wait_ms / 1000)
    if word == "unknown":
        raise event_not_found(season_id, event_id)
    return word != "done"


def event_not_found(season_id: SeasonId, event_id: EventId) -> EventNotFoundError:
    return EventNotFoundError(f"season {season_id} has no event {event_id}; a 202 says the eventId of its score")
