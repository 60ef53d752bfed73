"""One HTTP connection pool, and what is sent again. Nothing here knows what the service is asked for.

A request is sent again, `attempts` times in all, where its trouble may pass: no answer within `timeout_seconds`, none
at all, 502, 503, 504. Between two attempts it pauses as long as the answer's Retry-After says, else up to 0.2 s, 0.4 s
and so on to 10 s, at random. Everything else, 429 too, is told at once.
"""

from __future__ import annotations

import random
from asyncio import sleep
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
from msgspec import Struct, convert, json

T = TypeVar("T")

_PASSING = frozenset({502, 503, 504})
_TOLD_ALL_THE_SAME = ("not_on_board", "batch_refused")
"""Errors that are answers too: who is not on the board has no rank, and a batch of which all was refused has
results."""


class LeaderboardError(Exception):
    """What the service refused, or that there was no understanding it.

    `status`: the answer's, None where there was none. `code`: the service's (docs/api.md), `no_answer`, `not_sent`
    where an id is no text or too long for a URL, `not_understood` where somebody else answered, or `cut` where an
    export ended before its end. `retry_after_seconds`:
    when asking again may help, where the answer says so: a limit (429 `rate_limited`), final ranks that are being
    settled (409 `epoch_sealing`), a service in trouble (503).
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        message: str,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{message} ({code}, request {request_id})")
        self.status, self.code, self.message, self.request_id = status, code, message, request_id
        self.retry_after_seconds = retry_after_seconds


class Connection:
    """One for the whole process, of one event loop; `async with` closes it.

    `base_url`: where the service is. `api_key`: one of `leaderboard keys create`; without it, what needs none.
    """

    def __init__(self, base_url: str, *, api_key: str = "", timeout_seconds: float = 5, attempts: int = 5) -> None:
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {api_key}"} if api_key else {})}
        limits = httpx2.Limits(max_connections=100, keepalive_expiry=4)  # the service closes what is silent for 5 s
        self._http = httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_seconds, limits=limits)
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def _ask(self, kind: type[T], method: str, path: str, body: Any = None, **query: Any) -> T:
        """The answer, as `kind`. Of `query` what is None or empty is left out. Raises LeaderboardError."""
        response = await self._send(method, path, body, query)
        try:
            told = json.decode(response.content, type=dict[str, Any])
            if response.is_success or told["code"] in _TOLD_ALL_THE_SAME:
                return convert(told, kind)
        except (ValueError, KeyError) as error:  # msgspec's are ValueErrors, but not all of them DecodeErrors
            raise _not_understood(response, error) from error
        raise _refusal(response)

    async def _open(self, path: str, query: Mapping[str, Any], silence_seconds: float) -> httpx2.Response:
        """An answer whose body is still to be read, for as long as no pause is longer than that; the caller closes
        it."""
        response = await self._send("GET", path, None, query, stream=True, silence_seconds=silence_seconds)
        if response.is_success:
            return response
        try:
            await response.aread()
        except httpx2.RequestError as error:
            raise _not_understood(response, error) from error
        finally:
            await response.aclose()
        raise _refusal(response)

    async def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, Any],
        *,
        stream: bool = False,
        silence_seconds: float | None = None,
    ) -> httpx2.Response:
        asked = {_camel(name): _text(value) for name, value in query.items() if value not in {None, ""}}
        content = None if body is None else encoded(body)
        timeout = httpx2.Timeout(self._timeout_seconds, read=silence_seconds or self._timeout_seconds)
        try:
            request = self._http.build_request(method, path, params=asked, content=content, timeout=timeout)
        except (UnicodeEncodeError, httpx2.InvalidURL) as error:
            raise _not_sent(error) from error
        failures = 0
        while True:
            failures, pause = failures + 1, random.uniform(0, min(10, 0.1 * 2 ** min(failures, 30)))  # noqa: S311 - jitter
            try:
                response = await self._http.send(request, stream=stream)
                if failures >= self._attempts or response.status_code not in _PASSING:
                    return response
                await response.aclose()
                pause = _retry_after(response) or pause
            except httpx2.RequestError as error:
                if failures >= self._attempts:
                    raise LeaderboardError(None, "no_answer", f"{method} {path}: {error!r}") from error
            await sleep(pause)


class _Refusal(Struct, rename="camel"):
    """As the service words it; others have errors too, and codes that are numbers."""

    code: str
    error: str
    request_id: str | None = None


def path_of(kind: str, name: str, rest: str = "") -> str:
    """Of a season or a user; `rest`: what follows, with its ids quoted already."""
    return f"/v1/{kind}/{quoted(name)}{rest}"


def quoted(name: str) -> str:
    """An id as a part of a path; the service says what is wrong with one that is no text."""
    return quote(name, safe="", errors="surrogatepass").replace(".", "%2E")  # "." alone would make another path of it


def encoded(body: Any) -> bytes:
    """As JSON. Raises LeaderboardError where a text in it is none: a lone surrogate, as JSON itself can name them."""
    try:
        return json.encode(body)
    except UnicodeEncodeError as error:
        raise _not_sent(error) from error


def _refusal(response: httpx2.Response) -> LeaderboardError:
    try:
        told = json.decode(response.content, type=_Refusal)
    except ValueError as error:
        return _not_understood(response, error)
    return LeaderboardError(response.status_code, told.code, told.error, told.request_id, _retry_after(response))


def _not_sent(error: Exception) -> LeaderboardError:
    return LeaderboardError(None, "not_sent", str(error))


def _not_understood(response: httpx2.Response, error: Exception) -> LeaderboardError:
    return LeaderboardError(response.status_code, "not_understood", str(error) or repr(error))


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
