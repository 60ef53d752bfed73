"""Paths below /v1/seasons: which ids they take, so that each can be told what is wrong with it."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from api.endpoint import Call, Endpoint
from shared.errors import InvalidRequestError
from shared.scores import EventId, UserId, parse_event_id, parse_user_id

SEASONS: Final = "/v1/seasons"


class Anything(Convertor[str]):
    """Takes an empty id, one with an encoded slash or line break, so that it can be told what is wrong with it."""

    # As little as it can be: of a path that could be read in two ways the later part is the player's id.
    regex = r"[\s\S]*?"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class OfSeason(Route):
    """A path below a season, whose id is what stands between two slashes that are not encoded, and all of that: what is
    encoded there is no part of the path, what is not is no part of the id."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        if match is not Match.NONE:
            given = b"".join(scope["raw_path"].split(b"/")[3:4])
            if child_scope["path_params"]["sid"].count("/") != given.upper().count(b"%2F"):
                return Match.NONE, {}
        return match, child_scope


class OnlyItsMethod(OfSeason):
    """A route so wide that other methods must not take its match for "the path is right, the method is not"."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return (Match.NONE, {}) if match is Match.PARTIAL else (match, child_scope)


class EndsWithId(OfSeason):
    """A path that ends with an id, which may hold a slash where it is encoded: one that is not begins another path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        before_id = f"/{self.path.split('/')[-2]}/".encode()
        if match is not Match.NONE and b"/" in scope["raw_path"].partition(before_id)[2]:
            return Match.NONE, {}
        return match, child_scope


class ByMethod:
    """The ASGI application of a path that takes several methods: one route, so that 405 lists them all."""

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self._endpoints = endpoints

    def route(self, path: str) -> Route:
        return Route(path, self, methods=list(self._endpoints))

    def endpoint(self, method: str) -> Endpoint:
        return self._endpoints["GET" if method == "HEAD" else method]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.endpoint(scope["method"])(scope, receive, send)


register_url_convertor("anything", Anything())

ANY_SEASON: Final = f"{SEASONS}/{{sid:anything}}"


def event_id_in_path(call: Call) -> EventId:
    """The ledger's id of the event that the path names. Raises InvalidRequestError."""
    return parse_event_id(call.scope["path_params"]["eid"], "eventId")


def user_id_in_path(call: Call) -> UserId:
    """The player whom the path names, in whatever bytes: the server would have decoded them. Raises
    InvalidRequestError."""
    path, raw = call.scope["path"], call.scope["raw_path"]
    behind = path[path.index("/users/") + len("/users/") + len(call.scope["path_params"]["uid"]) :].encode()
    _, before, given = raw.partition(b"/users/")
    if not before or not given.endswith(behind):
        raise InvalidRequestError(
            "of the path nothing but the ids may be percent-encoded, as /users/<userId>/events", code="invalid_user_id"
        )
    given = given[: len(given) - len(behind)]
    try:
        return parse_user_id(unquote_to_bytes(given).decode())
    except UnicodeDecodeError as error:
        raise InvalidRequestError("userId must be percent-encoded UTF-8", code="invalid_user_id") from error
