"""What every request passes before its handler: its key, and the limit of that key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.types import Scope

from api.access import Access
from api.answers import Answer
from api.rate_limits import RateLimits
from shared.api_keys import ApiKey

_GATE: Final = "leaderboard.gate"


class Gate:
    """`access.asks`, `access.admit`: who may pass. `limits.counts_keys`, `pass_key`: how often."""

    __slots__ = ("access", "limits")

    def __init__(self, access: Access, limits: RateLimits) -> None:
        self.access = access
        self.limits = limits

    async def pass_key(self, key: ApiKey, handle: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """What `handle` answers, and what is left of the key's limit. Raises RateLimitedError before it is called."""
        if not self.limits.counts_keys:
            return await handle()
        headers = await self.limits.take_key(key)
        answer = await handle()
        return answer._replace(headers=(*answer.headers, *headers)) if headers else answer


def set_gate(scope: Scope, gate: Gate) -> None:
    scope[_GATE] = gate


def gate_of(scope: Scope) -> Gate:
    gate: Gate = scope[_GATE]
    return gate
