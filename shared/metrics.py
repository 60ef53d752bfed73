"""What both processes' metrics are made of: a registry of its own per process, and its text for Prometheus.

Several processes behind one port write to files in a folder of theirs (PROMETHEUS_MULTIPROC_DIR, which the library
reads when it is first imported); whichever of them is asked adds up what all have counted, those that died included.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of durations; what took longer is counted as +Inf."""

SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 5000)


def own_registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=False)


def collector_of(registry: CollectorRegistry, shared: Path | None) -> Collector:
    """What is to be exposed: of this process, or of all that share the folder."""
    if shared is None:
        return registry
    _forget_gauges_of_the_dead(shared)
    return MultiProcessCollector(None, path=str(shared))  # type: ignore[no-untyped-call]


def text_of(families: Iterable[Metric]) -> bytes:
    return generate_latest(_Families(families))


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _forget_gauges_of_the_dead(shared: Path) -> None:
    """What a process that was killed had open, it has no longer; its counts stay."""
    for file in shared.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, path=str(shared))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
