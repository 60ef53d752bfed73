"""The composition root of an API process: settings in, an ASGI application out, everything closed at its end."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from starlette.applications import Starlette

from api import docs_pages, openapi, pages_site
from api.access import Access
from api.board_changes import follow_changes
from api.boards import Boards
from api.endpoint import Traced, untraced
from api.epochs_api import EpochsApi
from api.errors import HANDLERS
from api.events_api import EventsApi
from api.exports import Exports
from api.front import Front
from api.games_api import GamesApi
from api.gate import Gate
from api.health_api import HealthApi
from api.intake import Intake
from api.ledger_reads import LedgerReads
from api.ledger_writes import LedgerWrites
from api.metrics import ApiMetrics
from api.moderation_api import ModerationApi
from api.ops_api import OpsApi
from api.ops_ledger import OpsLedger
from api.ops_work import OpsWork
from api.rank_lookups import RankLookups
from api.rate_limits import RateLimits
from api.resets import Resets
from api.score_batches import ScoreBatches
from api.season_resources import SeasonResources
from api.seasons_api import SeasonsApi
from api.stream_states import States
from api.streams import Streams
from api.streams_api import StreamsApi
from api.time_travel import TOO_FAR, TimeTravel
from api.top_cache import TopCache
from api.visibility import Visibility
from shared import garbage, open_files
from shared.lifetime import die_with_parent
from shared.logs import configure_logs
from shared.postgres import connection_settings, create_pool
from shared.projection import Projection
from shared.redis_client import create_client
from shared.scores import Score
from shared.settings import ServiceSettings, load_service_settings
from shared.wakeups import Wakeups

_GRACE_SECONDS: Final = 1.0
"""A server that does not even cancel a statement at its own timeout is given up after this much longer."""

_PAST_AT_ONCE: Final = 2
"""Boards as of a moment that PostgreSQL computes at once: each takes a processor for as long as it takes."""

_OTHER_FILES: Final = 256
"""Connections to the servers behind, and of clients that ask and go."""

_COUNTING_SECONDS: Final = 1.0
"""A rate limit is not worth a longer wait; the request passes then. Longer than this process ever stands still: who
brings it to that must not pass by it."""

log = structlog.get_logger()


def api_connection(settings: ServiceSettings) -> str:
    """How this process connects: no statement outlives the request that it serves."""
    return connection_settings(
        settings.postgres_dsn,
        "api",
        statement_ms=settings.request_timeout_ms,
        lock_ms=settings.request_timeout_ms,
        idle_in_transaction_ms=15_000,
    )


def create_app(settings: ServiceSettings) -> Front:
    """The application; it connects when its lifespan starts."""
    timeout_seconds = settings.request_timeout_ms / 1000
    pool = create_pool(
        api_connection(settings), max_size=settings.db_pool_max, patience_seconds=timeout_seconds + _GRACE_SECONDS
    )
    client = create_client(settings.redis_url, "api", timeout_seconds=timeout_seconds, retries=1)
    listener = create_client(settings.redis_url, "api-changes", timeout_seconds=timeout_seconds, retries=0)
    top_cache = TopCache()
    wakeups = Wakeups(client)
    access = Access(settings)
    counters = create_client(settings.redis_url, "api-limits", timeout_seconds=_COUNTING_SECONDS, retries=0)
    limits = RateLimits(counters, settings)
    boards = Boards(client, settings)
    states = States(boards, top_cache)
    streams = Streams(states, settings.streams_max, time.monotonic, access.holds)
    metrics = ApiMetrics(pool, top_cache, streams, settings.prometheus_multiproc_dir)
    traced, committed, close_traces = tracing(settings, metrics)
    writes = LedgerWrites(pool, wakeups, committed)
    intake = Intake(writes, limits, settings)
    score_batches = ScoreBatches(writes, limits, settings, traced)
    visibility = Visibility(pool)
    resets = Resets(pool, Projection(client), settings)
    ops_ledger = OpsLedger(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await pool.open()
        log.info("api started", address=f"{settings.api_host}:{settings.api_port}", pid=os.getpid())
        following = [
            asyncio.create_task(follow_changes(listener, top_cache, streams.changed, visibility.changed)),
            asyncio.create_task(streams.run()),
            asyncio.create_task(visibility.run()),
            asyncio.create_task(access.follow(pool)),
            asyncio.create_task(metrics.run()),
        ]
        await access.first_read.wait()
        try:
            async with ops_ledger.opened():
                yield
            await asyncio.gather(intake.drain(), score_batches.drain())
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await wakeups.aclose()
            await listener.aclose()
            await counters.aclose()
            await client.aclose()
            await pool.close()
            close_traces()

    reads, event_reads = LedgerReads(pool, settings), LedgerReads(pool, settings)
    past_reads = LedgerReads(pool, settings, at_once=_PAST_AT_ONCE, advice=TOO_FAR)
    seasons_api = SeasonsApi(intake, boards, top_cache, visibility, traced, time_travel=TimeTravel(past_reads, boards))
    games_api = GamesApi(intake, boards, top_cache, traced)
    season_resources = SeasonResources(reads, boards, resets, top_cache, settings.webhooks)
    rank_lookups = RankLookups(reads, boards)
    app = Starlette(
        routes=[
            *EpochsApi(event_reads, boards).routes(),
            *seasons_api.routes(),
            *score_batches.routes(),
            *season_resources.routes(),
            *rank_lookups.routes(),
            *EventsApi(event_reads).routes(),
            *ModerationApi(reads, wakeups).routes(),
            *StreamsApi(streams, states, time.monotonic).routes(),
            *games_api.routes(),
            *HealthApi(pool, client).routes(),
            metrics.route(),
            *OpsApi(ops_ledger).routes(),
            *OpsWork(ops_ledger).routes(),
            *Exports(ops_ledger).routes(),
            openapi.route(),
            *docs_pages.routes(),
            *pages_site.routes(),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Front(
        app,
        Gate(access, limits),
        metrics.requests,
        top_cache,
        hot=seasons_api.hot,
        hot_games=games_api.hot,
        stop=visibility.let_go,
        origins=settings.origins,
    )


def tracing(
    settings: ServiceSettings, metrics: ApiMetrics
) -> tuple[Traced, Callable[[Sequence[Score], float], None], Callable[[], None]]:
    """What makes traced handlers, what hears of commits, and what ends both. Where nothing is traced, nothing of
    opentelemetry is loaded."""
    if not settings.traces_sample:
        return untraced, metrics.committed, lambda: None
    from api.traces import RequestTraces  # noqa: PLC0415
    from shared.traces import Traces  # noqa: PLC0415

    traces = Traces("api")
    requests = RequestTraces(traces, settings.traces_sample)

    def committed(scores: Sequence[Score], seconds: float) -> None:
        metrics.committed(scores, seconds)
        requests.committed(scores, seconds)

    return requests.traced, committed, traces.close


def create_served_app() -> Front:
    """What uvicorn calls in each of its processes."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(signal.SIGTERM, parent.pid)
    settings = load_service_settings()
    configure_logs(settings, "api")
    files = open_files.raise_limit()
    if files < settings.streams_max + _OTHER_FILES:
        log.warning("fewer files may be open than there may be streams", files=files, streams_max=settings.streams_max)
    app = create_app(settings)
    garbage.settle()
    return app
