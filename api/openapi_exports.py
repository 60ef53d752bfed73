"""The OpenAPI description of a board's export."""

from __future__ import annotations

from typing import Final

import msgspec

from api.exports import EXPORTS_MAX
from api.openapi_boards import WINDOW
from api.openapi_parts import SEASON, SID, Json, empty_answer, operation, query
from shared.board_files import COLUMNS, FORMATS

_ABOUT: Final[Json] = {
    "seasonId": SEASON,
    "epoch": 1,
    "exportedAt": "2026-11-27T03:18:28.133742Z",
    "window": None,
    "players": 1,
    "aggregation": "best",
    "order": "desc",
    "windows": False,
    "tieBreak": "earliest",
}
_ROW: Final[Json] = {"rank": 1, "userId": "ann", "score": 25, "reachedAt": "2026-11-27T02:58:53.492362Z"}


def paths(season: str) -> Json:
    """By path; `season` is the path of one."""
    return {f"{season}/leaderboard/export": {"get": _export()}}


def _export() -> Json:
    lines = "".join(f"{msgspec.json.encode(line).decode()}\n" for line in (_ABOUT, _ROW))
    table = "\r\n".join([",".join(COLUMNS), ",".join(map(str, _ROW.values())), ""])
    found: Json = {
        **empty_answer(
            "All players, best first, of one moment. Lines of JSON: the first says what board it is. CSV: the first "
            "has the names of the columns. `reachedAt` only in seasons with windows, or with tieBreak earliest.",
            *("Cache-Control", "X-Season-Epoch", "X-Exported-At", "X-Total-Players"),
        ),
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}, "example": lines},
            "text/csv": {"schema": {"type": "string"}, "example": table},
        },
    }
    kind = {"type": "string", "enum": list(FORMATS)}
    return operation(
        "export",
        "The whole board",
        [SID, query("format", kind, "Left out: as Accept says, else ndjson."), WINDOW],
        {200: found},
        {
            400: ["invalid_season_id", "invalid_format", "invalid_window", "invalid_query"],
            404: ["season_not_found"],
            409: ["windows_off"],
            503: ["overloaded", "deadline_exceeded", "postgres_unavailable"],
        },
        description=f"{EXPORTS_MAX} at a time in a process. An answer whose last chunk is missing was cut.",
    )
