"""Traces: from the request through the event to the board, to a real receiver of OTLP; and nothing of it while off."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import threading

import pytest
from conftest import client_of, make_settings, serving
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from own_worker import working
from ports import free_port
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from api.app import create_app
from api.traces import Budget
from cli.migrations import ROOT
from shared import ledger, outbox
from shared.scores import Score
from shared.traces import decided
from worker.metrics import PHASES

SCORES = "/v1/seasons/s/scores"
ANN = {"userId": "ann-of-whom-nothing-is-told", "delta": 5}
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{CALLER}-{flags}" for flags in ("01", "00"))
ALMOST_NEVER = 1e-12


class Collector:
    """What an OTLP collector got: `(service, span)` pairs."""

    def __init__(self):
        self.got = []
        self.app = Starlette(routes=[Route("/v1/traces", self.take, methods=["POST"])])

    async def take(self, request):
        for resource in ExportTraceServiceRequest.FromString(await request.body()).resource_spans:
            service = told(resource.resource.attributes)["service.name"]
            self.got += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return Response(b"", media_type="application/x-protobuf")

    def of(self, trace_id):
        return [(service, span) for service, span in self.got if span.trace_id.hex() == trace_id]


def told(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
async def collector(monkeypatch):
    collector = Collector()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    async with serving(collector.app) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield collector


@contextlib.asynccontextmanager
async def service(settings, share):
    """API and worker, traced; a client of the API."""
    traced = settings.model_copy(update={"traces_sample": share})
    async with working(traced), serving(create_app(traced)) as url, client_of(url) as http:
        yield http


async def stored(pool):
    async with pool.connection() as conn:
        return [row[0] for row in await (await conn.execute("select traceparent from outbox order by id")).fetchall()]


async def until(reached):
    while not reached():
        await asyncio.sleep(0)


NOTHING_WAITS = "select where not exists (select from outbox where status = 'pending')"


async def test_one_trace_from_the_request_to_the_board(settings, collector, pool, eventually):
    async with service(settings, ALMOST_NEVER) as http:
        keyed = {"traceparent": SAMPLED, "idempotency-key": "k"}
        assert (await http.post(SCORES, json=ANN, headers=keyed)).status_code == 202
        await eventually(NOTHING_WAITS)
        await until(lambda: "apply" in {span.name for _, span in collector.of(TRACE)})
    found = collector.of(TRACE)
    request = "POST /v1/seasons/{sid}/scores"
    by_id = {span.span_id.hex(): span.name for _, span in found} | {CALLER: "caller"}
    assert sorted((service, by_id[span.parent_span_id.hex()], span.name) for service, span in found) == sorted(
        [
            ("leaderboard-api", "caller", request),
            ("leaderboard-api", request, "commit"),
            ("leaderboard-worker", request, "apply"),
            *(("leaderboard-worker", "apply", phase) for phase in PHASES),
        ]
    )
    server, apply = (next(span for _, span in found if span.name == name) for name in (request, "apply"))
    assert await stored(pool) == [f"00-{TRACE}-{server.span_id.hex()}-01"]
    assert told(server.attributes)["http.response.status_code"] == 202
    phases = [span for _, span in found if span.parent_span_id == apply.span_id]
    times = [time for span in phases for time in (span.start_time_unix_nano, span.end_time_unix_nano)]
    assert [span.name for span in phases] == list(PHASES)
    assert times == sorted(times)
    assert (times[0], times[-1]) == (apply.start_time_unix_nano, apply.end_time_unix_nano)
    assert not [span for _, span in found if ANN["userId"] in str(span)]


async def test_both_ways_of_a_request_batches_games_and_a_keyed_retry(settings, collector, pool):
    async with service(settings, ALMOST_NEVER) as http:
        for path, body, status, more in (
            (SCORES, ANN, 202, {"idempotency-key": "k"}),
            (SCORES, ANN, 202, {"idempotency-key": "k"}),
            (SCORES, ANN, 202, {"connection": "close"}),  # not answered directly
            ("/v1/seasons/a%20b/scores", ANN, 400, {}),
            ("/v1/seasons/s/scores/batch", [ANN, ANN, ANN], 202, {}),
            ("/api/leaderboard/score", {"game_id": 7, "user_id": 1, "score": 5}, 200, {}),
        ):
            response = await http.post(path, json=body, headers={"traceparent": SAMPLED, **more})
            assert response.status_code == status, response.text
    # Both processes have ended: what was in their queues was sent.
    found = [span for _, span in collector.of(TRACE)]
    statuses = [told(span.attributes)["http.response.status_code"] for span in found if span.name.startswith("POST ")]
    assert sorted(statuses) == [200, 202, 202, 202, 202, 400]
    kept = await stored(pool)
    assert [one is not None for one in kept] == [True, True, True, False, False, True]
    assert len({one for one in kept if one}) == 4


async def test_unsampled_nothing_is_stored_and_nothing_sent(settings, collector, pool, eventually):
    async with service(settings, 1.0) as http:
        assert (await http.post(SCORES, json=ANN, headers={"traceparent": UNSAMPLED})).status_code == 202
        await eventually(NOTHING_WAITS)
    assert await stored(pool) == [None]
    assert collector.got == []


async def test_a_request_without_a_caller_is_traced_by_share(settings, collector, pool, eventually):
    async with service(settings, 1.0) as http:
        for header in ({}, {"traceparent": "00-nonsense"}):
            assert (await http.post(SCORES, json=ANN, headers=header)).status_code == 202
        await eventually(NOTHING_WAITS)
    first, second = await stored(pool)
    assert first[:35] != second[:35]
    roots = [span for _, span in collector.got if span.name.startswith("POST ")]
    assert [span.parent_span_id for span in roots] == [b"", b""]


async def test_a_collector_that_is_down_disturbs_nobody(settings, eventually, monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "5")
    goes_on, shutdown = threading.Event(), TracerProvider.shutdown

    def held_up(self):
        goes_on.wait()
        shutdown(self)

    monkeypatch.setattr(TracerProvider, "shutdown", held_up)
    async with service(settings, 1.0) as http:
        for _ in range(3):
            assert (await http.post(SCORES, json=ANN)).status_code == 202
        await eventually(NOTHING_WAITS)
        await until(lambda: any(record.name.startswith("opentelemetry") for record in caplog.records))
        assert (await http.post(SCORES, json=ANN)).status_code == 202
        await eventually(NOTHING_WAITS)
    goes_on.set()  # the end did not wait for it


class Recording:
    """A connection that keeps which statements it was given."""

    def __init__(self, conn):
        self.conn = conn
        self.given = []

    async def execute(self, statement, parameters):
        self.given.append(statement)
        return await self.conn.execute(statement, parameters)


async def test_statements_differ_only_where_a_score_is_traced(pool):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        recording = Recording(conn)
        score = Score("s", "ann", 1)
        keyed = score._replace(key="k")
        traced = score._replace(traceparent=SAMPLED)
        for scores in ([score], [score, keyed], [score, traced, score], [keyed, traced._replace(key="l"), score]):
            assert all(isinstance(stored, int | ledger.Replayed) for stored in await ledger.append(recording, scores))
    assert recording.given[0] is ledger._APPEND
    assert recording.given[1] is ledger._APPEND_KEYED
    assert "traceparent" not in ledger._APPEND + ledger._APPEND_KEYED + outbox.CLAIM + outbox.CLAIM_SHARE
    kept = await stored(pool)
    assert kept == [None, None, None, None, SAMPLED, None, SAMPLED, None]


def test_while_off_nothing_of_it_is_loaded():
    environment = {
        **os.environ,
        "POSTGRES_DSN": "host=nowhere",
        "REDIS_URL": "redis://nowhere",
        "PYTHONPATH": str(ROOT),
    }
    # Where it is installed, redis-py loads parts of it for itself; without it nothing of ours may ask for it.
    script = """if True:
        import asyncio, sys
        sys.modules["opentelemetry"] = None
        import api.app, worker.app
        from shared.settings import load_service_settings
        from worker.metrics import WorkerMetrics
        async def make(settings):
            api.app.create_app(settings)
            assert worker.app.tracing(settings, WorkerMetrics(None))[1] == 0
        asyncio.run(make(load_service_settings()))
        assert not {"api.traces", "worker.traces", "shared.traces"} & sys.modules.keys()
    """
    subprocess.run([sys.executable, "-c", script], env={**environment, "TRACES_SAMPLE": "0"}, check=True)
    missing = "import sys; sys.modules['opentelemetry'] = None; import worker.__main__ as w; sys.exit(w.main())"
    given = {**environment, "TRACES_SAMPLE": "0.5"}
    refused = subprocess.run([sys.executable, "-c", missing], env=given, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "TRACES_SAMPLE: " in refused.stderr
    assert "pip install 'season-leaderboard[otel]'" in refused.stderr


def test_a_share_is_a_share(dsn, servers):
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValidationError, match="traces_sample"):
            make_settings(dsn, servers.redis_url, traces_sample=wrong)


def test_what_callers_decide():
    assert [
        decided(text)
        for text in (SAMPLED, UNSAMPLED, None, f"cc{SAMPLED[2:]}-{'0' * 999}", "", "00-x", f"00-{'0' * 32}-{CALLER}-01")
    ] == [*(True, False, None, None, None, None, None)]


def test_no_more_than_so_many_a_second():
    budget = Budget(3)
    taken = [(second, budget.take(second)) for second in (1, 1, 1, 1, 1, 2, 2, 2, 2)]
    assert {second: [yes for _, yes in group] for second, group in itertools.groupby(taken, lambda pair: pair[0])} == {
        1: [True, True, True, False, False],
        2: [True, True, True, False],
    }
