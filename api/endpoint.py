"""Plain ASGI endpoints: a handler takes a call and returns an answer, whatever it raises is answered here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from api.access import Need, require_season
from api.answers import Answer, head_of, request_id, send_answer
from api.errors import error_answer, internal_error
from api.gate import gate_of
from shared.api_keys import ApiKey
from shared.errors import BodyTooLargeError, InvalidRequestError, LeaderboardError, UnavailableError
from shared.scores import SeasonId, UserId, parse_score, parse_season_id, parse_user_id
from shared.windows import WINDOWS, Window

MAX_BODY_BYTES: Final = 1024 * 1024
_MAX_DIGITS: Final = 8
_MAX_PARAMETERS: Final = 32
_MAX_SCORE_DIGITS: Final = 16
_TOLD: Final = 200

_TRACEPARENT: Final = "leaderboard.traceparent"

TIES: Final = ("ordinal", "competition")
"""How equal scores are ranked: one behind the other, or sharing the best rank of them (1, 2, 2, 4)."""

T = TypeVar("T")

log = structlog.get_logger()


class Call:
    """One request, as much of it as a handler asks for. What is malformed raises InvalidRequestError."""

    __slots__ = ("_receive", "_whole", "key", "scope")

    def __init__(
        self, scope: Scope, receive: Receive, whole: bytes | None = None, *, key: ApiKey | None = None
    ) -> None:
        """`whole`: the body, where all of it is there already; nothing is received then. `key`: what it passed by."""
        self.scope = scope
        self.key = key
        self._receive = receive
        self._whole = whole

    def headers(self, name: bytes) -> list[str]:
        """All headers of that name (lower case), as Latin-1."""
        if name not in head_of(self.scope):
            return []
        return [str(value, "latin-1") for found, value in self.scope["headers"] if found == name]

    def header(self, name: bytes) -> bytes | None:
        """The header of that name (lower case); of several the first."""
        return head_of(self.scope).get(name)

    @property
    def season_id(self) -> SeasonId:
        return parse_season_id(self.scope["path_params"]["sid"])

    @property
    def traceparent(self) -> str | None:
        """The span under which it is answered, None where it is not traced."""
        return self.scope.get(_TRACEPARENT)

    def follow(self, traceparent: str) -> None:
        """It is traced, under that span."""
        self.scope[_TRACEPARENT] = traceparent

    def require_season(self, season_id: SeasonId) -> None:
        """For a handler that learns its season from the body. Raises ForbiddenError."""
        require_season(self.key, season_id)

    def query(self) -> dict[str, str]:
        """Parameters of the query string; of a repeated one the last counts."""
        try:
            text = self.scope["query_string"].decode("ascii")
            if "%" in text or "+" in text or text.count("&") >= _MAX_PARAMETERS:
                pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
                return dict(pairs)
        except ValueError as error:
            raise InvalidRequestError(
                f"the query string must be percent-encoded UTF-8 of at most {_MAX_PARAMETERS} parameters",
                code="invalid_query",
            ) from error
        # Nothing to decode: the same in a tenth of the time.
        return {name: value for name, _, value in [part.partition("=") for part in text.split("&") if part]}

    async def json(self, decoder: msgspec.json.Decoder[T]) -> T:
        """The body, decoded. Raises BodyTooLargeError too."""
        return decoded(decoder, await self.body() if self._whole is None else self._whole)

    def announced_bytes(self) -> int:
        """The body's length as its head says; 0 where it does not."""
        value = head_of(self.scope).get(b"content-length", b"0")
        # The server has checked that it is a number; one of thousands of digits would be slow to read.
        return int(value) if len(value) <= _MAX_DIGITS else int(value.lstrip(b"0")[:_MAX_DIGITS] or b"0")

    async def body(self, take: Callable[[int], None] | None = None) -> bytearray:
        """The body; `take` is told of each part's size as it comes, and may raise."""
        # How long it may take, the server sees to (api.http_protocol).
        if self.announced_bytes() > MAX_BODY_BYTES:
            raise _too_large()
        body = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequestError("the client left before the body was complete", code="incomplete")
            part = message.get("body", b"")
            if take is not None:
                take(len(part))
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise _too_large()
            more = message.get("more_body", False)
        return body


Handler: TypeAlias = Callable[[Call], Coroutine[Any, Any, Answer]]

Traced: TypeAlias = Callable[[str, Handler], Handler]
"""Makes of a route and its handler the one that is called."""


def untraced(_route: str, handler: Handler) -> Handler:
    """Where nothing is traced: the handler itself."""
    return handler


class Endpoint:
    """The ASGI application around one handler."""

    def __init__(self, handle: Handler, need: Need, *, season_in_body: bool = False) -> None:
        """`season_in_body`: the path does not say which season it is about; the handler asks `Call.require_season`."""
        self.handle = handle
        self.need = need
        self.season_in_body = season_in_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gate = gate_of(scope)
        try:
            key = gate.access.admit(scope, self.need, season_in_body=self.season_in_body)
            handle = partial(self.handle, Call(scope, receive, key=key))
            answer = await (handle() if key is None else gate.pass_key(key, handle))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            answer = failed(scope, error)
        await send_answer(scope, send, answer)


def failed(scope: Scope, error: BaseException) -> Answer:
    """What the client hears of what the handler of its request raised."""
    if isinstance(error, asyncio.CancelledError):  # what it waited for, at the end of the process
        error = UnavailableError("the service stops; it may have happened or not, try again shortly")
    if isinstance(error, LeaderboardError):
        return error_answer(scope, error)
    told = {"request_id": request_id(scope), "method": scope["method"], "path": scope["path"]}
    log.error("request failed", exc_info=error, **told)
    return internal_error(scope)


def decoded(decoder: msgspec.json.Decoder[T], body: bytes | bytearray | msgspec.Raw) -> T:
    """What the bytes say, or InvalidRequestError."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        told = str(error)[:_TOLD]  # it may name a field that somebody made up
        raise InvalidRequestError(f"the body is not as expected: {told}", code="invalid_body") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}", code="invalid_json") from error


def of_now(query: dict[str, str]) -> dict[str, str]:
    """The query of a read that knows neither moments nor waiting: asked for, they must not be passed over."""
    for name in ("asOf", "movementSince", "after", "wait"):
        if name in query:
            raise InvalidRequestError(
                f"top, rank and around of a season take {name}, this does not: leave it out", code="invalid_query"
            )
    return query


def user_id_in(query: dict[str, str]) -> UserId:
    return parse_user_id(query.get("userId", ""))


def score_in(query: dict[str, str]) -> int:
    """The score from the query; InvalidRequestError when it is none."""
    text = query["score"]
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_SCORE_DIGITS):
        raise InvalidRequestError(f"score must be a whole number, not {text[:40]!r}", code="invalid_score")
    return parse_score(int(text))


def ties_in(query: dict[str, str]) -> bool:
    """Whether equal scores share a rank; InvalidRequestError when `ties` is no word that there is."""
    text = query.get("ties")
    if text is None:
        return False
    if text not in TIES:
        raise InvalidRequestError(f"ties must be one of {' and '.join(TIES)}, not {text[:40]!r}", code="invalid_ties")
    return text == "competition"


def window_in(query: dict[str, str]) -> Window | None:
    """The window from the query, None = all time; InvalidRequestError when it is none that there is."""
    text = query.get("window")
    if text is None:
        return None
    for window in WINDOWS:
        if text == window:
            return window
    raise InvalidRequestError(
        f"window must be one of {', '.join(WINDOWS)}, or left out for all time, not {text[:40]!r}",
        code="invalid_window",
    )


def flag_in(query: dict[str, str], name: str) -> bool:
    """Whether that parameter is true, left out = false; InvalidRequestError when it is neither."""
    text = query.get(name, "false")
    if text in ("true", "false"):
        return text == "true"
    raise InvalidRequestError(f"{name} must be true or false, not {text[:40]!r}", code=f"invalid_{name}")


def whole_number_in(query: dict[str, str], name: str, default: int, lowest: int, highest: int) -> int:
    """A decimal number within bounds from the query; InvalidRequestError when it is anything else."""
    text = query.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 9 and lowest <= int(text) <= highest:
        return int(text)
    raise InvalidRequestError(
        f"{name} must be a whole number from {lowest} to {highest}, not {text[:40]!r}", code=f"invalid_{name}"
    )


def _too_large() -> BodyTooLargeError:
    return BodyTooLargeError(f"the body must be at most {MAX_BODY_BYTES} bytes")
