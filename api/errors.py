"""Errors as JSON: the one place that turns exceptions into answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from api.answers import Answer, Header, json_answer, rate_limit_headers, request_id, set_status
from shared.errors import LeaderboardError, RateLimitedError, UnauthorizedError

_CODES = {404: "not_found", 405: "method_not_allowed"}
_MESSAGES = {
    404: "no such path; see docs/api.md for the ones there are",
    405: "this path does not take that method; the Allow header lists those it takes",
}


# RFC 6750, 3: without the error where no key came at all.
_CHALLENGES = (b'Bearer realm="leaderboard"', b'Bearer realm="leaderboard", error="invalid_token"')


class ErrorBody(msgspec.Struct, frozen=True, rename="camel"):
    error: str
    code: str
    request_id: str


def error_answer(scope: Scope, error: LeaderboardError) -> Answer:
    headers: list[Header] = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    if isinstance(error, RateLimitedError):
        window, wait = error.window_seconds, error.retry_after_seconds or 1
        headers += rate_limit_headers(error.limit, error.quota, window, 0, wait)
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", _CHALLENGES[error.code == "invalid_key"]))
    if error.status == 413:
        # The rest of the body was not read; the connection can't be used for another request.
        headers.append((b"connection", b"close"))
    return json_answer(ErrorBody(error.message, error.code, request_id(scope)), error.status, headers)


def internal_error(scope: Scope) -> Answer:
    """The answer to what no handler expected: the client learns nothing but the id that the log has as well."""
    message = "internal error; please report it with the requestId"
    return json_answer(ErrorBody(message, "internal_error", request_id(scope)), 500)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the router refuses."""
    assert isinstance(error, HTTPException)
    own = request_id(request.scope)
    set_status(request.scope, error.status_code)
    body = ErrorBody(
        _MESSAGES.get(error.status_code, error.detail),
        _CODES.get(error.status_code, HTTPStatus(error.status_code).name.lower()),
        own,
    )
    headers = {**(error.headers or {}), "x-request-id": own}
    return Response(msgspec.json.encode(body), error.status_code, headers, media_type="application/json")


HANDLERS: dict[Any, Any] = {HTTPException: _on_http_exception}
