"""Files of this package as they are served: each with its type, and an ETag by which nothing is sent twice."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from starlette.routing import Route

from api.access import Need
from api.answers import Answer, Header, TaggedAnswer
from api.endpoint import Call, Endpoint

_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".woff2": b"font/woff2",
}


def file_routes(folder: Path, files: Mapping[str, str], headers: Sequence[Header] = ()) -> list[Route]:
    """A route for each path, to the file of that name in the folder; read once. `headers` go with each of them."""
    return [
        Route(
            path, Endpoint(_serving(folder / name, tuple(headers)), Need.OPEN), methods=["GET"], include_in_schema=False
        )
        for path, name in files.items()
    ]


def _serving(file: Path, headers: tuple[Header, ...]) -> Callable[[Call], Coroutine[Any, Any, Answer]]:
    async def serve(call: Call) -> Answer:
        return _tagged(file, headers).to(call.header(b"if-none-match"))

    return serve


@cache
def _tagged(file: Path, headers: tuple[Header, ...]) -> TaggedAnswer:
    return TaggedAnswer(file.read_bytes(), _TYPES[file.suffix], headers)
