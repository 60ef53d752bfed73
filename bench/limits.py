"""What the ledger and the boards are built on can do by itself: the same insert from pgbench, and pipelined ZADD."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

import psycopg

from bench.processes import running
from bench.stack import Stack
from bench.wrong import BrokenError
from cli.embedded.postgres import client_program
from cli.migrations import migrate
from shared import ledger

_DATABASE: Final = "bench_limit"
_SEASON: Final = "limit"
_SESSIONS: Final = 8
"""As many as two api processes have commits under way at once."""

# What shared/ledger.py does, with nothing to pay for but the rows: parameters that the server takes apart, one season.
_APPEND: Final = f"""
with entry as (
  insert into score_events (season_id, epoch, id, user_id, delta) overriding system value
  select season_id, epoch, nextval('score_events_id_seq'), user_id, delta
  from unnest(:user_ids::text[], :deltas::bigint[]) as score (user_id, delta)
  join seasons on season_id = '{_SEASON}'
  returning id, season_id, epoch, user_id, delta
)
insert into outbox (id, event_type, season_id, epoch, user_id, delta)
select id, 'score', season_id, epoch, user_id, delta from entry;
"""

_TPS: Final = re.compile(r"tps = ([\d.]+)")

_KEY: Final = "bench-limit"
_MEMBERS: Final = 100_000
_IN_COMMAND: Final = 500
_IN_FLIGHT: Final = 8


class LedgerLimit:
    """pgbench with the same inserts, in a database of its own with the same schema."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._script = folder / "append.sql"
        self._ready = False

    async def rows_per_second(self, rows: int, seconds: float) -> float:
        """How many scores a second go into the ledger with `rows` in each statement."""
        if not self._ready:
            await self._prepare()
        memory = self._stack.memory
        argv = [str(client_program().with_name("pgbench")), "--no-vacuum", "--protocol=prepared"]
        argv += [f"--client={_SESSIONS}", "--jobs=1", f"--time={max(1, round(seconds))}", f"--file={self._script}"]
        argv += ["--host=127.0.0.1", f"--port={memory.postgres_port}", "--username=leaderboard"]
        user_ids = ",".join(f"p{number:08d}" for number in range(rows))
        argv += [f"--define=user_ids={{{user_ids}}}", f"--define=deltas={{{','.join(['1'] * rows)}}}"]
        async with running([*argv, _DATABASE], settings={"PGPASSWORD": memory.postgres_password}) as process:
            out = (await process.communicate())[0].decode()
        found = _TPS.search(out)
        if process.returncode != 0 or found is None:
            raise BrokenError(f"pgbench failed; what it says stands above: {out}")
        await self._empty()
        return float(found[1]) * rows

    async def _prepare(self) -> None:
        await self._stack.conn.execute(f"create database {_DATABASE}")
        await asyncio.to_thread(migrate, self._stack.dsn(_DATABASE))
        self._script.write_text(_APPEND)
        async with await psycopg.AsyncConnection.connect(self._stack.dsn(_DATABASE), autocommit=True) as conn:
            await ledger.create_seasons(conn, [_SEASON])
        self._ready = True

    async def _empty(self) -> None:
        """At once: vacuum is not to work on it beside the next measurement."""
        async with await psycopg.AsyncConnection.connect(self._stack.dsn(_DATABASE), autocommit=True) as conn:
            await conn.execute("truncate score_events, outbox")


class ProjectionLimit:
    """ZADD of 500 members each, a few under way at once, on a key of its own in the same Valkey."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._bursts: Iterator[bytes] | None = None

    async def members_per_second(self, seconds: float) -> float:
        bursts = self._bursts = self._bursts or cycle(_bursts())
        reader, writer = await asyncio.open_connection("127.0.0.1", self._stack.memory.valkey_port)
        try:
            await _ask(reader, writer, _command("AUTH", self._stack.memory.valkey_password), 1)
            started, commands = time.monotonic(), 0
            while time.monotonic() < started + seconds:
                await _ask(reader, writer, next(bursts), _IN_FLIGHT)
                commands += _IN_FLIGHT
            elapsed = time.monotonic() - started
            await _ask(reader, writer, _command("UNLINK", _KEY), 1)
        finally:
            writer.close()
        return commands * _IN_COMMAND / elapsed


def _bursts() -> list[bytes]:
    """Every member twice, with another score each time."""
    source = random.Random("members")
    commands = [
        _command("ZADD", _KEY, *_pairs(source, first)) for _ in range(2) for first in range(0, _MEMBERS, _IN_COMMAND)
    ]
    return [b"".join(commands[at : at + _IN_FLIGHT]) for at in range(0, len(commands), _IN_FLIGHT)]


def _pairs(source: random.Random, first: int) -> Iterator[str]:
    for number in range(first, first + _IN_COMMAND):
        yield str(source.randrange(10**9))
        yield f"p{number:08d}"


def _command(*words: str) -> bytes:
    parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commands: bytes, replies: int) -> None:
    writer.write(commands)
    for _ in range(replies):
        line = await reader.readline()
        if not line.startswith((b":", b"+")):
            raise BrokenError(f"Valkey answered {line!r}")
