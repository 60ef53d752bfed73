"""`leaderboard run`: the whole service on a bare machine, supervised, in the foreground.

Order matters: servers, then the schema, then worker and api; backwards when it ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import psycopg
import structlog

from cli.embedded.account import server_account
from cli.embedded.memory import free_port, recall
from cli.embedded.postgres import EmbeddedPostgres, PostgresError
from cli.embedded.process import Program
from cli.embedded.valkey import EmbeddedValkey, ValkeyError
from cli.migrations import ROOT, MigrationError, migrate
from cli.supervisor import StackError, Supervisor
from shared.ports import PortTakenError, require_free
from shared.postgres import wait_for_server
from shared.settings import Settings

_READY_SECONDS: Final = 60.0
_LET_GO_SECONDS: Final = 3.0

log = structlog.get_logger()


class Servers(NamedTuple):
    postgres_dsn: str
    redis_url: str
    psql: str


async def run_stack(settings: Settings) -> None:
    """Run until cancelled. A part that dies is started again on the same data. Raises StackError."""
    async with AsyncExitStack() as stack:
        supervisor = Supervisor(stack)
        try:
            await _run(settings, stack, supervisor)
        except asyncio.CancelledError:
            if supervisor.failure is not None:
                raise StackError(str(supervisor.failure)) from supervisor.failure
            raise
        except MigrationError as error:
            raise StackError(f"can't migrate: {error}") from error
        except (PostgresError, ValkeyError, PortTakenError, psycopg.Error, OSError) as error:
            raise StackError(str(error).strip()) from error


async def _run(settings: Settings, stack: AsyncExitStack, supervisor: Supervisor) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    stack.enter_context(_only_one(settings.data_dir))
    servers = await _servers(settings, supervisor)
    await (await wait_for_server(servers.postgres_dsn, settings.startup_timeout_seconds)).close()
    await asyncio.to_thread(migrate, servers.postgres_dsn)
    if settings.api_port and settings.api_port == settings.worker_health_port:
        raise StackError(f"API_PORT and WORKER_HEALTH_PORT are both {settings.api_port}: they must differ")
    # Another service may answer on that port, and even say that it is ready.
    await _until_free("API_PORT", settings.api_host, settings.api_port)
    await _until_free("WORKER_HEALTH_PORT", settings.worker_health_host, settings.worker_health_port)
    port = settings.api_port or free_port()
    found = {"postgres_dsn": servers.postgres_dsn, "redis_url": servers.redis_url, "api_port": port}
    environment = settings.model_copy(update=found).environment()
    for module in ("worker", "api"):
        await supervisor.keep(Program(module, [sys.executable, "-m", module], cwd=ROOT, environment=environment))
    host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
    url = f"http://{host}:{port}"
    await _until_ready(url)
    supervisor.settle()
    print(f"ready: {url}   ledger: {servers.psql}   Ctrl-C stops everything", flush=True)
    await asyncio.Event().wait()


async def _servers(settings: Settings, supervisor: Supervisor) -> Servers:
    """The servers that the settings name; embedded ones where they name none."""
    dsn, redis_url = settings.postgres_dsn, settings.redis_url
    if dsn and redis_url:
        return Servers(dsn, redis_url, 'psql "$POSTGRES_DSN"')
    data_dir = settings.data_dir.resolve()
    account, memory = server_account(), recall(data_dir)
    psql = 'psql "$POSTGRES_DSN"'
    if not dsn:
        postgres = EmbeddedPostgres(data_dir, memory.postgres_port, memory.postgres_password, account)
        await supervisor.keep(postgres.program, postgres.start)
        dsn, psql = postgres.dsn(), ".venv/bin/leaderboard psql"
    if not redis_url:
        valkey = EmbeddedValkey(data_dir, memory.valkey_port, memory.valkey_password, account)
        await supervisor.keep(valkey.program, valkey.start)
        redis_url = valkey.url()
    return Servers(dsn, redis_url, psql)


async def _until_free(setting: str, host: str, port: int) -> None:
    """Give the processes of a run that was killed a moment to let go of the port."""
    give_up_at = time.monotonic() + _LET_GO_SECONDS
    while True:
        try:
            require_free(setting, host, port)
        except PortTakenError:
            if time.monotonic() >= give_up_at:
                raise
        else:
            return
        await asyncio.sleep(0.1)


async def _until_ready(url: str) -> None:
    """Return once /readyz says so; StackError when it does not within a minute."""
    told = "no answer"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while True:
                    try:
                        async with session.get(f"{url}/readyz") as response:
                            told = await response.text()
                            if response.status == 200:
                                return
                    except (aiohttp.ClientError, TimeoutError):
                        pass
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise StackError(f"the service was not ready within {_READY_SECONDS:g} s: {told}") from error


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Two stacks on one data directory would fight over it; the kernel frees the lock when we die."""
    with (data_dir / "run.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"another `make run` uses {data_dir}; stop it, or set DATA_DIR to another folder"
            ) from None
        yield
