"""`python -m worker`: applies batches until SIGTERM or SIGINT. Needs POSTGRES_DSN and REDIS_URL.

Exit codes: 0 stopped, 1 could not start, 2 settings are wrong.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import psycopg
import uvloop

from shared.lifetime import end_undisturbed
from shared.logs import configure_logs
from shared.ports import PortTakenError, require_free
from shared.postgres import schema_awaited
from shared.revision import StaleSchemaError
from shared.settings import ServiceSettings, SettingsError, load_service_settings
from worker.app import run_worker, worker_connection


def main() -> int:
    try:
        settings = load_service_settings()
    except SettingsError as error:
        print(f"worker: {error}", file=sys.stderr)  # noqa: T201 - logs are not configured yet
        return 2
    configure_logs(settings, "worker")
    try:
        uvloop.run(_serve(settings))
    except (StaleSchemaError, PortTakenError, psycopg.Error, ValueError) as error:
        print(f"worker: can't start: {str(error).strip()}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _serve(settings: ServiceSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not by the loop: it would put the default in its place in the end, which kills.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        if await schema_awaited(worker_connection(settings), settings.startup_timeout_seconds, stop):
            require_free("WORKER_HEALTH_PORT", settings.worker_health_host, settings.worker_health_port)
            await run_worker(settings, stop)
    finally:
        end_undisturbed()


if __name__ == "__main__":
    sys.exit(main())
