"""What the server calls: every request gets its id, kept answers go out at once, the paths that games ask all the time
go straight to their endpoints, everything else through Starlette's router.

On the path of every request: a router, a Request and a Response would halve the rate of what is answered here.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import whole_answers
from api.answers import request_id, send_answer, set_request_id
from api.top_cache import TopCache

_CLIENTS_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SEASONS: Final = "/v1/seasons/"

log = structlog.get_logger()


class Front:
    """`hot` are endpoints by method and what follows the season's id in the path; they are routes of `app` as well,
    which serves ids that are not plain. A client's X-Request-Id is kept where it is well-formed."""

    def __init__(self, app: ASGIApp, top_cache: TopCache, hot: Mapping[tuple[str, str], ASGIApp]) -> None:
        self.app = app
        self._top_cache = top_cache
        self._hot = hot
        self._process = secrets.token_hex(6).encode()
        self._count = itertools.count(1)
        self._debug = logging.getLogger().isEnabledFor(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if_none_match = self._identify(scope)
        if self._debug:
            whole_answers.take(scope)  # it would pass the log by
            send = _logged(scope, send)
        method, path = scope["method"], scope["path"]
        if method in ("GET", "HEAD"):
            kept = self._top_cache.get((path, scope["query_string"]))
            if kept is not None:
                await send_answer(scope, send, kept.to(if_none_match))
                return
        app = self.app
        if path.startswith(_SEASONS):
            season_id, _, rest = path[len(_SEASONS) :].partition("/")
            endpoint = self._hot.get((method, rest))
            if endpoint is not None:
                scope["path_params"] = {"sid": season_id}
                app = endpoint
        await app(scope, receive, send)

    def _identify(self, scope: Scope) -> bytes | None:
        """Give the request its id; returns its If-None-Match, so that the headers are walked once."""
        own = if_none_match = None
        for name, value in reversed(scope["headers"]):  # of several the first counts
            if name == b"x-request-id":
                own = value
            elif name == b"if-none-match":
                if_none_match = value
        if own is None or _CLIENTS_ID.fullmatch(own) is None:
            own = b"%b-%d" % (self._process, next(self._count))
        set_request_id(scope, own)
        return if_none_match


def _logged(scope: Scope, send: Send) -> Send:
    """`send`, with a line in the log for the request once it is answered."""
    started = time.perf_counter()

    async def send_and_log(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            log.debug(
                "request",
                request_id=request_id(scope),
                method=scope["method"],
                path=scope["path"],
                status=message["status"],
                duration_ms=round((time.perf_counter() - started) * 1000, 2),
            )

    return send_and_log
