"""What an operator sees and mends: the outbox, who works on it, and the events that failed. Never on the hot path."""

from __future__ import annotations

import datetime as dt
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer, json_answer
from api.endpoint import Call, Endpoint, whole_number_in
from api.ops_ledger import OpsLedger
from api.seasons_api import Moment
from shared import activity, outbox_gauge, outbox_review, setback_runs
from shared.errors import InvalidRequestError
from shared.scores import MAX_NUMBER, SeasonId, parse_season_id
from shared.season_choice import choose
from shared.setback_runs import Outcome

OPS: Final = "/v1/ops"
DEFAULT_FAILED: Final = 50
MAX_FAILED: Final = 1000
MAX_IDS: Final = 1000

_NOW: Final = (NO_STORE,)
_DIGITS: Final = len(str(MAX_NUMBER))

EventId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]


class FailedSeason(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    events: int


class FailedReason(msgspec.Struct, frozen=True, rename="camel"):
    reason: str
    events: int


class OutboxGauge(msgspec.Struct, frozen=True, rename="camel"):
    """`pendingExact`: false where there are more than can be counted; `pending` is then the most that there can be.
    `oldestPendingSeconds`: null where none is pending. Rates: of the last five seconds."""

    pending: int
    pending_exact: bool
    oldest_pending_seconds: float | None
    failed: int
    accepted_per_second: float
    done_per_second: float
    failed_by_season: list[FailedSeason]
    failed_by_reason: list[FailedReason]


class SessionGroup(msgspec.Struct, frozen=True, rename="camel"):
    """Connections to PostgreSQL of one kind of process at one address."""

    process: str
    address: str
    connections: int
    busy: int
    blocked: int
    transaction_seconds: float | None
    quiet_seconds: float | None


class Activity(msgspec.Struct, frozen=True, rename="camel"):
    """`lastBatchSeconds`: since a season last changed; null = never."""

    sessions: list[SessionGroup]
    last_batch_seconds: float | None


class FailedEvent(msgspec.Struct, frozen=True, rename="camel"):
    id: int
    season_id: str
    user_id: str
    delta: int
    attempts: int
    reason: str
    created_at: Moment


class FailedPage(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: what to send to get the next page; null = this is the last one."""

    items: list[FailedEvent]
    next_cursor: str | None


class EventChoice(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One of `ids`, of events, and `seasonId`, for all failed events of that season."""

    ids: Annotated[list[EventId], msgspec.Meta(min_length=1, max_length=MAX_IDS)] | msgspec.UnsetType = msgspec.UNSET
    season_id: str | msgspec.UnsetType = msgspec.UNSET


class Refused(msgspec.Struct, frozen=True, rename="camel"):
    id: int
    reason: str


class Changed(msgspec.Struct, frozen=True, rename="camel"):
    """`refused`: events named by their ids that were not changed. `left`: of a season, events that are failed still.
    `complete`: false where the time of one request did not suffice; ask again to go on."""

    changed: int
    refused: list[Refused]
    left: int
    complete: bool


class OpsApi:
    def __init__(self, ledger: OpsLedger) -> None:
        self._ledger = ledger
        self._choices = msgspec.json.Decoder(EventChoice)

    def routes(self) -> list[Route]:
        return [
            Route(f"{OPS}/outbox", Endpoint(self.outbox, Need.ADMIN), methods=["GET"]),
            Route(f"{OPS}/activity", Endpoint(self.activity, Need.ADMIN), methods=["GET"]),
            Route(f"{OPS}/failed", Endpoint(self.failed, Need.ADMIN), methods=["GET"]),
            Route(f"{OPS}/failed/retry", Endpoint(self.retry, Need.ADMIN), methods=["POST"]),
            Route(f"{OPS}/failed/discard", Endpoint(self.discard, Need.ADMIN), methods=["POST"]),
        ]

    async def outbox(self, _call: Call) -> Answer:
        found = await self._ledger.reads.ask(outbox_gauge.read)
        gauge = OutboxGauge(
            *found[:6],
            [FailedSeason(*one) for one in found.failed_by_season.items()],
            [FailedReason(*one) for one in found.failed_by_reason.items()],
        )
        return json_answer(gauge, headers=_NOW)

    async def activity(self, _call: Call) -> Answer:
        found = await self._ledger.reads.ask(activity.read)
        groups = [SessionGroup(*sessions) for sessions in found.sessions]
        return json_answer(Activity(groups, found.last_batch_seconds), headers=_NOW)

    async def failed(self, call: Call) -> Answer:
        query = call.query()
        limit = whole_number_in(query, "limit", default=DEFAULT_FAILED, lowest=1, highest=MAX_FAILED)
        season_id = parse_season_id(query["seasonId"]) if "seasonId" in query else None
        before = _event_before(query.get("cursor"))
        found = await self._ledger.reads.ask(
            lambda conn: outbox_review.failed_before(conn, before, season_id, limit + 1)
        )
        items = [FailedEvent(*event[:-1], event.created_at.astimezone(dt.UTC)) for event in found[:limit]]
        return json_answer(FailedPage(items, str(items[-1].id) if len(found) > limit else None), headers=_NOW)

    async def retry(self, call: Call) -> Answer:
        choice = await call.json(self._choices)
        outcome = Outcome()
        return await self._changed(partial(self._retry, choice, outcome), outcome)

    async def discard(self, call: Call) -> Answer:
        choice = await call.json(self._choices)
        outcome = Outcome()
        return await self._changed(partial(self._discard, choice, outcome), outcome)

    async def _retry(self, choice: EventChoice, outcome: Outcome) -> None:
        chosen = await self._chosen(choice)
        async with self._ledger.pool.connection() as conn:
            if isinstance(chosen, list):
                await setback_runs.retry_named(conn, chosen, outcome)
            else:
                await setback_runs.retry_all(conn, chosen, outcome)

    async def _discard(self, choice: EventChoice, outcome: Outcome) -> None:
        chosen = await self._chosen(choice)
        pool, projection = self._ledger.pool, self._ledger.projection
        if isinstance(chosen, list):
            await setback_runs.discard_named(pool, projection, chosen, outcome)
        else:
            await setback_runs.discard_all(pool, projection, chosen, outcome)

    async def _chosen(self, choice: EventChoice) -> list[int] | SeasonId:
        if choice.season_id is msgspec.UNSET and choice.ids is not msgspec.UNSET:
            return sorted(set(choice.ids))
        if choice.ids is msgspec.UNSET and choice.season_id is not msgspec.UNSET:
            (season_id,) = await choose(self._ledger.pool, [choice.season_id])
            return season_id
        raise InvalidRequestError(
            "the body must hold one of ids, of events, and seasonId, for all failed events of that season",
            code="invalid_body",
        )

    async def _changed(self, work: partial[Coroutine[Any, Any, None]], outcome: Outcome) -> Answer:
        complete = await self._ledger.change(work)
        if not complete and not outcome.changed:
            raise self._ledger.late()
        refused = [Refused(*one) for one in outcome.refused.items()]
        return json_answer(Changed(len(outcome.changed), refused, len(outcome.left), complete), headers=_NOW)


def _event_before(cursor: str | None) -> int:
    """The id below which the page begins. Raises InvalidRequestError."""
    if cursor is None:
        return MAX_NUMBER
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= _DIGITS and int(cursor) <= MAX_NUMBER:
        return int(cursor)
    raise InvalidRequestError("cursor must be the nextCursor of the page before, or be left out", code="invalid_cursor")
