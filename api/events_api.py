"""What became of scores: one by its eventId, and all of a player's, newest first."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer, json_answer
from api.cursors import cursor_of_event, event_behind
from api.endpoint import Call, Endpoint, whole_number_in
from api.ledger_reads import LedgerReads
from api.season_paths import ANY_SEASON, EndsWithId, OfSeason, event_id_in_path, user_id_in_path
from api.seasons_api import Moment
from api.waiting import event_not_found
from shared import events
from shared.events import Effect, Event, Kind, State
from shared.scores import SeasonId

DEFAULT_EVENTS: Final = 50
MAX_EVENTS: Final = 500

_NOW: Final = (NO_STORE,)


class EventResource(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`userId`: null = of an operator's event that is no void. Of a score `delta` or `score`, as its season has
    it; of a void `target`, the eventId of what it takes away. `epoch`: null = of an operator's event of long ago.
    `effect`: null = it is pending or failed, or no score. `reason`: why it failed."""

    season_id: str
    event_id: str
    user_id: str | None
    type: Kind
    delta: int | msgspec.UnsetType = msgspec.UNSET
    score: int | msgspec.UnsetType = msgspec.UNSET
    target: str | msgspec.UnsetType = msgspec.UNSET
    epoch: int | None
    created_at: Moment
    occurred_at: Moment | None
    state: State
    effect: Effect | None
    reason: str | msgspec.UnsetType = msgspec.UNSET
    processed_at: Moment | msgspec.UnsetType = msgspec.UNSET


class PlayerEvents(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: what to send to get the next page; null = this is the last one."""

    season_id: str
    user_id: str
    items: list[EventResource]
    next_cursor: str | None


class EventsApi:
    def __init__(self, reads: LedgerReads) -> None:
        self._reads = reads

    def routes(self) -> list[Route]:
        of_player = f"{ANY_SEASON}/users/{{uid:anything}}/events"
        return [
            OfSeason(of_player, Endpoint(self.of_player, Need.READ), methods=["GET"]),
            EndsWithId(f"{ANY_SEASON}/events/{{eid:anything}}", Endpoint(self.get, Need.READ), methods=["GET"]),
        ]

    async def get(self, call: Call) -> Answer:
        season_id = call.season_id
        event_id = event_id_in_path(call)
        found = await self._reads.ask(lambda conn: events.find(conn, season_id, event_id))
        if found is None:
            raise event_not_found(season_id, event_id)
        return json_answer(_resource(season_id, found), headers=_NOW)

    async def of_player(self, call: Call) -> Answer:
        season_id, user_id = call.season_id, user_id_in_path(call)
        query = call.query()
        limit = whole_number_in(query, "limit", default=DEFAULT_EVENTS, lowest=1, highest=MAX_EVENTS)
        behind = event_behind(query.get("cursor"))
        found = await self._reads.ask(lambda conn: events.history(conn, season_id, user_id, behind, limit + 1))
        items = [_resource(season_id, event) for event in found[:limit]]
        more = cursor_of_event(found[limit - 1].event_id) if len(found) > limit else None
        return json_answer(PlayerEvents(season_id, user_id, items, more), headers=_NOW)


def _resource(season_id: SeasonId, event: Event) -> EventResource:
    adds_up = event.aggregation == "sum"
    points = msgspec.UNSET if event.delta is None else event.delta
    return EventResource(
        season_id=season_id,
        event_id=str(event.event_id),
        user_id=event.user_id,
        type=event.kind,
        delta=points if adds_up else msgspec.UNSET,
        score=msgspec.UNSET if adds_up else points,
        target=msgspec.UNSET if event.target is None else str(event.target),
        epoch=event.epoch,
        created_at=event.created_at,
        occurred_at=event.occurred_at,
        state=event.state,
        effect=event.effect,
        reason=msgspec.UNSET if event.reason is None else event.reason.partition("\n")[0],
        processed_at=msgspec.UNSET if event.processed_at is None else event.processed_at,
    )
