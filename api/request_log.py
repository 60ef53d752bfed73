"""A request id for every request, and one log line each at debug level. Plain ASGI: it is on every path."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLIENTS_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger()


class RequestLog:
    """Takes the client's X-Request-Id where it is well-formed, else makes one; sends it back with the answer.

    What no handler expected becomes `on_error`'s answer here, so that log and client have the same id.
    """

    def __init__(self, app: ASGIApp, on_error: Callable[[Scope], Response]) -> None:
        self._app = app
        self._on_error = on_error
        self._process = secrets.token_hex(6)
        self._count = itertools.count(1)
        self._debug = logging.getLogger().isEnabledFor(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        if given is not None and _CLIENTS_ID.fullmatch(given):
            own = given
        else:
            own = f"{self._process}-{next(self._count)}".encode()
        scope["leaderboard.request_id"] = own
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # A new message: the one we were given may be kept and sent again.
                message = {**message, "headers": [*message["headers"], (b"x-request-id", own)]}
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request failed", request_id=own.decode(), method=scope["method"], path=scope["path"])
            if status:
                raise  # the answer has begun; the server can only close the connection
            await self._on_error(scope)(scope, receive, send_with_id)
        finally:
            if self._debug:
                log.debug(
                    "request",
                    request_id=own.decode(),
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    duration_ms=round((time.perf_counter() - started) * 1000, 2),
                )


def request_id(scope: Scope) -> str:
    """The id that RequestLog gave this request."""
    own: bytes = scope["leaderboard.request_id"]
    return own.decode()
