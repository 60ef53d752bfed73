"""Seasons as resources: made and set with PUT, looked at one by one or in a list, closed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer, json_answer
from api.boards import Boards
from api.cursors import season_behind
from api.endpoint import Call, Endpoint, decoded, flag_in, whole_number_in
from api.ledger_reads import LedgerReads
from api.resets import Resets
from api.season_paths import ANY_SEASON, SEASONS, ByMethod, OfSeason, OnlyItsMethod
from api.seasons_api import Moment
from api.top_cache import TopCache
from api.tournament_bodies import ResetsBody, RewardsBody, hook_in, resets_of, rewards_of, schedule_in
from shared import season_settings
from shared.errors import InvalidRequestError, SeasonNotFoundError
from shared.postgres import Connection
from shared.scores import GAME_RULES, PLAIN, Aggregation, Order, Rules, SeasonId, TieBreak, is_game, parse_moment
from shared.season_settings import Season, Settings, State
from shared.webhook_targets import Reach

MAX_METADATA_BYTES: Final = 4096
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000

_NOW: Final = (NO_STORE,)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_NULL: Final = msgspec.Raw(b"null")
_MICROSECONDS: Final = 1_000_000


class SeasonBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What PUT takes; what is left out is as by default: sum, desc, no windows, ties by member; of a game as the games
    API has it.

    `windows`: whether there are boards of the last 24 hours, 3 and 7 days too. `tieBreak`: who of those with equal
    scores stands higher, the first to reach it (earliest) or by the bytes of the ids (member). `resets`: when it is
    reset by itself. `rewards`: who is told of the final ranks.
    """

    aggregation: Aggregation | msgspec.UnsetType = msgspec.UNSET
    order: Order | msgspec.UnsetType = msgspec.UNSET
    windows: bool | msgspec.UnsetType = msgspec.UNSET
    tie_break: TieBreak | msgspec.UnsetType = msgspec.UNSET
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    resets: ResetsBody | None = None
    rewards: RewardsBody | None = None
    metadata: msgspec.Raw = msgspec.field(default_factory=lambda: _NULL)


class SeasonResource(msgspec.Struct, frozen=True, rename="camel"):
    """`players`: on the board now. `changedAt`: when the board was last changed, null = never. `nextReset`: by its
    schedule, `previousReset`: the moment that the last such reset was for; null = there is none."""

    season_id: str
    state: State
    epoch: int
    players: int
    aggregation: Aggregation
    order: Order
    windows: bool
    tie_break: TieBreak
    starts_at: Moment | None
    ends_at: Moment | None
    closed_at: Moment | None
    created_at: Moment
    changed_at: Moment | None
    resets: ResetsBody | None
    next_reset: Moment | None
    previous_reset: Moment | None
    rewards: RewardsBody | None
    metadata: msgspec.Raw


class SeasonPage(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: what to send to get the next page; null = this is the last one."""

    items: list[SeasonResource]
    next_cursor: str | None


class Deleted(msgspec.Struct, frozen=True, rename="camel"):
    """`epoch` and `archived` answer `archive=true`: the season's last epoch that ended, null = none did, and whether it
    stays readable."""

    season_id: str
    deleted: bool = True
    epoch: int | msgspec.UnsetType | None = msgspec.UNSET
    archived: bool | msgspec.UnsetType = msgspec.UNSET


class SeasonResources:
    """`webhooks`: where they may go, None: nothing can be sent."""

    def __init__(
        self, reads: LedgerReads, boards: Boards, resets: Resets, top_cache: TopCache, webhooks: Reach | None
    ) -> None:
        self._reads = reads
        self._boards = boards
        self._resets = resets
        self._top_cache = top_cache
        self._webhooks = webhooks
        self._decoder = msgspec.json.Decoder(SeasonBody)

    def routes(self) -> list[Route]:
        get = Endpoint(self.get, Need.READ)
        put, delete = Endpoint(self.put, Need.ADMIN), Endpoint(self.delete, Need.ADMIN)
        return [
            Route(SEASONS, Endpoint(self.page, Need.READ), methods=["GET"]),
            ByMethod({"GET": get, "PUT": put, "DELETE": delete}).route(f"{SEASONS}/{{sid}}"),
            OfSeason(f"{ANY_SEASON}/close", Endpoint(self.close, Need.ADMIN), methods=["POST"]),
            OnlyItsMethod(ANY_SEASON, delete, methods=["DELETE"]),
        ]

    async def put(self, call: Call) -> Answer:
        season_id = call.season_id
        settings = _settings(season_id, await call.json(self._decoder), self._webhooks)

        async def change(conn: Connection) -> str:
            async with conn.transaction():
                return await season_settings.put(conn, season_id, settings)

        changed = await self._reads.ask(change)
        if changed == "restarted":
            await self._resets.follow(season_id)
        return json_answer(await self._one(season_id), 201 if changed == "created" else 200, _NOW)

    async def get(self, call: Call) -> Answer:
        return json_answer(await self._one(call.season_id), headers=_NOW)

    async def page(self, call: Call) -> Answer:
        query = call.query()
        limit = whole_number_in(query, "limit", default=DEFAULT_PAGE, lowest=1, highest=MAX_PAGE)
        after = season_behind(query.get("cursor"))
        found = await self._reads.ask(lambda conn: season_settings.page(conn, after, limit + 1))
        items = await self._resources(found[:limit])
        return json_answer(SeasonPage(items, found[limit - 1].season_id if len(found) > limit else None), headers=_NOW)

    async def close(self, call: Call) -> Answer:
        season_id = call.season_id
        if not await self._reads.ask(lambda conn: season_settings.close(conn, season_id)):
            raise _unknown(season_id)
        return json_answer(await self._one(season_id), headers=_NOW)

    async def delete(self, call: Call) -> Answer:
        season_id = call.season_id
        archived = flag_in(call.query(), "archive")
        ended = await self._resets.reset(season_id, archived=archived)
        self._top_cache.drop([season_id])
        return json_answer(Deleted(season_id, True, *ended) if archived else Deleted(season_id))

    async def _one(self, season_id: SeasonId) -> SeasonResource:
        found = await self._reads.ask(lambda conn: season_settings.find(conn, season_id))
        if found is None:
            raise _unknown(season_id)
        (resource,) = await self._resources([found])
        return resource

    async def _resources(self, found: Sequence[Season]) -> list[SeasonResource]:
        players = await self._boards.players([season.season_id for season in found])
        return [_resource(season, number) for season, number in zip(found, players, strict=True)]


def _settings(season_id: SeasonId, body: SeasonBody, webhooks: Reach | None) -> Settings:
    starts_at, ends_at = (
        None if moment is None else parse_moment(moment, name, "invalid_times")
        for moment, name in ((body.starts_at, "startsAt"), (body.ends_at, "endsAt"))
    )
    if starts_at is not None and ends_at is not None and starts_at >= ends_at:
        raise InvalidRequestError("startsAt must be before endsAt", code="invalid_times")
    metadata = None if body.metadata == _NULL else bytes(body.metadata)
    if metadata is not None:
        decoded(_OBJECT, metadata)
    if metadata is not None and len(metadata) > MAX_METADATA_BYTES:
        raise InvalidRequestError(
            f"metadata must be at most {MAX_METADATA_BYTES} bytes of JSON, not {len(metadata)}", code="invalid_metadata"
        )
    default = GAME_RULES if is_game(season_id) else PLAIN
    rules = Rules(
        default.aggregation if body.aggregation is msgspec.UNSET else body.aggregation,
        default.order if body.order is msgspec.UNSET else body.order,
        default.windows if body.windows is msgspec.UNSET else body.windows,
        default.tie_break if body.tie_break is msgspec.UNSET else body.tie_break,
    )
    return Settings(
        rules,
        starts_at,
        ends_at,
        None if metadata is None else metadata.decode(),
        schedule_in(body.resets),
        hook_in(body.rewards, webhooks),
    )


def _resource(season: Season, players: int) -> SeasonResource:
    settings = season.settings
    return SeasonResource(
        season_id=season.season_id,
        state=season.state,
        epoch=season.epoch,
        players=players,
        aggregation=settings.rules.aggregation,
        order=settings.rules.order,
        windows=settings.rules.windows,
        tie_break=settings.rules.tie_break,
        starts_at=_utc(settings.starts_at),
        ends_at=_utc(settings.ends_at),
        closed_at=_utc(season.closed_at),
        created_at=season.created_at.astimezone(dt.UTC),
        # Tokens are microseconds of PostgreSQL's clock, but for a few where it stood still.
        changed_at=dt.datetime.fromtimestamp(season.token / _MICROSECONDS, dt.UTC) if season.token else None,
        resets=resets_of(settings.resets),
        next_reset=_utc(season.next_reset),
        previous_reset=_utc(season.previous_reset),
        rewards=rewards_of(settings.rewards),
        metadata=_NULL if settings.metadata is None else msgspec.Raw(settings.metadata.encode()),
    )


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.astimezone(dt.UTC)


def _unknown(season_id: SeasonId) -> SeasonNotFoundError:
    return SeasonNotFoundError(f"there is no season {season_id}: PUT makes one, and so does a first score")
