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
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import whole_answers
from api.answers import Answer, head_of, request_id, send_answer, set_request_id, status_of
from api.endpoint import Call, Endpoint, failed
from api.games_api import games_path
from api.gate import Gate, set_gate
from api.metrics import OTHER, Requests, Tally, label_of, method_label
from api.top_cache import TopCache
from shared.errors import LeaderboardError
from shared.scores import MAX_SEASON_ID_LENGTH, SEASON_ID_CHARACTERS

_CLIENTS_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SEASONS: Final = "/v1/seasons/"
_PLAIN_URL: Final = re.compile(
    rb"(/v1/seasons/([%b]{1,%d})/([a-z/]+))(?:\?([!-\"$-~]*))?" % (SEASON_ID_CHARACTERS.encode(), MAX_SEASON_ID_LENGTH)
)
_PLAIN_GAMES_URL: Final = re.compile(
    rb"(/api/leaderboard/([a-z]+)(?:/([0-9]{1,19}))?(?:/([0-9]{1,19}))?)(?:\?([!-\"$-~]*))?"
)

_ROUTE: Final = "leaderboard.route"
_TALLY: Final = "leaderboard.tally"
_SEASONS_TOP: Final = f"{_SEASONS}{{sid}}/leaderboard/top"

_CORS: Final[dict[str, Any]] = {
    "allow_methods": ("GET", "POST", "PUT", "DELETE"),
    "allow_headers": ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-Id"),
    "expose_headers": (
        *("ETag", "Idempotent-Replayed", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
    ),
    "max_age": 3600,
}

log = structlog.get_logger()


class Front:
    """`hot` are endpoints by method and what follows the season's id in the path, `hot_games` those of the games API by
    method, word and how many ids follow it; they are routes of `app` as well, which serves ids that are not plain. A
    client's X-Request-Id is kept where it is well-formed. `stop`: called when the process is to stop. `origins`: whose
    web pages may call, none = no other's."""

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate,
        requests: Requests,
        top_cache: TopCache,
        *,
        hot: Mapping[tuple[str, str], Endpoint],
        hot_games: Mapping[tuple[str, str, int], Endpoint],
        stop: Callable[[], None],
        origins: Sequence[str] = (),
    ) -> None:
        self.app = app
        self._gate = gate
        self._requests = requests
        self._cors = CORSMiddleware(self._answer_page, origins, **_CORS) if origins else None
        self._top_cache = top_cache
        self._hot = hot
        self.stop = stop
        self._process = secrets.token_hex(6).encode()
        self._count = itertools.count(1)
        self._debug = logging.getLogger().isEnabledFor(logging.DEBUG)
        self._direct = {
            (method.encode(), rest.encode()): (endpoint, requests.of(f"{_SEASONS}{{sid}}/{rest}", method))
            for (method, rest), endpoint in hot.items()
        }
        self._direct_games = {
            (method.encode(), word.encode(), ids): (endpoint, requests.of(games_path(word, ids), method))
            for (method, word, ids), endpoint in hot_games.items()
        }

    def finds(self, method: bytes, url: bytes, scope: Scope) -> Endpoint | None:
        """The endpoint of a request that is made all the time, and its scope completed; None for any other request, and
        where the URL is not written as every client does."""
        if self._debug or b"origin" in head_of(scope):
            return None
        plain = _PLAIN_URL.fullmatch(url)
        if plain is None:
            return self._finds_game(method, url, scope)
        path, season_id, rest, query = plain.groups()
        found = self._direct.get((method, rest))
        if found is None:
            return None
        endpoint, scope[_TALLY] = found
        scope["method"] = method.decode()
        scope["path"] = path.decode()
        scope["path_params"] = {"sid": season_id.decode()}
        scope["query_string"] = query or b""
        return endpoint

    def _finds_game(self, method: bytes, url: bytes, scope: Scope) -> Endpoint | None:
        plain = _PLAIN_GAMES_URL.fullmatch(url)
        if plain is None:
            return None
        path, word, game_id, user_id, query = plain.groups()
        ids = (game_id is not None) + (user_id is not None)
        found = self._direct_games.get((method, word, ids))
        if found is None:
            return None
        endpoint, scope[_TALLY] = found
        scope["method"] = method.decode()
        scope["path"] = path.decode()
        scope["path_params"] = {"game_id": (game_id or b"").decode(), "user_id": (user_id or b"").decode()}
        scope["query_string"] = query or b""
        return endpoint

    def begin(self, endpoint: Endpoint, scope: Scope, body: bytes) -> Answer | Coroutine[Any, Any, Answer]:
        """The answer of the endpoint that was found, or what will return or raise it (`api.endpoint.failed`)."""
        self._identify(scope)
        gate, key = self._gate, None
        if gate.access.asks:
            try:
                key = gate.access.admit(scope, endpoint.need, season_in_body=endpoint.season_in_body)
            except LeaderboardError as error:
                return failed(scope, error)
            if key is not None and gate.limits.counts_keys:
                call = Call(scope, _nothing_more, body, key=key)
                return gate.pass_key(key, partial(self._handle, endpoint, call))
        if scope["method"] == "GET":
            kept = self._kept(scope)
            if kept is not None:
                return kept
        return endpoint.handle(Call(scope, _nothing_more, body, key=key))

    async def _handle(self, endpoint: Endpoint, call: Call) -> Answer:
        kept = self._kept(call.scope) if call.scope["method"] == "GET" else None
        return kept or await endpoint.handle(call)

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """A request that `begin` was asked for was answered."""
        tally: Tally = scope[_TALLY]
        tally.note(status, seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        self._identify(scope)
        set_gate(scope, self._gate)
        if self._debug:
            whole_answers.take(scope)  # it would pass the log by
            send = _logged(scope, send)
        if b"origin" not in head_of(scope):
            await self._answer(scope, receive, send)
        elif self._cors is None:
            await self._answer_page(scope, receive, send)
        else:
            whole_answers.take(scope)  # its headers would be missing
            await self._cors(scope, receive, send)
        status = status_of(scope)
        if status is not None:
            route = scope.get(_ROUTE) or (label_of(scope["route"].path) if "route" in scope else OTHER)
            self._requests.of(route, method_label(scope["method"])).note(status, time.perf_counter() - started)

    async def _answer_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A web page asks."""
        try:
            self._gate.access.refuse_foreign_page(scope)
        except LeaderboardError as error:
            await send_answer(scope, send, failed(scope, error))
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if b"%2f" in scope["raw_path"].lower():  # the router tells an id's slash from those of the path
            await self.app(scope, receive, send)
            return
        if method in ("GET", "HEAD") and not self._gate.access.asks:
            kept = self._kept(scope)
            if kept is not None:
                scope[_ROUTE] = _SEASONS_TOP if path.startswith(_SEASONS) else games_path("top", 1)
                await send_answer(scope, send, kept)
                return
        app = self.app
        if path.startswith(_SEASONS):
            season_id, _, rest = path[len(_SEASONS) :].partition("/")
            endpoint = self._hot.get((method, rest))
            if endpoint is not None:
                scope["path_params"] = {"sid": season_id}
                scope[_ROUTE] = f"{_SEASONS}{{sid}}/{rest}"
                app = endpoint
        await app(scope, receive, send)

    def _identify(self, scope: Scope) -> None:
        own = head_of(scope).get(b"x-request-id")
        if own is None or _CLIENTS_ID.fullmatch(own) is None:
            own = b"%b-%d" % (self._process, next(self._count))
        set_request_id(scope, own)

    def _kept(self, scope: Scope) -> Answer | None:
        kept = self._top_cache.get((scope["path"], scope["query_string"]))
        return None if kept is None else kept.to(head_of(scope).get(b"if-none-match"))


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


async def _nothing_more() -> Message:
    raise AssertionError("the body is there already")
