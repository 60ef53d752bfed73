"""A season to which anything happens, and what its boards must show in the end, by brute force over the ledger."""

from __future__ import annotations

import contextlib
import datetime as dt

from conftest import CrashError, crashing_at
from window_calls import expected_boards, let_pass, shown_boards

from shared import keys, ledger, moderation_requests
from shared.moderation_requests import Wish
from shared.scores import Score
from shared.seasons import begin_next_epoch
from worker.batch import BatchApplier
from worker.sweep import SWEEP_STEPS, Sweep
from worker.upkeep import Audit

PLAYERS = ("ann", "bob", "cid", "Zoë", "b")


def told(rules):
    return "-".join(map(str, rules.chosen)).lower()


class World:
    """A season with these rules, and all that can happen to it; `rng` says what does."""

    def __init__(self, rng, rules, season_id, pool, redis, projection):
        self.rng, self.rules, self.season_id = rng, rules, season_id
        self.pool, self.redis, self.projection = pool, redis, projection

    async def score(self):
        rng = self.rng
        at = None
        if rng.random() < 0.6:  # late, mostly within the windows, now and then by a clock that is ahead
            at = dt.datetime.now(dt.UTC) - dt.timedelta(
                minutes=rng.choice((-5, 0, 1, 600, 1439, 1441, 4000, 4321, 9000))
            )
            at -= dt.timedelta(seconds=rng.randrange(3) * 20)
        delta = rng.choice((-2, 1, 2, 3)) if self.rules.aggregation == "sum" else rng.randint(-2, 5)
        score = Score(
            self.season_id,
            rng.choice(PLAYERS),
            delta,
            absolute=self.rules.aggregation != "sum",
            occurred_at=at,
        )
        async with self.pool.connection() as conn:
            await ledger.append(conn, [score] * rng.choice((1, 1, 1, 2)))

    async def batch(self):
        """Of the oldest, or passing by some of them; it may die having shown what it does not keep."""
        async with self.pool.connection() as conn:
            row = await (await conn.execute("select min(id), max(id) from outbox where status = 'pending'")).fetchone()
        floor = self.rng.randint(*row) if row[0] is not None and self.rng.random() < 0.3 else 0
        step = self.rng.choice(("none", "none", "projected", "folded", "committed"))
        applier = BatchApplier(self.pool, self.projection, self.rng.randint(1, 4), crashing_at(step))
        with contextlib.suppress(CrashError):
            await applier.apply(floor=floor, paused=[])

    async def sweep(self):
        with contextlib.suppress(CrashError):
            await Sweep(self.pool, self.projection, crashing_at(self.rng.choice(("none", *SWEEP_STEPS)))).run()

    async def time(self):
        async with self.pool.connection() as conn:
            await let_pass(conn, self.redis, self.rng.choice((1, 1, 30, 840, 1440, 2880, 4320)))

    async def loss(self):
        names = [keys.meta(self.season_id), *keys.shown(self.season_id, self.rules)]
        await self.redis.delete(*self.rng.sample(names, self.rng.randint(1, 2)))

    async def reset(self):
        if self.rng.random() < 0.2:
            async with self.pool.connection() as conn, conn.transaction():
                await begin_next_epoch(conn, self.season_id)

    async def settle(self):
        applier = BatchApplier(self.pool, self.projection, 500, lambda _step: None)
        await Audit(self.pool, self.projection).run()
        while (await applier.apply(floor=0, paused=[])).events or await self._pending():
            pass
        await Sweep(self.pool, self.projection, lambda _step: None).run()
        async with self.pool.connection() as conn:
            right = await self.expected(conn)
            shown = await shown_boards(conn, self.redis, self.season_id)
            assert shown == right, f"{self.season_id}: {shown}, not {right}"
            return right

    async def _pending(self):
        """An erasure that is done in parts is no event of the batches that do them, but for the last one."""
        async with self.pool.connection() as conn:
            row = await (await conn.execute("select exists (select from outbox where status = 'pending')")).fetchone()
        return row[0]

    async def expected(self, conn):
        return await expected_boards(conn, self.season_id)


WISH = Wish("test", None, "a test")


class ModeratedWorld(World):
    """The same with events voided, players hidden, shown again and erased. What was asked for is noted here, and must
    hold in the end; nothing of it is looked up where the service notes it."""

    def __init__(self, *args, raw):
        """`raw`: a client of Redis that does not decode."""
        super().__init__(*args)
        self._raw = raw
        self.voided, self.hidden, self.erased, self._kept = set(), {}, {}, None

    async def moderate(self):
        action = self.rng.choice(("void", "void", "void", "hide", "hide", "unhide", "erase"))
        async with self.pool.connection() as conn:
            if action == "void":
                await self._void(conn)
                return
            player = self.rng.choice(PLAYERS)
            asked = await moderation_requests.ask_for(conn, action, self.season_id, player, WISH)
            if action == "erase":
                self.erased[player] = asked
            self.hidden[player] = action == "hide"

    async def fall_back(self):
        """Redis comes back as it was some time ago."""
        names = [keys.meta(self.season_id), *keys.shown(self.season_id, self.rules)]
        if self._kept is None or self.rng.random() < 0.5:
            self._kept = [await self._raw.dump(name) for name in names]
            return
        for name, kept in zip(names, self._kept, strict=True):
            await self._raw.delete(name)
            if kept is not None:
                await self._raw.restore(name, 0, kept)

    async def time(self):
        self._kept = None  # the time of day moves in what is stored, not in copies
        await super().time()

    async def _void(self, conn):
        """Of those that count, the latest ones first: they may be pending, or in the hands of a batch that died."""
        cursor = await conn.execute(
            "select id from score_events join seasons using (season_id, epoch)"
            " where season_id = %s and discarded_at is null and voided_at is null order by id desc limit 6",
            (self.season_id,),
        )
        if found := await cursor.fetchall():
            (event_id,) = self.rng.choice(found)
            await moderation_requests.ask_to_void(conn, self.season_id, event_id, WISH)
            self.voided.add(event_id)

    async def expected(self, conn):
        cursor = await conn.execute("select id, user_id from score_events where season_id = %s", (self.season_id,))
        for event_id, user_id in await cursor.fetchall():
            assert event_id > self.erased.get(user_id, 0), "nothing from before an erasure is left"
        hidden = {player for player, is_hidden in self.hidden.items() if is_hidden}
        return await expected_boards(conn, self.season_id, voided=self.voided, hidden=hidden)
