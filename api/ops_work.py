"""Paths on which an operator has boards compared and built anew; one of each at a time in a process."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import Answer
from api.endpoint import Call, Endpoint
from api.ops_api import OPS
from api.ops_jobs import Rebuild, Verify
from api.ops_ledger import OpsLedger
from api.work_lines import Work, work_answer
from shared.errors import ConflictError
from shared.scores import SeasonId
from shared.season_choice import choose

MAX_SEASONS: Final = 1000


class RebuildBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`seasonIds`: null = all seasons, one after the other."""

    season_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_SEASONS)] | None


class VerifyBody(RebuildBody, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`seasonIds`: null = all seasons, one after the other. `repair`: whether to make right what is not."""

    repair: bool = False


class OpsWork:
    def __init__(self, ledger: OpsLedger) -> None:
        self._ledger = ledger
        self._under_way: set[str] = set()
        self._verify_decoder = msgspec.json.Decoder(VerifyBody)
        self._rebuild_decoder = msgspec.json.Decoder(RebuildBody)

    def routes(self) -> list[Route]:
        return [
            Route(f"{OPS}/verify", Endpoint(self.verify, Need.ADMIN), methods=["POST"]),
            Route(f"{OPS}/rebuild", Endpoint(self.rebuild, Need.ADMIN), methods=["POST"]),
        ]

    async def verify(self, call: Call) -> Answer:
        body = await call.json(self._verify_decoder)
        return self._begun("comparison", Verify(self._ledger, await self._chosen(body), repair=body.repair))

    async def rebuild(self, call: Call) -> Answer:
        body = await call.json(self._rebuild_decoder)
        return self._begun("rebuild", Rebuild(self._ledger, await self._chosen(body)))

    async def _chosen(self, body: RebuildBody) -> list[SeasonId]:
        async with self._ledger.trouble_told():
            return await choose(self._ledger.pool, body.season_ids or [])

    def _begun(self, what: str, work: Work) -> Answer:
        """Nothing is awaited between this and the beginning of the work."""
        if what in self._under_way:
            raise ConflictError(
                f"a {what} is under way in this process; wait for its end, or end the request that it serves",
                code="already_running",
            )
        self._under_way.add(what)
        return work_answer(work, lambda: self._under_way.discard(what))
