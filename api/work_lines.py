"""Work that lasts, told on the connection that asked for it: JSON lines (NDJSON) as things happen, then the end.

The connection is the job: a client that leaves, or the end of the process, cancels the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import structlog
from starlette.types import Message, Scope, Send

from api import open_answers
from api.answers import NO_STORE, Answer, request_id
from shared.errors import LeaderboardError, UnavailableError

NDJSON: Final = b"application/x-ndjson"

_HEADERS: Final = (NO_STORE, (b"x-accel-buffering", b"no"))  # proxies are not to wait for more
_TICK_SECONDS: Final = 0.25
_QUIET_TICKS: Final = 20
"""Also when nothing changed there is a line every five seconds: for proxies, and to notice that nobody listens."""

Line: TypeAlias = dict[str, Any]

log = structlog.get_logger()


class Work(Protocol):
    """`results` does it and yields what is final; `progress` tells how far it is."""

    def results(self) -> AsyncGenerator[Line, None]: ...

    def progress(self) -> Line: ...


def work_answer(work: Work, over: Callable[[], None]) -> Answer:
    """The answer that carries the work out while it is sent; `over` is called at its end, however it ends.

    What the work raises becomes its last line: status and headers are long since sent.
    """

    async def go_on(scope: Scope, send: Send, start: Message) -> None:
        try:
            await _carry_out(work, scope, send, start)
        finally:
            over()

    return Answer(200, b"", _HEADERS, NDJSON, go_on)


async def _carry_out(work: Work, scope: Scope, send: Send, start: Message) -> None:
    answer = open_answers.hold(scope)

    async def say(line: Line) -> None:
        await send({"type": "http.response.body", "body": msgspec.json.encode(line) + b"\n", "more_body": True})

    async def tell_results() -> None:
        # Closed in this task, where it is cancelled: what it holds is given back before the answer ends.
        async with aclosing(work.results()) as results:
            async for line in results:
                await say(line)

    await send(start)
    working = asyncio.create_task(tell_results())
    ticking = asyncio.create_task(_tick(work, say))
    try:
        await asyncio.wait({working, answer.over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ticking.cancel()
        working.cancel()
        await asyncio.gather(ticking, working, return_exceptions=True)
    failure = UnavailableError("the service stops; what was not finished is rolled back: ask again")
    error = failure if working.cancelled() else working.exception()
    if error is not None:
        await say(_failed(scope, error))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _tick(work: Work, say: Callable[[Line], Any]) -> None:
    told, quiet = work.progress(), 0
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        now, quiet = work.progress(), quiet + 1
        if now != told or quiet >= _QUIET_TICKS:
            await say(now)
            told, quiet = now, 0


def _failed(scope: Scope, error: BaseException) -> Line:
    own = request_id(scope)
    if not isinstance(error, LeaderboardError):
        log.error("work failed", exc_info=error, request_id=own, path=scope["path"])
        return {
            "type": "failed",
            "error": "internal error; please report it with the requestId",
            "code": "internal_error",
            "requestId": own,
        }
    return {"type": "failed", "error": error.message, "code": error.code, "requestId": own}
