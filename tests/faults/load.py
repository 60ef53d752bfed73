"""Clients that write scores through the API while faults happen, and send again what got no answer, as games do.

A lean HTTP client of its own: the machine's time is for the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from collections import deque
from contextlib import asynccontextmanager

from faults.history import REFUSED, Attempt, History
from shared.scores import PLAIN
from shared.windows import HOURS

PATIENT = {"REQUEST_TIMEOUT_MS": 60_000}
"""Settings of a service whose 503 is no matter of how fast the machine is: the longest deadline that there is."""

_ANSWER_SECONDS = 90.0
"""Longer than any deadline of the service: no answer by then is a hang."""

_GIVEN_UP = 0.05
"""The share of unknown fates that their client never asks about again."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    @classmethod
    async def open(cls, port):
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def __init__(self):
        self._buffer = b""
        self._answer = None
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = self._buffer[:end].lower()
        _, _, after = head.partition(b"content-length: ")
        length = int(after.partition(b"\r\n")[0])
        if len(self._buffer) >= end + 4 + length:
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._answer.set_result((int(head[9:12]), head, body))

    def connection_lost(self, error):
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed without an answer"))

    async def ask(self, method, path, headers="", body=b""):
        """Status, head (lower case) and body; OSError or TimeoutError when there is no answer."""
        if self.transport.is_closing():
            raise ConnectionResetError("closed")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(
            f"{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body
        )
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await self._answer

    def close(self):
        self.transport.abort()


class Load:
    """Writers that run until the context ends; what they were told is in `history`.

    `rules`: of the seasons s0, s1, …; those that are not plain are made before anybody writes.
    """

    def __init__(
        self,
        rng,
        ports,
        *,
        rules=(PLAIN,) * 3,
        players=200,
        writers=24,
        draw_delta=None,
        draw_age=None,
        moderated=False,
    ):
        self.history = History()
        self.unavailable = self.unanswered = self.replayed = 0
        self._rng = rng
        self._ports = ports  # a function: the API processes that should answer now
        self._rules = {f"s{number}": each for number, each in enumerate(rules)}
        self._seasons = list(self._rules)
        self._players = players
        self._writers = writers
        self._draw_delta = draw_delta or (lambda: rng.randrange(1, 100))
        self._draw_age = draw_age or some_age
        self._moderated = moderated
        self.moderations = 0
        self._stored = deque(maxlen=200)  # of the latest scores: attempt and eventId
        self._count = 0
        self._stopping = False
        self._waiters = []
        self._tasks = []
        self._busy = 0
        self._idle = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()

    async def __aenter__(self):
        self._stopping = False
        for season_id, rules in self._rules.items():
            if rules != PLAIN:
                await self._make(season_id, rules)
        self._tasks = [asyncio.ensure_future(self._write()) for _ in range(self._writers)]
        if self._moderated:
            self._tasks.append(asyncio.ensure_future(self._moderate()))
        return self

    async def __aexit__(self, *_):
        """Writers finish what they began: they ask again until they know."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _make(self, season_id, rules):
        told = {"aggregation": rules.aggregation, "order": rules.order, "windows": rules.windows}
        body = json.dumps({**told, "tieBreak": rules.tie_break}).encode()
        connection = await Connection.open(self._ports()[0])
        status, _, answer = await connection.ask("PUT", f"/v1/seasons/{season_id}", body=body)
        connection.close()
        assert status in (200, 201), answer

    @asynccontextmanager
    async def paused(self):
        """Nothing is under way and nothing is sent; every fate that is to be known is known."""
        going = self._going.is_set()
        self._going.clear()
        while self._busy:
            self._idle.clear()
            await self._idle.wait()
        try:
            yield
        finally:
            if going:
                self._going.set()

    async def more(self, count):
        """Return once `count` further scores were acknowledged."""
        reached = asyncio.get_running_loop().create_future()
        self._waiters.append((self.history.acked + count, reached))
        writers = asyncio.gather(*self._tasks)
        await asyncio.wait([reached, writers], return_when=asyncio.FIRST_COMPLETED)
        if not reached.done():
            writers.result()  # raises what ended them
            raise AssertionError("all writers ended")

    async def send(self, connection, attempt):
        """Send one attempt; returns whether its fate is known."""
        status, _ = await self.ask(connection, attempt)
        return status != 503

    async def ask(self, connection, attempt):
        """Send one attempt and note what was said; returns the status and, of a refusal, its code."""
        unknown_before = attempt.state not in (None, REFUSED)
        self.history.began(attempt)
        score = f'"{"score" if attempt.absolute else "delta"}":{attempt.delta}'
        when = f',"occurredAt":"{attempt.occurred_at.isoformat()}"' if attempt.occurred_at else ""
        body = f'{{"userId":"{attempt.user_id}",{score}{when}}}'.encode()
        status, head, answer = await connection.ask(
            "POST", f"/v1/seasons/{attempt.season_id}/scores", f"idempotency-key: {attempt.key}\r\n", body
        )
        if status == 202:
            self.history.acknowledged(attempt)
            self._stored.append((attempt, json.loads(answer)["eventId"]))
            self.replayed += b"idempotent-replayed: true" in head
            return status, None
        self.unavailable += 1
        told = json.loads(answer)
        if status != 503 or b"retry-after: " not in head:
            self.history.odd.append(f"{attempt.key}: {status} {told}")
        # "overloaded" alone promises that nothing was stored.
        if told["code"] == "overloaded":
            self.history.refused(attempt, unknown_before)
        return status, told["code"]

    async def _moderate(self):
        """One after the other, each asked for until it is answered: voids of scores just taken, players hidden, shown
        again and erased."""
        while not self._stopping:
            await self._going.wait()
            self._busy += 1
            try:
                await self._moderate_something()
            finally:
                self._settled()
            await asyncio.sleep(self._rng.uniform(0.0, 0.02))  # an operator's pause

    async def _moderate_something(self):
        action = self._rng.choice(("void", "void", "void", "hide", "hide", "unhide", "erase"))
        if action == "void":
            if self._stored:
                attempt, event_id = self._rng.choice(self._stored)
                self.history.voids.setdefault(attempt.key, False)
                path = f"/v1/seasons/{attempt.season_id}/events/{event_id}/void"
                self.history.voids[attempt.key] |= await self._insist("POST", path)
            return
        season_id, user_id = self._rng.choice(self._seasons), f"u{self._rng.randrange(self._players)}"
        path = f"/v1/seasons/{season_id}/users/{user_id}"
        if action != "erase":
            if await self._insist("POST", f"{path}/{action}"):
                self.history.hidden[season_id, user_id] = action == "hide"
            return
        erasure = self.history.erasure_began(season_id, user_id)
        if await self._insist("DELETE", f"{path}?reason=test"):
            self.history.erasure_answered(erasure)

    async def _insist(self, method, path):
        """Ask until the answer says what became of it; whether it is 202."""
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                connection = await Connection.open(self._rng.choice(self._ports()))
                try:
                    status, _, body = await connection.ask(method, path, body=b'{"reason":"test"}')
                finally:
                    connection.close()
                if status == 202:
                    self.moderations += 1
                    return True
                if status in (404, 409):
                    return False
                if status != 503:
                    self.history.odd.append(f"{method} {path}: {status} {body}")
                    return False
            await asyncio.sleep(self._rng.uniform(0.01, 0.1))  # a client's pause before it tries again

    async def reset(self, season_id):
        """DELETE the season; returns whether it was answered with 200."""
        reset = self.history.reset_began(season_id)
        try:
            connection = await Connection.open(self._rng.choice(self._ports()))
            try:
                status, _, body = await connection.ask("DELETE", f"/v1/seasons/{season_id}")
            finally:
                connection.close()
        except TimeoutError:
            self.history.odd.append(f"DELETE {season_id}: no answer within {_ANSWER_SECONDS} s")
            return False
        except OSError:
            return False
        if status == 200:
            self.history.reset_answered(reset)
        elif status != 503:
            self.history.odd.append(f"DELETE: {status} {body}")
        return status == 200

    def attempt(self, season_id=None, user_id=None, delta=None):
        self._count += 1
        season_id = season_id or self._rng.choice(self._seasons)
        rules = self._rules[season_id]
        age = self._draw_age(self._rng) if rules.windows else None
        return Attempt(
            f"k{self._count}",
            season_id,
            user_id or f"u{self._rng.randrange(self._players)}",
            delta or self._draw_delta(),
            absolute=rules.aggregation != "sum",
            occurred_at=None if age is None else dt.datetime.now(dt.UTC) - age,
        )

    async def _write(self):
        connection, again = None, deque()
        try:
            while again or not self._stopping:
                if not again or not again[0].sent:
                    await self._going.wait()
                attempt = again.popleft() if again else self.attempt()
                self._busy += attempt.sent == 0
                known, connection = await self._try(attempt, connection)
                if attempt.sent == 0:  # nobody listens; not even begun
                    self._settled()
                    if not self._stopping:
                        again.append(attempt)
                        await asyncio.sleep(self._rng.uniform(0.01, 0.1))  # a client's pause before it tries again
                elif known or self._rng.random() < _GIVEN_UP:
                    self._settled()
                else:
                    again.append(attempt)
                    await asyncio.sleep(self._rng.uniform(0.01, 0.1))
        finally:
            if connection is not None:
                connection.close()

    async def _try(self, attempt, connection):
        """Send it over the connection, or a new one; returns whether its fate is known, and the connection to go on
        with."""
        try:
            connection = connection or await Connection.open(self._rng.choice(self._ports()))
            return await self.send(connection, attempt), connection
        except (OSError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self.history.odd.append(f"{attempt.key}: no answer within {_ANSWER_SECONDS} s")
            if connection is not None:
                self.unanswered += 1
                connection.close()
            return False, None

    def _settled(self):
        """An attempt's fate is known, or its client gave up."""
        self._busy -= 1
        if not self._busy:
            self._idle.set()
        for waiter in self._waiters[:]:
            if self.history.acked >= waiter[0]:
                self._waiters.remove(waiter)
                if not waiter[1].done():
                    waiter[1].set_result(None)


def some_age(rng):
    """How long ago a score is reached, None = now: at any time within the windows, or such that it is about to leave
    one; now and then by a clock that is ahead."""
    kind = rng.random()
    if kind < 0.3:
        return None
    if kind < 0.7:
        return dt.timedelta(seconds=rng.uniform(-300, 8 * 86_400))
    return dt.timedelta(hours=rng.choice(list(HOURS.values())), seconds=rng.uniform(-180, 90))


async def get(port, path):
    """One GET: status and decoded body; None where nobody answers."""
    with contextlib.suppress(OSError, TimeoutError):
        connection = await Connection.open(port)
        try:
            status, _, body = await connection.ask("GET", path)
            return status, json.loads(body)
        finally:
            connection.close()
    return None
