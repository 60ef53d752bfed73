"""What makes closed-loop load: wrk where it is installed, else k6. Both replay a file of requests as fast as answers
come, over a number of connections."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from bench.processes import ROOT, first_line, running
from bench.wrong import BrokenError

_BENCH: Final = ROOT / "bench"
_NOBODY_WAITS: Final = 3600


class Load(NamedTuple):
    """What a generator did. `least_writes` and `most_writes`: how many of its scores may have been stored, as those
    that were under way when it ended got no answer. Latencies in milliseconds."""

    requests: int
    seconds: float
    least_writes: int
    most_writes: int
    latency_ms: dict[str, float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Generator(Protocol):
    name: str
    connections: int

    async def load(self, url: str, requests: Path, seconds: float, *, keys: str = "") -> Load:
        """Send for so long. `keys`: prefix of idempotency keys, one per request; none if empty.

        Raises BrokenError when any request fails: the service is not to fail under load.
        """
        ...


class Wrk:
    """One thread; the file's requests are encoded before the clock starts."""

    name = "wrk"

    def __init__(self, program: str, connections: int) -> None:
        self._program = program
        self.connections = connections

    async def load(self, url: str, requests: Path, seconds: float, *, keys: str = "") -> Load:
        argv = [self._program, "-t1", f"-c{self.connections}", f"-d{_NOBODY_WAITS}", "--timeout", "10s"]
        argv += ["-s", str(_BENCH / "replay.lua"), url]
        async with running(argv, settings={"REQUESTS": requests, "KEY_PREFIX": keys}) as process:
            if not (await first_line(process)).startswith("Running"):
                raise BrokenError("wrk did not start; what it says stands above")
            # It takes whole seconds only; interrupted it sums up all the same.
            await asyncio.sleep(seconds)
            process.send_signal(signal.SIGINT)
            out, _ = await process.communicate()
        return _load(url, out.decode().strip().rpartition("\n")[2])


class K6:
    """Costs several times the processor time of wrk: rates are lower on both sides, ratios nearer to one."""

    name = "k6"

    def __init__(self, program: str, connections: int) -> None:
        self._program = program
        self.connections = connections

    async def load(self, url: str, requests: Path, seconds: float, *, keys: str = "") -> Load:
        argv = [self._program, "run", "--quiet", "--address", "", str(_BENCH / "replay.js")]
        settings = {
            "BASE_URL": url,
            "REQUESTS": requests,
            "KEY_PREFIX": keys,
            "VUS": self.connections,
            "DURATION": f"{max(1000, seconds * 1000):.0f}ms",  # it does not take less than a second
            "K6_NO_USAGE_REPORT": "true",
            "GOGC": 400,  # it shares the machine with what it measures
        }
        async with running(argv, settings=settings) as process:
            out, _ = await process.communicate()
        return _load(url, out.decode())


def find_generator(wanted: str, connections: int) -> Generator:
    """The generator of that name, or with "auto" the best one there is. Raises FileNotFoundError."""
    beside_python = str(Path(sys.executable).parent)
    wrk = shutil.which("wrk")
    if wrk is not None and wanted in ("auto", "wrk"):
        return Wrk(wrk, connections)
    k6 = shutil.which("k6") or shutil.which("k6", path=beside_python)
    if k6 is not None and wanted in ("auto", "k6"):
        return K6(k6, connections)
    raise FileNotFoundError(f"no load generator: {'wrk or k6' if wanted == 'auto' else wanted} is not installed")


def _load(url: str, told: str) -> Load:
    try:
        found = json.loads(told)
    except ValueError as error:
        raise BrokenError(f"the load generator broke off: {told[-500:] or 'it said nothing'}") from error
    if found["errors"]:
        raise BrokenError(f"{found['errors']} of {found['requests']} requests to {url} failed")
    return Load(
        requests=found["requests"],
        seconds=found["seconds"],
        least_writes=max(0, found["requests"] - found["reads"]),
        most_writes=found["writes"],
        latency_ms={name: round(value, 3) for name, value in found["latency_ms"].items()},
    )
