"""Pages to read the API on and to try it out: Swagger UI on /docs and /swagger/index.html, served from the package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.routing import Route

from api.packaged_files import file_routes

_FOLDER: Final = Path(__file__).parent / "swagger_ui"
# Swagger UI writes styles of its own; what counts here is that no other page frames this one.
_HEADERS: Final = (
    (b"content-security-policy", b"frame-ancestors 'none'; base-uri 'none'; object-src 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_PAGE: Final = "index.html"
_ASSETS: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon-32x32.png")


def routes() -> list[Route]:
    files = {"/docs": _PAGE, "/swagger/index.html": _PAGE, **{f"/docs/{name}": name for name in _ASSETS}}
    return file_routes(_FOLDER, files, _HEADERS)
