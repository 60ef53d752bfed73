"""GET /metrics of an API process, and of all that serve the same port with it.

Requests are counted by addition to plain lists, on the path of every request: 0.2 µs, where the library's histogram
takes 1.7. Once a second, and when somebody asks, that goes into the library's counters. No label ever holds what a
client made up: no id, no path that is no route.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.core import HistogramMetricFamily
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer
from api.endpoint import Call, Endpoint
from api.top_cache import TopCache
from shared.metrics import CONTENT_TYPE, SECONDS, SIZES, collector_of, own_registry, text_of
from shared.postgres import Pool
from shared.scores import Score

PATH: Final = "/metrics"
OTHER: Final = "other"
"""The route of what is no route, the method of what is none."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_SETTLE_SECONDS: Final = 1.0
_REQUESTS: Final = "leaderboard_http_request_duration_seconds"
_REQUESTS_TOLD: Final = "From a request's head to its answer, streams excepted."
_COUNTED: Final = "leaderboard_http_requests_counted"
_SUMMED: Final = "leaderboard_http_requests_summed_seconds"
_CONVERTOR: Final = re.compile(r":\w+\}")
_BOUNDS: Final = (*(f"{bound:g}" for bound in SECONDS), "+Inf")


class Tally:
    """How many requests of a route and method took how long, by status."""

    __slots__ = ("_by_status",)

    def __init__(self) -> None:
        self._by_status: dict[int, list[float]] = {}

    def note(self, status: int, seconds: float) -> None:
        try:
            numbers = self._by_status[status]
        except KeyError:
            numbers = self._by_status[status] = [0.0] * (len(_BOUNDS) + 1)
        numbers[bisect_left(SECONDS, seconds)] += 1
        numbers[-1] += seconds

    def taken(self) -> Mapping[int, list[float]]:
        """By status: how many up to each bound, then the sum of their seconds; what was noted since the last time."""
        taken, self._by_status = self._by_status, {}
        return taken


class Requests:
    """The tallies of one event loop."""

    def __init__(self) -> None:
        self._tallies: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)

    def of(self, route: str, method: str) -> Tally:
        return self._tallies[route, method]

    def taken(self) -> Iterable[tuple[tuple[str, str, int], list[float]]]:
        """By route, method and status: as `Tally.taken`."""
        for (route, method), tally in self._tallies.items():
            for status, numbers in tally.taken().items():
                yield (route, method, status), numbers


class ApiMetrics:
    """`shared`: the folder of all processes behind one port, None = there is one only."""

    def __init__(self, pool: Pool, top_cache: TopCache, streams: Sized, shared: Path | None) -> None:
        self.requests = Requests()
        self._pool = pool
        self._top_cache = top_cache
        self._streams = streams
        self._shared = shared
        registry = self._registry = own_registry()
        labels = ("route", "method", "status")
        self._counted = Counter(_COUNTED, _REQUESTS_TOLD, (*labels, "le"), registry=registry)
        self._summed = Counter(_SUMMED, _REQUESTS_TOLD, labels, registry=registry)
        self._commit_scores = Histogram(
            "leaderboard_group_commit_scores", "Scores that shared a commit.", buckets=SIZES, registry=registry
        )
        self._commit_seconds = Histogram(
            "leaderboard_group_commit_seconds", "What a commit took.", buckets=SECONDS, registry=registry
        )
        self._scores = Counter(
            "leaderboard_scores_committed", "Scores in commits that came through.", registry=registry
        )
        self._cache = Counter(
            "leaderboard_top_cache_lookups", "Look-ups of answers that may be kept.", ("result",), registry=registry
        )
        gauges = {
            "waiting": "Requests that wait for a connection to PostgreSQL.",
            "open": "Connections to PostgreSQL.",
            "max": "Connections to PostgreSQL that there may be.",
        }
        self._pool_gauges = {
            name: Gauge(f"leaderboard_pool_{name}", told, registry=registry, multiprocess_mode="livesum")
            for name, told in gauges.items()
        }

        self._streams_open = Gauge(
            "leaderboard_streams_open", "Live streams.", registry=registry, multiprocess_mode="livesum"
        )

    def route(self) -> Route:
        return Route(PATH, Endpoint(self._serve, Need.METRICS), methods=["GET"], include_in_schema=False)

    def committed(self, scores: Sequence[Score], seconds: float) -> None:
        """A commit of these scores came through."""
        self._commit_scores.observe(len(scores))
        self._commit_seconds.observe(seconds)
        self._scores.inc(len(scores))

    async def run(self) -> None:
        """Settle again and again, until cancelled: what another process exposes is a second old at most."""
        while True:
            self._settle()
            await asyncio.sleep(_SETTLE_SECONDS)

    async def _serve(self, _call: Call) -> Answer:
        self._settle()
        body = await asyncio.to_thread(self._text)
        return Answer(200, body, (NO_STORE,), CONTENT_TYPE.encode())

    def _text(self) -> bytes:
        """Reads the files of all processes: not in the event loop."""
        return text_of(_with_histogram(collector_of(self._registry, self._shared).collect()))

    def _settle(self) -> None:
        for labels, (*numbers, seconds) in self.requests.taken():
            for bound, number in zip(_BOUNDS, numbers, strict=True):
                if number:
                    self._counted.labels(*labels, bound).inc(number)
            self._summed.labels(*labels).inc(seconds)
        for result, number in self._top_cache.lookups_since_last_time().items():
            self._cache.labels(result).inc(number)
        found = self._pool.get_stats()
        self._pool_gauges["waiting"].set(found.get("requests_waiting", 0))
        self._pool_gauges["open"].set(found.get("pool_size", 0))
        self._pool_gauges["max"].set(found.get("pool_max", 0))
        self._streams_open.set(len(self._streams))


def label_of(route: str) -> str:
    """A route's path without what its parameters may hold."""
    return _CONVERTOR.sub("}", route)


def method_label(method: str) -> str:
    return method if method in _METHODS else OTHER


def _with_histogram(families: Iterable[Metric]) -> Iterable[Metric]:
    """The same, but for the two counters of requests, which are one histogram."""
    counted: defaultdict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    summed: dict[tuple[str, ...], float] = {}
    for family in families:
        if family.name == _COUNTED:
            for labels, bound, value in _samples(family):
                counted[labels][bound] = value
        elif family.name == _SUMMED:
            summed = {labels: value for labels, _, value in _samples(family)}
        else:
            yield family
    histogram = HistogramMetricFamily(_REQUESTS, _REQUESTS_TOLD, labels=("route", "method", "status"))
    for labels, numbers in sorted(counted.items()):
        histogram.add_metric(labels, _accumulated(numbers), summed.get(labels, 0.0))
    yield histogram


def _samples(family: Metric) -> Iterable[tuple[tuple[str, ...], str, float]]:
    for sample in family.samples:
        if sample.name.endswith("_total"):
            told = sample.labels
            yield (told["route"], told["method"], told["status"]), told.get("le", ""), sample.value


def _accumulated(numbers: dict[str, float]) -> Sequence[tuple[str, float]]:
    total, buckets = 0.0, []
    for bound in _BOUNDS:
        total += numbers.get(bound, 0.0)
        buckets.append((bound, total))
    return buckets
