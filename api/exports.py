"""A season's whole board in one answer, best first: lines of JSON, or CSV.

It comes from PostgreSQL, over the connections of operators. The process holds no more than a few chunks of rows: the
next ones are fetched once the client has taken most of those before. An answer that can't be finished is cut: its last
chunk (RFC 9112, 7.1), of no length, is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog
from starlette.routing import Route
from starlette.types import Message, Scope, Send

from api import open_answers
from api.access import Need
from api.answers import NO_STORE, Answer, Header, send_answer
from api.endpoint import Call, Endpoint, failed, of_now, window_in
from api.ops_ledger import OpsLedger
from api.season_paths import ANY_SEASON, OfSeason
from api.work_lines import NDJSON
from shared.board_export import exported
from shared.board_files import FORMATS, About, Format, writer_of
from shared.errors import InvalidRequestError, OverloadedError
from shared.scores import SeasonId
from shared.windows import Window

EXPORTS_MAX: Final = 2
"""At once in a process: each takes one of its few connections for operators, and sorts a board in PostgreSQL."""

EXPORT_SECONDS: Final = 600
"""What an export may take, with a client that reads."""

CSV: Final = b"text/csv; charset=utf-8; header=present"

log = structlog.get_logger()


class _Asked(NamedTuple):
    season_id: SeasonId
    window: Window | None
    kind: Format


class Exports:
    """Of one API process."""

    def __init__(self, ledger: OpsLedger) -> None:
        self._ledger = ledger
        self.under_way = 0

    def routes(self) -> list[Route]:
        return [OfSeason(f"{ANY_SEASON}/leaderboard/export", Endpoint(self.export, Need.ADMIN), methods=["GET"])]

    async def export(self, call: Call) -> Answer:
        season_id, query = call.season_id, of_now(call.query())
        asked = _Asked(season_id, window_in(query), _format_in(query, call.header(b"accept")))
        self._require_room()

        async def go_on(scope: Scope, send: Send, start: Message) -> None:
            answer = open_answers.hold(scope)
            sending = asyncio.create_task(self._send(asked, scope, send, start))
            ends: set[asyncio.Future[Any]] = {sending, answer.over}
            try:
                await asyncio.wait(ends, timeout=EXPORT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not (sending.done() and sending.result()):
                    await answer.cut()
            finally:
                sending.cancel()
                await asyncio.wait({sending})

        disposition = f'attachment; filename="{season_id.replace(":", "_")}.{asked.kind}"'
        headers = (NO_STORE, (b"content-disposition", disposition.encode()))
        return Answer(200, b"", headers, CSV if asked.kind == "csv" else NDJSON, go_on)

    async def _send(self, asked: _Asked, scope: Scope, send: Send, start: Message) -> bool:
        """Whether the client was answered to the end."""
        begun = False
        try:
            self._require_room()
            self.under_way += 1
            try:
                async with (
                    self._ledger.trouble_told(),
                    self._ledger.pool.connection() as conn,
                    exported(conn, asked.season_id, asked.window) as (about, chunks),
                ):
                    writer = writer_of(asked.kind, about)
                    begun = True
                    await send({**start, "headers": [*start["headers"], *_told(about)]})
                    await _send_part(send, writer.head())
                    async for rows in chunks:
                        await _send_part(send, writer.lines(rows))
            finally:
                self.under_way -= 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must notice
            answer = failed(scope, error)
            if begun:
                log.warning("export cut", season_id=asked.season_id, error=str(error) or type(error).__name__)
                return False
            await send_answer(scope, send, answer)
            return True
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    def _require_room(self) -> None:
        if self.under_way >= EXPORTS_MAX:
            raise OverloadedError(f"{EXPORTS_MAX} boards are being exported by this process already; try again shortly")


async def _send_part(send: Send, body: bytes) -> None:
    """Once the client has taken most of what was sent before."""
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _told(about: About) -> Sequence[Header]:
    """For files that have no place for it."""
    return (
        (b"x-season-epoch", b"%d" % about.epoch),
        (b"x-exported-at", about.exported_at.isoformat().replace("+00:00", "Z").encode()),
        (b"x-total-players", b"%d" % about.players),
    )


def _format_in(query: dict[str, str], accept: bytes | None) -> Format:
    """That of the query, else of the Accept header, else lines of JSON. Raises InvalidRequestError."""
    text = query.get("format")
    if text is None:
        asked = accept or b""
        return "csv" if b"text/csv" in asked and NDJSON not in asked else "ndjson"
    for kind in FORMATS:
        if text == kind:
            return kind
    raise InvalidRequestError(
        f"format must be one of {' and '.join(FORMATS)}, not {text[:40]!r}", code="invalid_format"
    )
