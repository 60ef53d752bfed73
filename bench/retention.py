"""Does the service stay as it is under full load for long? Claims, backlog and table sizes while rows come and go.

Starts `leaderboard run` with retentions of a minute, writes as fast as wrk can, resets one season every half minute,
and looks every few seconds. Writes docs/benchmarks/retention.json and .svg. Needs wrk; see `--help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psycopg

from cli.embedded.memory import remembered
from cli.embedded.postgres import embedded_dsn

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "benchmarks"
SEASONS = 4
PLAYERS = 10_000
RETENTION_HOURS = 1 / 60
RESET_SECONDS = 30
TABLES = ("outbox", "score_events", "idempotency_keys", "standings")

# As a worker claims; rolled back, so that it takes nothing from it.
CLAIM = """
explain (analyze, format json) select id, season_id from outbox
where status = 'pending' and id >= %s order by id limit 500 for update skip locked
"""
STATE = """
select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float, coalesce(min(id), 0)
from outbox where status = 'pending'
"""


@asynccontextmanager
async def service(folder):
    """`leaderboard run` on servers of its own; yields its base URL and the DSN of its ledger."""
    settings = {
        "DATA_DIR": folder,
        "API_PORT": 0,
        "WORKER_HEALTH_PORT": 0,
        "OUTBOX_RETENTION_HOURS": RETENTION_HOURS,
        "IDEMPOTENCY_RETENTION_HOURS": RETENTION_HOURS,
        "LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "run",
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in settings.items()}},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        line = (await process.stdout.readline()).decode()
        if not line.startswith("ready: "):
            raise SystemExit(f"the service did not start: {line}")
        memory = remembered(folder)
        yield line.split()[1], embedded_dsn(memory.postgres_port, memory.postgres_password)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def sample(conn, started):
    pending, oldest_seconds, lowest = await (await conn.execute(STATE)).fetchone()
    async with conn.transaction(force_rollback=True):
        (told,) = await (await conn.execute(CLAIM, (lowest,))).fetchone()
    sizes = {
        table: (await (await conn.execute("select pg_total_relation_size(%s)", (table,))).fetchone())[0]
        for table in TABLES
    }
    return {
        "seconds": round(time.monotonic() - started, 1),
        "pending": pending,
        "oldest_seconds": round(oldest_seconds, 3),
        "claim_ms": round(told[0]["Execution Time"], 3),
        "megabytes": {table: round(size / 2**20, 1) for table, size in sizes.items()},
    }


async def reset_seasons(url):
    async with aiohttp.ClientSession(url) as session:
        number = 0
        while True:
            await asyncio.sleep(RESET_SECONDS)
            number = number % SEASONS + 1
            async with session.delete(f"/v1/seasons/soak-{number}") as response:
                response.raise_for_status()


async def run(seconds, every, connections):
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed (Debian: apt install wrk)")
    samples = []
    with tempfile.TemporaryDirectory(prefix="leaderboard-bench-") as name:
        folder = Path(name)
        os.chmod(folder, 0o711)  # noqa: PTH101 - the servers' account must pass through
        async with service(folder) as (url, dsn), await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
            environment = {"RUN": uuid.uuid4().hex, "PLAYERS": str(PLAYERS), "SEASONS": str(SEASONS)}
            wrk = await asyncio.create_subprocess_exec(
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                "-s",
                str(ROOT / "bench" / "keyed_scores.lua"),
                url,
                env={**os.environ, **environment},
                stdout=asyncio.subprocess.PIPE,
            )
            resetting = asyncio.create_task(reset_seasons(url))
            started = time.monotonic()
            ended = asyncio.ensure_future(wrk.wait())
            while not ended.done():
                samples.append(await sample(conn, started))
                print(json.dumps(samples[-1]), file=sys.stderr)
                await asyncio.wait([ended, resetting], timeout=every, return_when=asyncio.FIRST_COMPLETED)
                if resetting.done():
                    resetting.result()
            resetting.cancel()
            told = (await wrk.stdout.read()).decode().strip().splitlines()[-1]
            load = json.loads(told)
            while (await (await conn.execute(STATE)).fetchone())[0]:
                await asyncio.sleep(0.05)
            failed = await (await conn.execute("select count(*) from outbox where status = 'failed'")).fetchone()
            if failed != (0,):
                raise SystemExit(f"{failed[0]} events failed")
    return {"load": load, "samples": samples}


def told(result):
    """The second quarter of the run against the last: flat means equal."""
    samples = result["samples"]
    quarter = len(samples) // 4
    parts = samples[quarter : 2 * quarter], samples[-quarter:]
    yield f"{result['load']['requests']:,} scores in {result['load']['seconds']} s, errors {result['load']['errors']}"
    yield f"{'median of':<24}{'second quarter':>16}{'last quarter':>16}"
    rows = {
        "claim, ms": lambda one: one["claim_ms"],
        "oldest pending, s": lambda one: one["oldest_seconds"],
        **{f"{table}, MB": lambda one, table=table: one["megabytes"][table] for table in TABLES},
    }
    for name, value in rows.items():
        early, late = (statistics.median(map(value, part)) for part in parts)
        yield f"{name:<24}{early:>16.2f}{late:>16.2f}"


def plot(result, path):
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    samples = result["samples"]
    minutes = [one["seconds"] / 60 for one in samples]
    figure, (claims, sizes) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
    claims.plot(minutes, [one["claim_ms"] for one in samples], label="claim of 500, ms")
    claims.plot(minutes, [one["oldest_seconds"] * 1000 for one in samples], label="oldest pending, ms")
    claims.set_yscale("log")
    for table in TABLES:
        sizes.plot(minutes, [one["megabytes"][table] for one in samples], label=f"{table}, MB")
    sizes.set_xlabel("minutes")
    for axes in (claims, sizes):
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
        axes.set_ylim(bottom=0 if axes is sizes else None)
        axes.grid(alpha=0.3)
    figure.suptitle(
        f"{result['load']['requests']:,} scores in {result['load']['seconds'] / 60:.0f} minutes, retention 1 minute"
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long, default 10")
    parser.add_argument("--every", type=float, default=5, help="seconds between samples, default 5")
    parser.add_argument("--connections", type=int, default=64, help="connections of wrk, default 64")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, write no files")
    arguments = parser.parse_args()
    result = asyncio.run(run(round(arguments.minutes * 60), arguments.every, arguments.connections))
    if arguments.json:
        print(json.dumps(result))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "retention.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(result, RESULTS / "retention.svg")
    print("\n".join(told(result)))


if __name__ == "__main__":
    main()
