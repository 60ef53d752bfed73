"""PostgreSQL in the model: committed states, sessions with their row locks and claims, statements in READ COMMITTED.

A state is never changed in place: what a stale snapshot, or a replica that missed the last commits, knows is an
earlier state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from model.rules import Rules

from shared.seasons import Fence

LARGEST_SCORE = 12
"""Stands for 2^53 - 1: a sum beyond it is refused by the database."""


class SessionLostError(Exception):
    """The session is gone, and with it the transaction and its locks; or the reply to COMMIT is."""


class Event(NamedTuple):
    """A row of the ledger and of the outbox."""

    season: int
    epoch: int
    player: int
    delta: int


class Season(NamedTuple):
    """`standings`, of the current epoch: player → (score, token of the last change); score None is a tombstone."""

    epoch: int
    token: int
    standings: dict[int, tuple[int | None, int]]


class State(NamedTuple):
    """What is committed. The outbox is three sets of event ids, as bits."""

    seasons: tuple[Season, ...]
    stored: int
    done: int
    failed: int

    def pending(self) -> int:
        return self.stored & ~self.done & ~self.failed


class Database:
    __slots__ = ("claimed", "durable_sequence", "history", "locks", "sequence", "state", "timeline")

    def __init__(self, timeline: int, history: list[State]) -> None:
        self.timeline = timeline
        self.history = history
        self.state = history[-1]
        self.locks: list[Session | None] = [None] * len(self.state.seasons)
        self.claimed = 0
        self.sequence = self.durable_sequence = 1 << 40

    def fence(self, season: int, rules: Rules) -> Fence:
        row = self.state.seasons[season]
        return Fence(season, row.epoch if rules.epoch else 1, row.token, self.timeline if rules.timeline else 1)

    def put(self, state: State) -> None:
        self.state = state
        self.history.append(state)
        self.durable_sequence = self.sequence


class Session:
    """A connection with one open transaction. Once it has ended, also behind our back, every statement fails."""

    __slots__ = ("alive", "changes", "claimed", "clock", "db", "done", "epochs", "failed", "held", "rules", "snapshot",
                 "tokens")  # fmt: skip

    def __init__(self, db: Database, rules: Rules, clock: Callable[[], tuple[int, int]]) -> None:
        self.db = db
        self.rules = rules
        self.clock = clock
        self.alive = True
        self.claimed = self.done = self.failed = 0
        self.held: list[int] = []
        self.tokens: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.changes: dict[int, dict[int, tuple[int | None, int]]] = {}
        self.snapshot: State | None = None

    def end(self) -> None:
        if self.alive:
            self.alive = False
            self.db.claimed &= ~self.claimed
            for season in self.held:
                self.db.locks[season] = None

    def state(self) -> State:
        if not self.alive:
            raise SessionLostError
        return self.db.state

    def claim(self, limit: int) -> list[int]:
        """The oldest pending events that nobody else claims: for update skip locked."""
        free = self.state().pending() & ~self.db.claimed
        event_ids = []
        while free and len(event_ids) < limit:
            bit = free & -free
            free ^= bit
            self.claimed |= bit
            event_ids.append(bit.bit_length() - 1)
        self.db.claimed |= self.claimed
        return event_ids

    def claim_dropped(self, choice: float) -> int | None:
        """One of the events that are pending or failed and that nobody claims; `choice` in [0, 1) says which."""
        state = self.state()
        free = state.stored & ~state.done & ~self.db.claimed
        if not free:
            return None
        event_ids = [event_id for event_id in range(free.bit_length()) if free >> event_id & 1]
        event_id = event_ids[int(choice * len(event_ids))]
        self.claimed = 1 << event_id
        self.db.claimed |= self.claimed
        return event_id

    def lock(self, season: int) -> bool:
        """Whether the season's row is ours now; else somebody holds it, and the statement waits."""
        self.state()
        if self.db.locks[season] is not None:
            return self.db.locks[season] is self
        self.db.locks[season] = self
        self.held.append(season)
        return True

    def next_token(self, season: int) -> int:
        row = self.state().seasons[season]
        self.db.sequence += 1
        clock, jitter = self.clock()
        return self.rules.next_token(self.tokens.get(season, row.token), clock, jitter, self.db.sequence)

    def advance(self, season: int) -> int:
        token = self.tokens[season] = self.next_token(season)
        return token

    def advance_beyond(self, season: int, token: int) -> int:
        row = self.state().seasons[season]
        token = self.tokens[season] = max(self.tokens.get(season, row.token), token) + 1
        return token

    def begin_next_epoch(self, season: int) -> None:
        self.epochs[season] = self.state().seasons[season].epoch + 1

    def fold(self, events: list[Event], event_ids: list[int]) -> bool:
        """Add the events to their players' standings, or nothing at all when a sum becomes too large."""
        state = self.state()
        sums: dict[tuple[int, int], int] = {}
        for event_id in event_ids:
            season, epoch, player, delta = events[event_id]
            if epoch == state.seasons[season].epoch or not self.rules.current_epoch_only:
                key = season, player
                sums[key] = sums.get(key, 0) + delta
        scores = {key: (self._standing(*key)[0] or 0) + delta for key, delta in sums.items()}
        if any(abs(score) > LARGEST_SCORE for score in scores.values()):
            return False
        for (season, player), score in scores.items():
            self._write(season, player, score)
        return True

    def touch(self, event: Event) -> None:
        """Put the new token on the standing of an event's player without folding the event."""
        if event.epoch == self.state().seasons[event.season].epoch:
            self._write(event.season, event.player, self._standing(event.season, event.player)[0])

    def standings(self, season: int) -> dict[int, tuple[int | None, int]]:
        """As this transaction sees them: what is committed by now, and what it wrote itself."""
        rows = self.state().seasons[season].standings
        changes = self.changes.get(season)
        return {**rows, **changes} if changes else rows

    def commit(self) -> None:
        state = self.state()
        if self.tokens or self.epochs or self.done or self.failed:
            rows = list(state.seasons)
            for season, token in self.tokens.items():
                epoch, _, standings = rows[season]
                if season in self.epochs:
                    epoch, standings = self.epochs[season], {}
                rows[season] = Season(epoch, token, {**standings, **self.changes.get(season, {})})
            self.db.put(State(tuple(rows), state.stored, state.done | self.done, state.failed | self.failed))
        self.end()

    def _standing(self, season: int, player: int) -> tuple[int | None, int]:
        changes = self.changes.get(season)
        if changes and player in changes:
            return changes[player]
        rows = (self.snapshot or self.db.state).seasons[season].standings
        return rows.get(player, (None, 0))

    def _write(self, season: int, player: int, score: int | None) -> None:
        self.changes.setdefault(season, {})[player] = score, self.tokens[season]
