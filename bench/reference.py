"""Starting the HTTP limit of bench/bare.py with the answers that the service itself gave."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp

from bench.client import Client, side_by_side
from bench.processes import running
from bench.traffic import Request
from cli.embedded.memory import free_port

Answers: TypeAlias = dict[str, dict[str, Any]]


async def found_out(client: Client, requests: Iterable[Request]) -> Answers:
    """What the service answers: to each query of a top, to one player of each rank or around, to one score of each
    season."""
    examples: dict[tuple[str, str], Request] = {}
    for request in requests:
        path, _, query = request.path.partition("?")
        # One player's answer stands for all.
        examples.setdefault((path, "" if "userId=" in query else query), request)
    answers: Answers = defaultdict(dict)

    async def find_out(path: str, query: str, request: Request) -> None:
        status, content_type, body = await client.send(request)
        answers[path][query] = {"status": status, "content_type": content_type, "body": body.decode()}

    await side_by_side(find_out(path, query, request) for (path, query), request in examples.items())
    return answers


@asynccontextmanager
async def bare_uvicorn(answers: Answers, folder: Path, workers: int) -> AsyncIterator[str]:
    """A server with these answers; yields its base URL once it answers."""
    file = folder / "answers.json"
    file.write_text(json.dumps(answers))
    port = free_port()
    settings = {"ANSWERS": file, "PORT": port, "WORKERS": workers}
    async with running([sys.executable, "-m", "bench.bare"], settings=settings) as process:
        url = f"http://127.0.0.1:{port}"
        path, by_query = next(iter(answers.items()))
        async with aiohttp.ClientSession() as session:
            while not await _answers(session, f"{url}{path}?{next(iter(by_query))}"):
                if process.returncode is not None:
                    raise RuntimeError("bare uvicorn did not start; what it says stands above")
                await asyncio.sleep(0.02)
        yield url


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url):
            return True
    except aiohttp.ClientError:
        return False
