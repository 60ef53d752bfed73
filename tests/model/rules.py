"""The rules of the protocol, each of which can be left out: what a wrong variant changes, and nothing else.

docs/reliability.md argues for them; here each is a field that is right by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


def clock_token(token: int, clock: int, jitter: int, _sequence: int) -> int:
    """The next token of a season, as in `shared.seasons._ADVANCE`: the clock's, or a random step where it is behind."""
    return max(token + 1 + jitter * (clock <= token), clock)


def counted_token(token: int, _clock: int, _jitter: int, _sequence: int) -> int:
    """Repeats the token of a batch that never committed."""
    return token + 1


def sequence_token(token: int, _clock: int, _jitter: int, sequence: int) -> int:
    """What nextval() says; after a crash it may say again what it said to a batch that never committed."""
    return max(token + 1, sequence)


class Rules(NamedTuple):
    # What a board checks.
    absolute: bool = True  # scores are written as totals, not added to what is there
    refuses_late: bool = True  # a token that is not newer than the stored one
    chain: bool = True  # a board that shows less than the last commit is behind
    base: bool = True  # a board remembers on which commit its last writer stood
    count: bool = True  # a board whose players are not those it noted is behind
    epoch: bool = True  # boards carry the season's epoch
    timeline: bool = True  # boards carry PostgreSQL's timeline
    second_check: bool = True  # a repair passes only while the board says what was reported

    # What a transaction does, and in which order.
    next_token: Callable[[int, int, int, int], int] = clock_token
    token_under_lock: bool = True  # the token is computed after the lock was granted
    fold_after_lock: bool = True  # the fold is a statement of its own: its snapshot is younger than the lock
    current_epoch_only: bool = True  # events of before a reset are done without effect
    done_with_batch: bool = True  # events are marked done in the transaction that folds and shows them
    sends_dropped: bool = True  # the player of an event that will not be folded is sent again
    patches_only_whole: bool = True  # a board that lost something is built anew, not patched
    audits_all: bool = True  # also a season that was never projected: a fail-over may have taken its first commit
    audit_locks: bool = True  # the audit reads the fence that it repairs with under the season's lock
    reset_commits_first: bool = True  # a reset shows nothing before it is committed


RIGHT = Rules()

WRONG = {
    "scores are added (ZINCRBY) instead of written": RIGHT._replace(absolute=False),
    "no check that the stored token is older": RIGHT._replace(refuses_late=False),
    "no check that the last commit is shown": RIGHT._replace(chain=False),
    "no count": RIGHT._replace(count=False),
    "no epoch on the boards": RIGHT._replace(epoch=False),
    "no timeline at a fail-over": RIGHT._replace(timeline=False),
    "no base": RIGHT._replace(base=False),
    "token taken before the lock": RIGHT._replace(token_under_lock=False),
    "token is the last one + 1": RIGHT._replace(next_token=counted_token),
    "token from a sequence": RIGHT._replace(next_token=sequence_token),
    "audit reads the fence without the lock": RIGHT._replace(audit_locks=False),
    "seasons that were never projected are not audited": RIGHT._replace(audits_all=False),
    "lock and fold in one statement": RIGHT._replace(fold_after_lock=False),
    "events of an old epoch are folded": RIGHT._replace(current_epoch_only=False),
    "boards that lost something are patched": RIGHT._replace(patches_only_whole=False),
    "repair without the second check": RIGHT._replace(second_check=False),
    "a dropped event's player is not sent again": RIGHT._replace(sends_dropped=False),
    "a reset shows its epoch before it commits": RIGHT._replace(reset_commits_first=False),
    "events are marked done in a transaction of their own": RIGHT._replace(done_with_batch=False),
}
