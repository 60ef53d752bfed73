"""Pages to read the API on and to try it out: Swagger UI on /docs and /swagger/index.html, served from the package."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, Final

from starlette.routing import Route

from api.access import Need
from api.answers import Answer, TaggedAnswer
from api.endpoint import Call, Endpoint

_FOLDER: Final = Path(__file__).parent / "swagger_ui"
_PAGE: Final = "index.html"
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
}
_ASSETS: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon-32x32.png")


def routes() -> list[Route]:
    files = {"/docs": _PAGE, "/swagger/index.html": _PAGE, **{f"/docs/{name}": name for name in _ASSETS}}
    return [
        Route(path, Endpoint(_serving(name), Need.OPEN), methods=["GET"], include_in_schema=False)
        for path, name in files.items()
    ]


def _serving(name: str) -> Callable[[Call], Coroutine[Any, Any, Answer]]:
    async def serve(call: Call) -> Answer:
        return _file(name).to(call.header(b"if-none-match"))

    return serve


@cache
def _file(name: str) -> TaggedAnswer:
    path = _FOLDER / name
    return TaggedAnswer(path.read_bytes(), _TYPES[path.suffix])
