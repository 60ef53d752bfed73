"""Open-loop load at three times what the ledger takes: clients do not wait for answers before they send more."""

from __future__ import annotations

import asyncio
from pathlib import Path

from faults.choices import LONG
from faults.load import Connection

# The ledger made so slow, 10 rows in a commit of 50 ms, that even a machine with much else to do can send three times
# what it takes, and that what a commit takes is sleep and not the processor's time. Half the deadline is for a machine
# that stands still meanwhile.
SLOW = """
create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05); return null; end $$;
create trigger slow after insert on outbox execute function slow();
"""
SETTINGS = {"INTAKE_BATCH_MAX": 10, "INTAKE_CONCURRENCY": 1, "REQUEST_TIMEOUT_MS": 6000}
CAPACITY = 10 / 0.052
"""Scores a second that one API process gets into this ledger, at most."""

SECONDS = 15 if LONG else 5
"""After one and a half of them a new place in the queue would be one that waits for half its deadline."""


async def test_overload_at_three_times_the_capacity(run):
    async with run.under_load(apis=1, settings=SETTINGS, load={"writers": 0}) as (stack, load):
        await stack.conn.execute(SLOW)
        (api,) = stack.apis
        crowd = Crowd(load, api.port)
        await crowd.send(0.5 * CAPACITY, 1.0)  # everything warm
        assert crowd.refused == []
        before = _resident_megabytes(api)
        for _ in run.rounds(1, 5):
            crowd = Crowd(load, api.port)
            await crowd.send(3 * CAPACITY, SECONDS)
            after = _resident_megabytes(api)
            # Those refused are refused at once; what was let in is done in time, so that no work is for nothing.
            assert {code for code, _ in crowd.refused} == {"overloaded"}
            share = len(crowd.accepted) / (len(crowd.accepted) + len(crowd.refused))
            run.tell(
                accepted=f"{share:.0%}, p99 {_percentile(crowd.accepted, 0.99):.2f} s of 6 s",
                refused=f"after {_percentile([seconds for _, seconds in crowd.refused], 0.5) * 1000:.0f} ms (median)",
                memory=f"{before:.0f} to {after:.0f} MB",
            )
            assert after < before + 100
            # As soon as the crowd is gone, everybody is served again.
            calm = Crowd(load, api.port)
            await calm.send(0.5 * CAPACITY, 1.0)
            assert calm.refused == []
        await stack.conn.execute("drop trigger slow on outbox")


class Crowd:
    """Senders that keep to a rate whatever the answers are; each score on the first connection that is free."""

    def __init__(self, load, port):
        self.accepted, self.refused = [], []
        self._load, self._port = load, port
        self._free = []

    async def send(self, rate, seconds):
        loop = asyncio.get_running_loop()
        started, count, under_way = loop.time(), 0, set()
        while (elapsed := loop.time() - started) < seconds:
            while count < elapsed * rate:
                count += 1
                task = loop.create_task(self._send_one())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(0.002)  # the rate is what this test is about
        while under_way:
            await asyncio.gather(*under_way)
        for connection in self._free:
            connection.close()

    async def _send_one(self):
        loop = asyncio.get_running_loop()
        started = loop.time()
        connection = self._free.pop() if self._free else await Connection.open(self._port)
        attempt = self._load.attempt()
        status, code = await self._load.ask(connection, attempt)
        if status == 202:
            self.accepted.append(loop.time() - started)
        else:
            self.refused.append((code, loop.time() - started))
        self._free.append(connection)


def _percentile(numbers, share):
    return sorted(numbers)[int(len(numbers) * share)]


def _resident_megabytes(part):
    """Of the process and those it started."""
    children = Path(f"/proc/{part.running.pid}/task/{part.running.pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (part.running.pid, *children)]
    return sum(pages) * 4096 / 2**20
