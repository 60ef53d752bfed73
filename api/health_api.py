"""Liveness and readiness of an API process."""

from __future__ import annotations

import asyncio

from starlette.routing import Route

from api.access import Need
from api.answers import Answer, json_answer
from api.endpoint import Call, Endpoint
from shared.postgres import Pool
from shared.probes import Readiness, probe
from shared.redis_client import Client


class HealthApi:
    def __init__(self, pool: Pool, client: Client) -> None:
        self._pool = pool
        self._client = client
        self._probe: asyncio.Task[Readiness] | None = None

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", Endpoint(self.healthz, Need.OPEN), methods=["GET"]),
            Route("/readyz", Endpoint(self.readyz, Need.OPEN), methods=["GET"]),
        ]

    async def healthz(self, _call: Call) -> Answer:
        return Answer(200, b'{"status":"ok"}')

    async def readyz(self, _call: Call) -> Answer:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(probe(self._pool, self._client))
        readiness = await asyncio.shield(self._probe)  # who asks meanwhile is told the same
        return json_answer(readiness, 200 if readiness.status == "ready" else 503)
