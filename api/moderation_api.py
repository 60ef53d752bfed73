"""What operators do to scores and players of a season: void, hide, unhide, erase; and the audit of it.

Nothing is done here: a request becomes an event of the outbox, in the order of all others (`shared.moderation`).
"""

from __future__ import annotations

import datetime as dt
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
from shared import moderation_requests
from shared.api_keys import ApiKey
from shared.moderation import Action
from shared.moderation_requests import Entry, Wish
from shared.scores import parse_remark
from shared.setbacks import Status
from shared.wakeups import Wakeups

DEFAULT_AUDIT: Final = 50
MAX_AUDIT: Final = 1000

_NOW: Final = (NO_STORE,)


class ReasonBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`reason`: why; `by`: who asks for it, beside the key."""

    reason: str
    by: str | None = None


class ModerationQueued(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`eventId`: of the event that does it. `target`: that which is voided."""

    season_id: str
    event_id: str
    action: Action
    user_id: str
    queued: bool
    target: str | msgspec.UnsetType = msgspec.UNSET


class AuditEntry(msgspec.Struct, frozen=True, rename="camel"):
    """`userId` null: of a player who was erased. `actor`: the key. `effect`: what came of it, null as long as it is
    pending, unless a part of a large history is erased already, or where the database refused it: `error`."""

    event_id: str
    action: Action
    user_id: str | None
    target: str | None
    actor: str
    by: str | None
    reason: str
    requested_at: Moment
    applied_at: Moment | None
    state: Status
    effect: str | None
    error: str | None


class AuditPage(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: what to send to get the next page; null = this is the last one."""

    items: list[AuditEntry]
    next_cursor: str | None


class ModerationApi:
    def __init__(self, reads: LedgerReads, wakeups: Wakeups) -> None:
        self._reads = reads
        self._wakeups = wakeups
        self._reasons = msgspec.json.Decoder(ReasonBody)

    def routes(self) -> list[Route]:
        player = f"{ANY_SEASON}/users/{{uid:anything}}"
        return [
            OfSeason(f"{ANY_SEASON}/events/{{eid}}/void", Endpoint(self.void, Need.ADMIN), methods=["POST"]),
            OfSeason(f"{player}/hide", Endpoint(self.hide, Need.ADMIN), methods=["POST"]),
            OfSeason(f"{player}/unhide", Endpoint(self.unhide, Need.ADMIN), methods=["POST"]),
            OfSeason(f"{ANY_SEASON}/moderations", Endpoint(self.audit, Need.ADMIN), methods=["GET"]),
            EndsWithId(player, Endpoint(self.erase, Need.ADMIN), methods=["DELETE"]),
        ]

    async def void(self, call: Call) -> Answer:
        season_id, event_id, wish = call.season_id, event_id_in_path(call), await self._wish(call)
        asked, user_id = await self._reads.ask(
            lambda conn: moderation_requests.ask_to_void(conn, season_id, event_id, wish)
        )
        self._wakeups.tell()
        return json_answer(ModerationQueued(season_id, str(asked), "void", user_id, True, str(event_id)), 202)

    async def hide(self, call: Call) -> Answer:
        return await self._ask(call, "hide", await self._wish(call))

    async def unhide(self, call: Call) -> Answer:
        return await self._ask(call, "unhide", await self._wish(call))

    async def erase(self, call: Call) -> Answer:
        """DELETE has no body: why and by whom is in the query."""
        query = call.query()
        return await self._ask(call, "erase", _wish(call.key, query.get("reason", ""), query.get("by")))

    async def audit(self, call: Call) -> Answer:
        season_id, query = call.season_id, call.query()
        limit = whole_number_in(query, "limit", default=DEFAULT_AUDIT, lowest=1, highest=MAX_AUDIT)
        before = event_behind(query.get("cursor"))
        found = await self._reads.ask(lambda conn: moderation_requests.audit(conn, season_id, before, limit + 1))
        more = cursor_of_event(found[limit - 1].id) if len(found) > limit else None
        return json_answer(AuditPage([_entry(entry) for entry in found[:limit]], more), headers=_NOW)

    async def _ask(self, call: Call, action: Action, wish: Wish) -> Answer:
        season_id, user_id = call.season_id, user_id_in_path(call)
        asked = await self._reads.ask(lambda conn: moderation_requests.ask_for(conn, action, season_id, user_id, wish))
        self._wakeups.tell()
        return json_answer(ModerationQueued(season_id, str(asked), action, user_id, True), 202)

    async def _wish(self, call: Call) -> Wish:
        body = await call.json(self._reasons)
        return _wish(call.key, body.reason, body.by)


def _wish(key: ApiKey | None, reason: str, by: str | None) -> Wish:
    actor = "no key" if key is None else f"key {key.key_id}"
    return Wish(actor, None if by is None else parse_remark(by, "by"), parse_remark(reason, "reason"))


def _entry(entry: Entry) -> AuditEntry:
    return AuditEntry(
        event_id=str(entry.id),
        action=entry.action,
        user_id=entry.user_id,
        target=None if entry.event_id is None else str(entry.event_id),
        actor=entry.actor,
        by=entry.by,
        reason=entry.reason,
        requested_at=entry.requested_at.astimezone(dt.UTC),
        applied_at=None if entry.applied_at is None else entry.applied_at.astimezone(dt.UTC),
        state=entry.status,
        effect=entry.effect,
        error=entry.error if entry.status == "failed" else None,
    )
