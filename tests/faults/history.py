"""What clients were told, and whether the service kept its word: the judge of every fault scenario.

Each score has an idempotency key. Ticks are a logical clock that counts sends and answers, so that "before" and
"after" need no time.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

ACKED, REFUSED, UNKNOWN = "acked", "refused", "unknown"


class Verdict(NamedTuple):
    """`lost`: acknowledged, but not counted; `doubled`: counted more often than once, or though it must not be."""

    acked: int
    lost: int
    doubled: int
    notes: list[str]


class Event(NamedTuple):
    """A row of the ledger."""

    season_id: str
    epoch: int
    user_id: str
    delta: int


class Tally:
    """What was found wrong, counted and noted."""

    def __init__(self, notes):
        self.losses = self.doubles = 0
        self.notes = list(notes)

    def lost(self, note):
        self.losses += 1
        self.notes.append(note)

    def doubled(self, note):
        self.doubles += 1
        self.notes.append(note)

    def compare(self, name, found, expected):
        """Both {(season, player): score}. A score too low or missing is a loss, one too high or too many a double."""
        for player in expected.keys() | found.keys():
            if found.get(player) != expected.get(player):
                note = f"{name} of {player}: {found.get(player)}, ledger: {expected.get(player)}"
                missing = player not in found or (player in expected and found[player] < expected[player])
                (self.lost if missing else self.doubled)(note)


class Attempt:
    """One score on its way: sent once or several times under its key until its fate is known."""

    __slots__ = ("answered", "delta", "key", "season_id", "sent", "state", "user_id")

    def __init__(self, key, season_id, user_id, delta):
        self.key, self.season_id, self.user_id, self.delta = key, season_id, user_id, delta
        self.sent = self.answered = 0
        self.state = None  # None: no answer yet that says anything


class Reset:
    __slots__ = ("answered", "season_id", "sent", "state")

    def __init__(self, season_id, sent):
        self.season_id, self.sent = season_id, sent
        self.answered, self.state = 0, UNKNOWN


class History:
    def __init__(self):
        self.attempts = {}
        self.resets = []
        self.acked = 0
        self.odd = []  # answers that nobody should ever get
        self.may_fail = set()  # (season, player) whose scores the worker may set aside
        self._tick = 0

    def tick(self):
        self._tick += 1
        return self._tick

    def began(self, attempt):
        """The attempt is sent, for the first time or again."""
        if not attempt.sent:
            attempt.sent = self.tick()
            self.attempts[attempt.key] = attempt
        attempt.state = UNKNOWN

    def acknowledged(self, attempt):
        attempt.state, attempt.answered = ACKED, self.tick()
        self.acked += 1

    def refused(self, attempt, unknown_before):
        """The answer says that it was not stored; which holds only if no earlier send may have been."""
        attempt.state = UNKNOWN if unknown_before else REFUSED

    def reset_began(self, season_id):
        reset = Reset(season_id, self.tick())
        self.resets.append(reset)
        return reset

    def reset_answered(self, reset):
        reset.state, reset.answered = ACKED, self.tick()

    async def judge(self, rows, boards):
        """Compare with the ledger, the standings and `boards` ({season: {user: score}}), after a drain.

        `rows`: runs a query on PostgreSQL.
        """
        keys = dict(await rows("select key, event_id from idempotency_keys"))
        events = {
            row[0]: Event(*row[1:])
            for row in await rows(
                "select id, season_id, epoch, user_id, delta from score_events where discarded_at is null"
            )
        }
        epochs = dict(await rows("select season_id, epoch from seasons"))
        set_aside = {row[0] for row in await rows("select id from outbox where status = 'failed'")}
        tally = Tally(self.odd)
        for event_id in set_aside & events.keys():
            event = events[event_id]
            if (event.season_id, event.user_id) not in self.may_fail:
                tally.lost(f"event {event_id} was set aside: {event}")
        certain = {season_id for season_id, epoch in epochs.items() if self._epoch_tells(season_id, epoch, tally)}
        for event_id in events.keys() - set(keys.values()):
            tally.doubled(f"event {event_id} in the ledger without a key: {events[event_id]}")
        for key in keys.keys() - self.attempts.keys():
            tally.doubled(f"key {key} was never sent")
        for attempt in self.attempts.values():
            self._judge_attempt(attempt, attempt.key in keys, events.get(keys.get(attempt.key)), epochs, certain, tally)

        expected = Counter()
        for event_id, event in events.items():
            if event.epoch == epochs[event.season_id] and event_id not in set_aside:
                expected[event.season_id, event.user_id] += event.delta
        standings = await rows(
            "select season_id, user_id, score from standings join seasons using (season_id, epoch)"
            " where score is not null"
        )
        shown = {(season_id, player): score for season_id, board in boards.items() for player, score in board.items()}
        tally.compare("standing", {(season_id, player): score for season_id, player, score in standings}, expected)
        tally.compare("board", shown, expected)
        return Verdict(self.acked, tally.losses, tally.doubles, tally.notes)

    def _epoch_tells(self, season_id, epoch, tally):
        """Whether every reset without an answer is known to have had no effect: each one adds one to the epoch."""
        resets = [reset for reset in self.resets if reset.season_id == season_id]
        answered = self.answered_resets(season_id)
        if not answered <= epoch - 1 <= len(resets):
            tally.doubled(f"season {season_id} is at epoch {epoch} after {answered} resets of {len(resets)} sent")
        # Not those on a season that nobody may have written to yet: they may add one or not.
        return epoch - 1 == answered == sum(reset.state == ACKED for reset in resets)

    def answered_resets(self, season_id):
        """How many resets must have had an effect: answered, and the season was there when they were sent."""
        first = min(
            (one.answered for one in self.attempts.values() if one.season_id == season_id and one.state == ACKED),
            default=None,
        )
        return sum(
            reset.season_id == season_id and reset.state == ACKED and first is not None and first < reset.sent
            for reset in self.resets
        )

    def _judge_attempt(self, attempt, stored, event, epochs, certain, tally):
        if attempt.state == ACKED and not stored:
            tally.lost(f"{attempt.key} was acknowledged and is not in the ledger")
        if attempt.state == REFUSED and stored:
            tally.doubled(f"{attempt.key} was refused and is in the ledger")
        if event is not None and (event.season_id, event.user_id, event.delta) != (
            attempt.season_id,
            attempt.user_id,
            attempt.delta,
        ):
            tally.lost(f"{attempt.key} is another score in the ledger: {event}")
        counts = event is not None and event.epoch == epochs[attempt.season_id]
        fate = self._fate(attempt, only_answered=attempt.season_id in certain)
        if stored and fate == "must" and not counts:
            tally.lost(f"{attempt.key} was acknowledged after the last reset and does not count")
        if fate == "must not" and counts:
            tally.doubled(f"{attempt.key} was acknowledged before a reset and counts again")

    def _fate(self, attempt, *, only_answered):
        """Whether an attempt must, must not or may count, given the resets; `only_answered`: the others did nothing."""
        if attempt.state != ACKED:
            return "may"
        after_all = True
        for reset in self.resets:
            if reset.season_id != attempt.season_id or (only_answered and reset.state != ACKED):
                continue
            if reset.state == ACKED and attempt.answered < reset.sent:
                return "must not"
            if reset.state != ACKED or attempt.sent < reset.answered:
                after_all = False
        return "must" if after_all else "may"
