"""How fast the service is, beside the limits of what it is built on, and whether its answers are right under load.

Starts its own service on servers of its own, loads players whose ranks are known, and measures everything in several
rounds, each beside its limit: bare uvicorn that answers the same bytes, pgbench with the same insert, pipelined ZADD.
Writes bench.json and plots. Exit codes: 0 done, targets reached or not; 1 a wrong answer, a lost score or no service;
2 wrong arguments; 130 stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from rich.console import Console
from rich.markup import escape

from bench.generators import Generator, find_generator
from bench.loading import Tell
from bench.plan import FULL, QUICK, SCENARIOS, Plan
from bench.processes import ROOT
from bench.report import print_report
from bench.results import Results
from bench.run import run
from bench.soak import Soak, soak, told
from bench.stack import StackError
from bench.wrong import BrokenError

_OUT: Final = ROOT / "docs" / "benchmarks"

T = TypeVar("T")


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    try:
        plan = _plan(arguments)
        generator = find_generator(arguments.generator, plan.connections)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    started = time.monotonic()
    console = Console(stderr=True, highlight=False)

    def tell(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {escape(line)}", soft_wrap=True)

    work = _bench if arguments.soak is None else _soak
    try:
        return work(arguments, plan, generator, tell)
    except asyncio.CancelledError:
        console.print("stopped; nothing is written")
        return 130
    except (BrokenError, StackError, psycopg.Error, OSError) as error:
        console.print(f"[red]bench: {escape(str(error))}[/red]", soft_wrap=True)
        return 1


def _bench(arguments: argparse.Namespace, plan: Plan, generator: Generator, tell: Tell) -> int:
    found = _until_signal(run(plan, generator, tell))
    out = _write(arguments, "bench.json", found)
    from bench import plots

    plots.draw(found, out)
    tell(f"written to {out}")
    if not arguments.json:
        print_report(found)
    return 0


def _soak(arguments: argparse.Namespace, plan: Plan, generator: Generator, tell: Tell) -> int:
    found = _until_signal(soak(plan, arguments.soak, generator, tell))
    out = _write(arguments, "soak.json", found)
    from bench import plots

    plots.draw_soak(found, out)
    tell(f"written to {out}")
    if not arguments.json:
        print(*told(found), sep="\n")
    return 0


def _write(arguments: argparse.Namespace, name: str, found: Results | Soak) -> Path:
    """Into the folder for results, and to standard output where JSON is wanted; returns the folder."""
    out = _out(arguments)
    out.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(found), indent=1).decode()
    (out / name).write_text(document + "\n")
    if arguments.json:
        print(document)
    return out


def _parser() -> argparse.ArgumentParser:
    scenarios = "\n".join(f"  {name:<12} {what}" for name, what in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__,
        epilog=f"scenarios:\n{scenarios}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a look of two to three minutes, on smaller boards")
    parser.add_argument("--only", metavar="A,B", help="these scenarios only")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of everything")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long each measurement of a round takes")
    parser.add_argument("--players", type=int, metavar="N", help="players on the board")
    parser.add_argument("--sizes", metavar="N,M", help="sizes of boards")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead: mixed load for so long, memory watched")
    parser.add_argument("--generator", choices=["auto", "wrk", "k6"], default="auto", help="auto: wrk, else k6")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where results go; unless quick docs/benchmarks")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, not as a table")
    return parser


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = QUICK if arguments.quick else FULL
    given = {name: getattr(arguments, name) for name in ("rounds", "seconds", "players")}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if arguments.only is not None:
        changes["scenarios"] = tuple(arguments.only.split(","))
    if arguments.sizes is not None:
        changes["sizes"] = tuple(sorted(int(size) for size in arguments.sizes.split(",")))
    if arguments.soak is not None and arguments.soak <= 0:
        raise ValueError("--soak takes a number of minutes above 0")
    return msgspec.structs.replace(plan, **changes).checked()


def _out(arguments: argparse.Namespace) -> Path:
    """A partial or quick run is not to replace the results of a whole one."""
    if arguments.out is not None:
        return Path(arguments.out)
    whole = not arguments.quick and arguments.only is None and arguments.players is None
    return _OUT if whole else Path(tempfile.mkdtemp(prefix="bench-results-"))


def _until_signal(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; the first SIGINT or SIGTERM cancels it, so that it ends what it started."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        stopping = False

        def stop() -> None:
            nonlocal stopping
            if not stopping:
                stopping = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        return await work

    return asyncio.run(guarded())


if __name__ == "__main__":
    sys.exit(main())
