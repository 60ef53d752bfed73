"""One request and its answer, tried again where what went wrong may pass by itself: no answer, 502, 503 and 504.

Whatever goes through here must be safe to send again; that is for the caller to see to.
"""

from __future__ import annotations

import random
from asyncio import sleep
from collections.abc import Mapping
from typing import Any, Final, Self, TypeVar

import httpx2
import msgspec

from leaderboard_client.answers import Told

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Of those that are drawn; a Retry-After may be longer."""

_PASSING: Final = (502, 503, 504)
_BROKEN: Final = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
# The service closes what was silent for 5 s: who lets go of it earlier has no connection break under a request.
_LIMITS: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4)

T = TypeVar("T")


class LeaderboardError(Exception):
    """`status` is None where no answer came. `code` is one of docs/api.md's, `no_answer`, or `not_understood`."""

    def __init__(self, status: int | None, code: str, message: str, request_id: str | None = None) -> None:
        super().__init__(status, code, message, request_id)
        self.status, self.code, self.message, self.request_id = status, code, message, request_id

    def __str__(self) -> str:
        return f"{self.message} ({self.code}, request {self.request_id})"


class Exchange:
    """A pool of connections to the service, and whose they are."""

    def __init__(self, base_url: str, api_key: str | None, timeout_seconds: float, attempts: int) -> None:
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._http = httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_seconds, limits=_LIMITS)
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> httpx2.Response:
        """The answer, whatever it says. Raises LeaderboardError where there is none."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        failures = 0
        while True:
            failures += 1
            try:
                response = await self._http.request(method, path, params=asked, content=content, headers=headers)
            except httpx2.RequestError as error:
                if failures >= self._attempts or not isinstance(error, _BROKEN):
                    raise LeaderboardError(None, "no_answer", f"{method} {path}: {error!r}") from error
                await sleep(_drawn_seconds(failures))
            else:
                if failures >= self._attempts or response.status_code not in _PASSING:
                    return response
                await sleep(_told_seconds(response) or _drawn_seconds(failures))


def read(response: httpx2.Response, kind: type[T]) -> T:
    """What the answer says. Raises LeaderboardError where that is an error, or nothing of the service's."""
    if not response.is_success:
        raise error_in(response)
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        raise LeaderboardError(response.status_code, "not_understood", str(error)) from error


def told_in(response: httpx2.Response) -> Told:
    try:
        return msgspec.json.decode(response.content, type=Told)
    except msgspec.DecodeError:
        return Told()


def error_in(response: httpx2.Response) -> LeaderboardError:
    told = told_in(response)
    return LeaderboardError(
        response.status_code, told.code, told.error, told.request_id or response.headers.get("x-request-id")
    )


def _told_seconds(response: httpx2.Response) -> float | None:
    """What Retry-After says, None where it says no number (the service always says one)."""
    told = response.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdigit() else None


def _drawn_seconds(failures: int) -> float:
    """Exponential back-off with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015)."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 30))
    return random.uniform(0, longest)  # noqa: S311 - jitter
