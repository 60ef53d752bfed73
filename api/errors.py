"""Errors as JSON: the one handler that turns exceptions into answers."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from api.request_log import request_id
from shared.errors import LeaderboardError

_CODES = {404: "not_found", 405: "method_not_allowed"}
_MESSAGES = {
    404: "no such path; see docs/api.md for the ones there are",
    405: "this path does not take that method; the Allow header lists those it takes",
}


class ErrorBody(msgspec.Struct, frozen=True, rename="camel"):
    error: str
    code: str
    request_id: str


async def on_leaderboard_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LeaderboardError)
    headers = {}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    if error.status in (408, 413):
        # The rest of the body was not read; the connection can't be used for another request.
        headers["connection"] = "close"
    return _answer(request.scope, error.status, error.message, error.code, headers)


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = _MESSAGES.get(error.status_code, error.detail)
    code = _CODES.get(error.status_code, HTTPStatus(error.status_code).name.lower())
    return _answer(request.scope, error.status_code, message, code, error.headers)


def internal_error(scope: Scope) -> Response:
    """The answer to what no handler expected: the client learns nothing but the id that the log has as well."""
    return _answer(scope, 500, "internal error; please report it with the requestId", "internal_error", None)


def _answer(scope: Scope, status: int, message: str, code: str, headers: Mapping[str, str] | None) -> Response:
    body = msgspec.json.encode(ErrorBody(message, code, request_id(scope)))
    return Response(body, status, headers, media_type="application/json")


HANDLERS: dict[Any, Any] = {
    LeaderboardError: on_leaderboard_error,
    HTTPException: on_http_exception,
}
