"""`python -m api`: serves until SIGTERM or SIGINT. Needs POSTGRES_DSN and REDIS_URL; README lists all settings.

Exit codes: 0 stopped, 1 could not start, 2 settings are wrong.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import structlog
import uvicorn

from api.access import NobodyAllowedError, require_some_key
from api.app import api_connection
from api.direct_protocol import DirectHttpProtocol
from api.http_protocol import KEEP_ALIVE_SECONDS, SERVER_HEADERS
from api.process_group import ProcessGroup
from shared import api_keys
from shared.lifetime import end_undisturbed
from shared.logs import configure_logs
from shared.ports import PortTakenError, require_free
from shared.postgres import schema_awaited, wait_for_server
from shared.revision import StaleSchemaError
from shared.settings import ServiceSettings, SettingsError, load_service_settings


def main() -> int:
    try:
        settings = load_service_settings()
    except SettingsError as error:
        print(f"api: {error}", file=sys.stderr)  # noqa: T201 - logs are not configured yet
        return 2
    configure_logs(settings, "api")
    try:
        ready = asyncio.run(_ready(settings))
        for number in (signal.SIGTERM, signal.SIGINT):  # one may come before uvicorn runs
            signal.signal(number, lambda *_: sys.exit(0))
        if not ready:
            return 0
        require_free("API_PORT", settings.api_host, settings.api_port)
    except (NobodyAllowedError, StaleSchemaError, PortTakenError, psycopg.Error) as error:
        print(f"api: can't start: {str(error).strip()}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0
    with _shared_metrics(settings):
        _serve(settings)
    return 0


def _serve(settings: ServiceSettings) -> None:
    config = uvicorn.Config(
        "api.app:create_served_app",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        workers=settings.api_workers,
        loop="uvloop",
        http=DirectHttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=SERVER_HEADERS,
        proxy_headers=False,  # nothing here depends on where a request came from
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )
    if config.workers > 1:
        ProcessGroup(config, [config.bind_socket()]).run()
        end_undisturbed()
        return
    server = _Server(config)
    server.run()
    if not server.started:
        sys.exit(1)


class _Server(uvicorn.Server):
    """uvicorn's own, but for its end: it would send itself the signal again once it has stopped."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            end_undisturbed()


@contextmanager
def _shared_metrics(settings: ServiceSettings) -> Iterator[None]:
    """A folder for what several processes count together, empty at first: ids of processes come again."""
    given = settings.prometheus_multiproc_dir
    if settings.api_workers == 1 and given is None:
        yield
        return
    with nullcontext(given) if given is not None else TemporaryDirectory(prefix="leaderboard-metrics-") as folder:
        shared = Path(folder)
        shared.mkdir(parents=True, exist_ok=True)
        for left in shared.glob("*.db"):
            left.unlink()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)  # for the library, in the processes that uvicorn starts
        yield


async def _ready(settings: ServiceSettings) -> bool:
    """Whether to serve: False where a signal came while PostgreSQL was waited for."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # By the loop: an exception raised by a signal's handler is lost where it comes in a finalizer.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if not await schema_awaited(api_connection(settings), settings.startup_timeout_seconds, stop):
        return False
    async with await wait_for_server(api_connection(settings), 0) as conn:
        any_made = await api_keys.any_made(conn)
    require_some_key(settings, any_made=any_made)
    if not any_made and settings.admin_key is None:
        structlog.get_logger().warning(
            "no keys: whoever reaches this address may do everything", address=settings.api_host
        )
    return True


if __name__ == "__main__":
    sys.exit(main())
