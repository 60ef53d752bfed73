"""The pages for people: live boards on /, the operators' page on /ops. Files of the package, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.routing import Route

from api.packaged_files import file_routes

_FOLDER: Final = Path(__file__).parent / "pages"
_SERVED: Final = frozenset({".html", ".css", ".js", ".svg", ".woff2"})

# What a board shows was made up by strangers: no script and no style counts but those of the files here.
_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def routes() -> list[Route]:
    """The two pages, and below /pages what they are made of."""
    names = sorted(file.name for file in _FOLDER.iterdir() if file.suffix in _SERVED)
    parts = {f"/pages/{name}": name for name in names if not name.endswith(".html")}
    return file_routes(_FOLDER, {"/": "board.html", "/ops": "ops.html", **parts}, _HEADERS)
