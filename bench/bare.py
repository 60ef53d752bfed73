"""The HTTP limit: uvicorn, started as api/__main__.py does, and as little behind it as can be. It answers each path
with bytes that were found out beforehand. `python -m bench.bare` needs ANSWERS, PORT and WORKERS."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from typing import Any, Final, TypeAlias

import uvicorn

from shared.lifetime import die_with_parent

_STARTED: Final = {"type": "lifespan.startup.complete"}

Answer: TypeAlias = tuple[dict[str, Any], dict[str, Any]]


def create_app() -> Any:
    """What uvicorn calls in each of its processes."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(signal.SIGTERM, parent.pid)
    with open(os.environ["ANSWERS"], encoding="utf-8") as file:  # noqa: PTH123
        by_path = {
            path: {query.encode(): _messages(**answer) for query, answer in answers.items()}
            for path, answers in json.load(file).items()
        }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send(_STARTED)
            return
        answers = by_path[scope["path"]]
        # Ranks differ in their query, not in the bytes that are answered.
        start, body = answers.get(scope["query_string"]) or answers[b""]
        await send(start)
        await send(body)

    return app


def _messages(status: int, content_type: str, body: str) -> Answer:
    encoded = body.encode()
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(encoded))]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": encoded}


if __name__ == "__main__":
    uvicorn.run(
        "bench.bare:create_app",
        factory=True,
        port=int(os.environ["PORT"]),
        workers=int(os.environ["WORKERS"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
