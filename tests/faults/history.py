"""What clients were told, and whether the service kept its word: the judge of every fault scenario.

Each score has an idempotency key. Ticks are a logical clock that counts sends and answers, so that "before" and
"after" need no time.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import NamedTuple

from window_calls import MINUTE, boards_of, moment_of

from shared.scores import MAX_SCORE, Rules
from shared.windows import BOARDS

ACKED, REFUSED, UNKNOWN = "acked", "refused", "unknown"


class Verdict(NamedTuple):
    """`lost`: acknowledged, but not counted; `doubled`: counted more often than once, or though it must not be."""

    acked: int
    lost: int
    doubled: int
    notes: list[str]


class Event(NamedTuple):
    """A row of the ledger. `at`: when the score was reached; `voided`: it counts no more."""

    season_id: str
    epoch: int
    user_id: str
    delta: int
    occurred_at: dt.datetime | None
    at: dt.datetime
    voided: bool


class Season(NamedTuple):
    epoch: int
    token: int
    rules: Rules


_EVENTS = """
select id, season_id, epoch, user_id, delta, occurred_at, least(occurred_at, created_at),
  voided_at is not null
from score_events where discarded_at is null order by id
"""

_FAILED_MODERATION = """
select event_type, last_error from outbox where event_type <> 'score' and status = 'failed'
"""

_SEASONS = "select season_id, epoch, token, aggregation, sort_order, windows, tie_break from seasons"

_STANDINGS = """
select season_id, user_id, score, standings.windows[1], standings.windows[4], standings.windows[7]
from standings join seasons using (season_id, epoch)
"""


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
        """Both {(season, window, player): score}. Too low or missing is a loss, too high or too many a double."""
        for player in expected.keys() | found.keys():
            if found.get(player) != expected.get(player):
                note = f"{name} of {player}: {found.get(player)}, ledger: {expected.get(player)}"
                missing = player not in found or (player in expected and found[player] < expected[player])
                (self.lost if missing else self.doubled)(note)

    def compare_order(self, found, expected):
        """Both {(season, window): [(player, score), …]}, the best first, with the same players and scores."""
        for board, players in expected.items():
            if found[board] != players:
                first = next(pair for pair in zip(found[board], players, strict=False) if pair[0] != pair[1])
                self.notes.append(f"order of board {board}: {first[0]}, ledger: {first[1]}")


class Attempt:
    """One score on its way: sent once or several times under its key until its fate is known."""

    __slots__ = ("absolute", "answered", "delta", "key", "occurred_at", "season_id", "sent", "state", "user_id")

    def __init__(self, key, season_id, user_id, delta, *, absolute=False, occurred_at=None):
        self.key, self.season_id, self.user_id, self.delta = key, season_id, user_id, delta
        self.absolute, self.occurred_at = absolute, occurred_at
        self.sent = self.answered = 0
        self.state = None  # None: no answer yet that says anything


class Reset:
    __slots__ = ("answered", "season_id", "sent", "state")

    def __init__(self, season_id, sent):
        self.season_id, self.sent = season_id, sent
        self.answered, self.state = 0, UNKNOWN


class Erasure:
    __slots__ = ("answered", "season_id", "sent", "user_id")

    def __init__(self, season_id, user_id, sent):
        self.season_id, self.user_id, self.sent, self.answered = season_id, user_id, sent, None


class History:
    def __init__(self):
        self.attempts = {}
        self.resets = []
        self.voids = {}  # by the key of the score: whether it was answered with 202
        self.hidden = {}  # (season, player): whether the last that was asked for is that nobody sees that player
        self.erasures = []
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

    def erasure_began(self, season_id, user_id):
        erasure = Erasure(season_id, user_id, self.tick())
        self.erasures.append(erasure)
        return erasure

    def erasure_answered(self, erasure):
        erasure.answered = self.tick()
        self.hidden[erasure.season_id, erasure.user_id] = False

    def let_pass(self, minutes):
        """So much time has passed for all that is stored; nothing is on its way."""
        for attempt in self.attempts.values():
            if attempt.occurred_at is not None:
                attempt.occurred_at -= minutes * MINUTE

    async def judge(self, rows, boards, as_of=None):
        """Compare with the ledger, the standings and `boards`, after a drain.

        `rows`: runs a query on PostgreSQL. `boards`: {(season, window): [(player, score), …]}, the best first. What was
        due to leave a window at `as_of` must have left it; None = at each season's last batch.
        """
        keys = dict(await rows("select key, event_id from idempotency_keys"))
        events = {row[0]: Event(*row[1:]) for row in await rows(_EVENTS)}
        seasons = {row[0]: Season(*row[1:3], Rules(*row[3:])) for row in await rows(_SEASONS)}
        set_aside = {row[0] for row in await rows("select id from outbox where status = 'failed'")}
        tally = Tally(self.odd)
        self._judge_ledger(keys, events, {season_id: season.epoch for season_id, season in seasons.items()}, tally)
        for event_id in set_aside & events.keys():
            event = events.pop(event_id)
            if (event.season_id, event.user_id) not in self.may_fail:
                tally.lost(f"event {event_id} was set aside: {event}")
        for action, error in await rows(_FAILED_MODERATION):
            tally.lost(f"{action} was asked for, and failed: {error}")
        self._judge_voids(keys, events, tally)
        expected = _expected(seasons, {key: event for key, event in events.items() if not event.voided}, as_of)
        tally.compare("standing", _scores_of(await rows(_STANDINGS)), _flat(expected))
        expected = {
            board: [pair for pair in players if not self.hidden.get((board[0], pair[0]))]
            for board, players in expected.items()
        }
        shown = _flat(boards)
        if len(shown) < sum(map(len, boards.values())):
            tally.doubled("a player stands on a board twice")
        tally.compare("board", shown, _flat(expected))
        if not tally.notes:
            tally.compare_order(boards, expected)
        return Verdict(self.acked, tally.losses, tally.doubles, tally.notes)

    def _judge_ledger(self, keys, events, epochs, tally):
        certain = {season_id for season_id, epoch in epochs.items() if self._epoch_tells(season_id, epoch, tally)}
        for event_id in events.keys() - set(keys.values()):
            tally.doubled(f"event {event_id} in the ledger without a key: {events[event_id]}")
        for key in keys.keys() - self.attempts.keys():
            tally.doubled(f"key {key} was never sent")
        for attempt in self.attempts.values():
            self._judge_attempt(attempt, attempt.key in keys, events.get(keys.get(attempt.key)), epochs, certain, tally)

    def _judge_voids(self, keys, events, tally):
        voided = {key for key, event_id in keys.items() if event_id in events and events[event_id].voided}
        for key in voided - self.voids.keys():
            tally.lost(f"{key} was voided, and nobody asked for it")
        for key, answered in self.voids.items():
            if answered and key not in voided and keys.get(key) in events:
                tally.doubled(f"{key} was to be voided and counts")

    def _erased(self, attempt):
        """Whether an attempt must, must not or may be gone by an erasure of its player."""
        told = "must not"
        for erasure in self.erasures:
            if (erasure.season_id, erasure.user_id) != (attempt.season_id, attempt.user_id):
                continue
            if attempt.state == ACKED and attempt.answered < erasure.sent and erasure.answered is not None:
                return "must"
            if erasure.answered is None or attempt.sent < erasure.answered:
                told = "may"
        return told

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
        erased = self._erased(attempt)
        # What a reset took from the ledger, an erasure does not find: its key goes after its retention.
        if erased == "must" and event is not None:
            tally.doubled(f"{attempt.key} is of a player who was erased since, and is in the ledger")
        if erased != "must not":
            return
        if attempt.state == ACKED and not stored:
            tally.lost(f"{attempt.key} was acknowledged and is not in the ledger")
        if attempt.state == REFUSED and stored:
            tally.doubled(f"{attempt.key} was refused and is in the ledger")
        if event is not None and (event.season_id, event.user_id, event.delta, event.occurred_at) != (
            attempt.season_id,
            attempt.user_id,
            attempt.delta,
            attempt.occurred_at,
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


def _expected(seasons, events, as_of):
    """What the boards must show of the events: {(season, window): [(player, score), …]}."""
    counted = defaultdict(lambda: defaultdict(list))
    for event_id, event in events.items():
        if event.epoch == seasons[event.season_id].epoch:
            counted[event.season_id][event.user_id].append((event.delta, event.at, event_id))
    expected = {}
    for season_id, season in seasons.items():
        last = moment_of(season.token)
        boards = boards_of(counted[season_id], season.rules, last if as_of is None else max(last, as_of))
        expected |= {(season_id, window): board for window, board in zip(BOARDS, boards, strict=False)}
    return expected


def _scores_of(standings):
    """Of a window the sum may be more than a board holds exactly."""
    return {
        (season_id, window, player): max(-MAX_SCORE, min(MAX_SCORE, score))
        for season_id, player, *scores in standings
        for window, score in zip(BOARDS, scores, strict=True)
        if score is not None
    }


def _flat(boards):
    """{(season, window): [(player, score), …]} as {(season, window, player): score}."""
    return {(*board, player): score for board, players in boards.items() for player, score in players}
