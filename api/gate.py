"""What every request passes before its handler: its key, and the limit of that key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.types import Scope

from api.access import Access, Need
from api.answers import Answer
from api.rate_limits import RateLimits
from shared.api_keys import ApiKey

_GATE: Final = "leaderboard.gate"


class Gate:
    def __init__(self, access: Access, limits: RateLimits) -> None:
        self._access = access
        self._limits = limits

    @property
    def asks(self) -> bool:
        """Whether `admit` has anything to ask."""
        return self._access.asks

    @property
    def counts_keys(self) -> bool:
        """Whether `pass_key` has anything to count."""
        return self._limits.counts_keys

    def admit(self, scope: Scope, need: Need, *, season_in_body: bool) -> ApiKey | None:
        """As `Access.admit`."""
        return self._access.admit(scope, need, season_in_body=season_in_body)

    async def pass_key(self, key: ApiKey, handle: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """What `handle` answers, and what is left of the key's limit. Raises RateLimitedError before it is called."""
        if not self.counts_keys:
            return await handle()
        headers = await self._limits.take_key(key)
        answer = await handle()
        return answer._replace(headers=(*answer.headers, *headers)) if headers else answer


def set_gate(scope: Scope, gate: Gate) -> None:
    scope[_GATE] = gate


def gate_of(scope: Scope) -> Gate:
    gate: Gate = scope[_GATE]
    return gate
