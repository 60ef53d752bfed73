"""The world of a schedule: one integer decides who takes the next step, which faults there are and when they happen.

`run(seed)` says what is wrong in the end, or None. The faults then stop, live processes finish, the outbox is drained
and the boards are audited.

Not in the model: a PostgreSQL that lost commits without a new timeline, boards of seasons that PostgreSQL has no row
of, tokens that repeat by chance (random steps are wider here than in `shared.seasons`), and time: pauses, back-off,
the claim's floor.
"""

from __future__ import annotations

import random
from collections import defaultdict

from model import protocol
from model.boards import Redis
from model.client import TROUBLE, Client, RedisLostError
from model.database import Database, Event, Season, Session, State
from model.faults import FAULTS, HARMLESS, arrive_late, shut_down_deposed
from model.outcome import changes_told, divergence
from model.rules import RIGHT, Rules

SEASONS = 2
PLAYERS = 4
CLIENTS = 3
TICKS = 90
PATIENCE = 60  # rounds of batches and audits until everything must be in order


class World:
    CLOCK_TICK = 1 << 20
    CLOCK_STEP = 1 << 25

    def __init__(self, seed: int, rules: Rules, verdicts: dict[str, int], trace: list[str] | None) -> None:
        rng = random.Random(seed)
        self.random = rng.random
        self.bits = rng.getrandbits
        self.rules = rules
        self.trace = trace
        self.clock = 1 << 40
        self.events: list[Event] = []
        self.unsaved: list[tuple[Database, int]] = []  # inserted, not committed yet
        self.primary = Database(1, [State((Season(1, 0, {}),) * SEASONS, 0, 0, 0)])
        self.deposed: Database | None = None
        self.redis = Redis(SEASONS, verdicts)
        self.clients = [Client(f"client {number}", self, rules) for number in range(CLIENTS)]
        self.orphans: list[Session] = []
        # Each schedule has its own few faults and habits: all of them at once would rarely let a rare thing happen.
        self.lossless = self.random() < 0.2
        faults = HARMLESS if self.lossless else FAULTS
        self.faults = [self.choose(faults) for _ in range(1 + int(self.random() * 5))]
        self.fault_share = self.choose((0.08, 0.2, 0.35))
        self.unreliable = self.choose((0.0, 0.1, 0.3))  # share of what is sent to Redis or committed
        self.clock_steps = 0.0 if self.lossless else self.choose((0.0, 0.15, 0.3))
        self.resets = 0.0 if self.lossless else self.choose((0.0, 0.02, 0.1))
        self.calm = False
        self.told: list[str] = []
        if self.random() < 0.7:
            self.warm_up()

    def warm_up(self) -> None:
        """Two batches have gone well before the trouble begins."""
        self.calm = True
        for _ in range(2):
            for season in range(SEASONS):
                for _ in range(2):
                    self.post(season)
            self.finish(self.clients[0], protocol.batch(self.clients[0], 500))
        self.calm = False

    # What a client asks of the world.

    def choose(self, items):
        return items[int(self.random() * len(items))]

    def connect(self, rules: Rules) -> Session:
        db = self.deposed if self.deposed is not None and self.random() < 0.4 else self.primary
        return Session(db, rules, self.read_clock)

    def read_clock(self) -> tuple[int, int]:
        self.clock += 1 + int(self.random() * self.CLOCK_TICK)
        if self.clock_steps and self.random() < self.clock_steps:
            self.clock += int((self.random() - 0.5) * self.CLOCK_STEP)
        return self.clock, self.bits(20)

    def reply_lost(self) -> bool:
        return not self.calm and self.random() < self.unreliable

    def waited_too_long(self) -> bool:
        return self.random() < 0.1

    def deliver(self, script, season: int, *arguments):
        """Run the script once, as it should be; or never, twice, late, or so that the client does not hear of it."""
        if self.reply_lost():
            kind = int(self.random() * 5)
            if kind == 0:
                raise RedisLostError  # never sent
            if kind < 3:
                self.redis.on_their_way.append((script, season, arguments))
            else:
                self.redis.run(script, season, *arguments)
            if kind % 2:
                raise RedisLostError  # given up; else sent again
        return self.redis.run(script, season, *arguments)

    # What happens.

    def disturb(self, ticks: int) -> None:
        for _ in range(ticks):
            chance = self.random()
            if chance > 0.98 and self.redis.on_their_way:
                arrive_late(self)
                label = "arrive_late"
            elif chance < 0.12:
                self.post(int(self.random() * SEASONS))
                label = "a score is posted"
            elif chance < 0.12 + self.fault_share:
                fault = self.choose(self.faults)
                fault(self)
                label = fault.__name__
            else:
                client = self.clients[int(self.random() * CLIENTS)]
                self.tell_of(client, self.step(client))
                continue
            self.tell(label)

    def post(self, season: int) -> None:
        """An event takes its season's epoch as of now; its transaction may commit a little later."""
        if self.unsaved:
            db, event_id = self.unsaved.pop()
        else:
            db = self.connect(self.rules).db
            event_id = len(self.events)
            delta = int(self.random() * 7) + 1
            self.events.append(Event(season, db.state.seasons[season].epoch, int(self.random() * PLAYERS), delta))
            if not self.calm and self.random() < 0.2:
                self.unsaved.append((db, event_id))
                return
        if db is self.primary or db is self.deposed:
            db.put(db.state._replace(stored=db.state.stored | 1 << event_id))

    def step(self, client: Client) -> str:
        if client.job is None:
            client.job = self.next_job(client)
        try:
            return next(client.job)
        except StopIteration:
            label = "finished"
        except TROUBLE as error:
            label = f"rolled back: {type(error).__name__}"
        client.job = None
        client.session.end()
        return label

    def next_job(self, client: Client):
        chance = self.random()
        season = int(self.random() * SEASONS)
        if chance < self.resets:
            return protocol.reset(client, season)
        if chance < 0.15:
            return protocol.discard(client, self.random())
        if chance < 0.3:
            return protocol.audit(client, season)
        return protocol.batch(client, 1 + int(self.random() * 4))

    def stop(self, db: Database) -> None:
        """PostgreSQL goes down, and every session with it; what is committed stays."""
        self.orphans = [session for session in self.orphans if session.db is not db]
        for client in self.clients:
            if client.session is not None and client.session.db is db:
                client.session.end()
        db.claimed = 0
        db.locks = [None] * SEASONS
        self.unsaved = [(other, event_id) for other, event_id in self.unsaved if other is not db]

    # How it ends.

    def settle(self) -> None:
        """The faults stop. What is under way ends, and what is still to arrive does so before or after the drain."""
        self.calm = True
        self.clock_steps = 0.0
        shut_down_deposed(self)
        for session in self.orphans:
            session.end()
        while self.unsaved:
            self.post(0)
        while working := [client for client in self.clients if client.job is not None]:
            for client in working:
                self.tell_of(client, self.step(client))
            if self.random() < 0.2:
                self.arrive()
        while self.redis.on_their_way and self.random() < 0.5:
            self.arrive()
        self.drain(self.clients[0])

    def drain(self, client: Client) -> None:
        for _ in range(PATIENCE):
            self.finish(client, protocol.batch(client, 500))
            while self.redis.on_their_way:
                self.arrive()
            idle = not self.primary.state.pending()
            # Where Redis lost nothing, no season was reset and no clock stepped, batches alone must do.
            for season in range(0 if self.lossless else SEASONS):
                self.finish(client, protocol.audit(client, season))
            if idle:
                break

    def finish(self, client: Client, job) -> None:
        client.job = job
        while client.job is not None:
            self.tell_of(client, self.step(client))

    def arrive(self) -> None:
        arrive_late(self)
        self.tell("arrive_late")

    def tell_of(self, client: Client, label: str) -> None:
        if self.trace is not None:
            self.tell(f"{client.name}: {label}")

    def tell(self, label: str) -> None:
        if self.trace is not None:
            self.trace.append(label)
            self.told = changes_told(self, self.told, self.trace)


def run(
    seed: int,
    rules: Rules = RIGHT,
    *,
    ticks: int = TICKS,
    verdicts: dict[str, int] | None = None,
    trace: list[str] | None = None,
) -> str | None:
    """The schedule `seed` under `rules`; what is wrong in the end, None if nothing is. Fewer ticks: its beginning."""
    world = World(seed, rules, defaultdict(int) if verdicts is None else verdicts, trace)
    world.disturb(ticks)
    world.settle()
    return divergence(world)
