"""The worker's own HTTP endpoint: /healthz says that the process turns, /readyz asks the servers behind it, /metrics
tells what it does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.metrics import CONTENT_TYPE
from shared.postgres import Pool
from shared.probes import probe
from shared.redis_client import Client
from shared.settings import ServiceSettings


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone: they stop the worker, and the worker stops this."""
        yield


def health_server(
    pool: Pool,
    client: Client,
    last_turn: Callable[[], float],
    metrics: Callable[[], Awaitable[bytes]],
    settings: ServiceSettings,
) -> uvicorn.Server:
    """A server to be run as a task; set its `should_exit` to stop it. `last_turn`: monotonic seconds."""

    async def healthz(_request: Request) -> Response:
        idle_seconds = round(time.monotonic() - last_turn(), 3)
        return JSONResponse({"status": "ok", "secondsSinceLastTurn": idle_seconds})

    async def readyz(_request: Request) -> Response:
        readiness = await probe(pool, client)
        status = 200 if readiness.status == "ready" else 503
        return Response(msgspec.json.encode(readiness), status, media_type="application/json")

    async def metrics_text(_request: Request) -> Response:
        return Response(await metrics(), headers={"content-type": CONTENT_TYPE})

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics_text)]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return _Server(
        uvicorn.Config(
            app,
            host=settings.worker_health_host,
            port=settings.worker_health_port,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
