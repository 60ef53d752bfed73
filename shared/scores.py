"""Pure rules about seasons, players and scores: what is acceptable, and why not. No I/O, no clock.

The wire contract's bounds live here alone; `shared.schema` repeats them as CHECK constraints from these names.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, NewType, TypeAlias

from shared.errors import InvalidRequestError

SeasonId = NewType("SeasonId", str)
UserId = NewType("UserId", str)
IdempotencyKey = NewType("IdempotencyKey", str)
EventId = NewType("EventId", int)
"""The ledger's own number of what was written to it; what clients send as eventId is an IdempotencyKey."""

MAX_SCORE: Final = 2**53 - 1
"""The largest absolute value of a score or delta: what a double, and so a sorted set's score, holds exactly."""

MAX_EPOCH: Final = 2**31 - 1

MAX_SEASON_ID_LENGTH: Final = 64
MAX_USER_ID_LENGTH: Final = 128
MAX_KEY_LENGTH: Final = 128
MAX_REMARK_LENGTH: Final = 500

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 9998

DEFAULT_TOP_LIMIT: Final = 10
MAX_TOP_LIMIT: Final = 1000
MAX_OFFSET: Final = 999_999_999
MAX_RANKS: Final = 1000
"""Players whose ranks one request may ask for."""
DEFAULT_AROUND_RANGE: Final = 5
MAX_AROUND_RANGE: Final = 100

SEASON_ID_CHARACTERS: Final = r"A-Za-z0-9._:\-"
"""The inside of a bracket expression, for any dialect of regular expressions; so is the next."""
CONTROL_CHARACTERS: Final = r"\x00-\x1f\x7f-\x9f"
"""Unicode category Cc: C0, DEL, C1."""
KEY_CHARACTERS: Final = "!-~"

_SEASON_ID = re.compile(rf"[{SEASON_ID_CHARACTERS}]{{1,{MAX_SEASON_ID_LENGTH}}}")
# Surrogates are no characters; PostgreSQL can't store them.
_FORBIDDEN_IN_USER_ID = re.compile(rf"[{CONTROL_CHARACTERS}\ud800-\udfff]")
_KEY = re.compile(rf"[{KEY_CHARACTERS}]{{1,{MAX_KEY_LENGTH}}}")
_KEYS = re.compile(rf"[{KEY_CHARACTERS}]*")

MAX_NUMBER: Final = 2**63 - 1
"""The largest id of the games API."""
_GAME: Final = "game:"
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")


Aggregation: TypeAlias = Literal["sum", "best", "latest"]
"""What an event does to its player's score: it is added, it counts where it is better, or it replaces what was."""

Order: TypeAlias = Literal["desc", "asc"]
"""Which scores are the better ones: the high ones, or, as of race times, the low ones."""


TieBreak: TypeAlias = Literal["member", "earliest"]
"""Who of those with equal scores stands higher: by the bytes of the user ids, or who reached the score first."""


class Rules(NamedTuple):
    """What a season's scores come to and where they are shown. They hold for all scores of an epoch.

    `windows`: there are boards of the last 24 hours, 3 and 7 days too. `hides`: some players are on none of them, at
    any time (`shared.moderation`).
    """

    aggregation: Aggregation = "sum"
    order: Order = "desc"
    windows: bool = False
    tie_break: TieBreak = "member"
    hides: bool = False

    @property
    def chosen(self) -> tuple[Aggregation, Order, bool, TieBreak]:
        """What games choose: all but `hides`."""
        return self[:4]

    @property
    def plain(self) -> bool:
        """Whether a standing is no more than a score."""
        return not self.windows and self.tie_break == "member"


PLAIN: Final = Rules()

GAME_RULES: Final = Rules("best", "desc", windows=True, tie_break="earliest")
"""What the games API promises: the best score counts, in each window too, and who reached it first stands higher."""


class Score(NamedTuple):
    """One score as a client sent it, already valid: `delta` points for a player of a season.

    Of several with the same `key` in a season one counts. `absolute`: `delta` is no points to add but the score itself.
    `epoch`: the season's for which it is meant, None = whichever it is in. `occurred_at`: when it was reached, None =
    when it arrives; a time that is still to come counts as that too. `traceparent`: the span under which it came
    (W3C Trace Context), None = nobody follows it.
    """

    season_id: SeasonId
    user_id: UserId
    delta: int
    key: IdempotencyKey | None = None
    absolute: bool = False
    epoch: int | None = None
    occurred_at: dt.datetime | None = None
    traceparent: str | None = None


def rules_of_first(season_id: SeasonId, *, absolute: bool) -> Rules:
    """The rules of a season that nobody made, by its first score: points add up, of scores the best one counts.

    A game of the games API has windows, and the first to reach a score stands higher, whichever way its first score
    comes.
    """
    if not absolute:
        return PLAIN
    if is_game(season_id):
        return GAME_RULES
    return Rules("best")


def season_of_game(game_id: int) -> SeasonId:
    """The season of a game of the games API."""
    return SeasonId(f"{_GAME}{game_id}")


def is_game(season_id: SeasonId) -> bool:
    """Whether the season is that of a game of the games API."""
    return season_id.startswith(_GAME) and _NUMBER.fullmatch(season_id, len(_GAME)) is not None


def parse_season_id(text: str) -> SeasonId:
    """The season's id, or InvalidRequestError."""
    if _SEASON_ID.fullmatch(text) is None:
        raise InvalidRequestError(
            f"season id must be 1 to {MAX_SEASON_ID_LENGTH} characters of A-Z a-z 0-9 . _ : -",
            code="invalid_season_id",
        )
    return SeasonId(text)


def parse_user_id(text: str) -> UserId:
    """The player's id, or InvalidRequestError. Length counts characters, not bytes."""
    if not text:
        raise InvalidRequestError("userId is required and must not be empty", code="invalid_user_id")
    if len(text) > MAX_USER_ID_LENGTH:
        raise InvalidRequestError(
            f"userId must be at most {MAX_USER_ID_LENGTH} characters, not {len(text)}", code="invalid_user_id"
        )
    if _FORBIDDEN_IN_USER_ID.search(text) is not None:
        raise InvalidRequestError("userId must not hold control characters", code="invalid_user_id")
    return UserId(text)


def parse_delta(delta: int) -> int:
    """The delta, or InvalidRequestError when it is zero or beyond ±MAX_SCORE."""
    if delta == 0:
        raise InvalidRequestError("delta must not be zero: send the points to add or take away", code="invalid_delta")
    if abs(delta) > MAX_SCORE:
        raise InvalidRequestError(
            f"delta must be within ±{MAX_SCORE} (2^53 - 1), what every client can hold exactly",
            code="invalid_delta",
        )
    return delta


def parse_score(score: int) -> int:
    """The score, or InvalidRequestError when it is beyond ±MAX_SCORE."""
    if abs(score) > MAX_SCORE:
        raise InvalidRequestError(
            f"score must be within ±{MAX_SCORE} (2^53 - 1), what every client can hold exactly", code="invalid_score"
        )
    return score


def parse_epoch(epoch: int | None) -> int | None:
    """The epoch, or InvalidRequestError when no season can be in it."""
    if epoch is not None and not 1 <= epoch <= MAX_EPOCH:
        raise InvalidRequestError(
            f"epoch must be from 1 to {MAX_EPOCH}, as GET says of the season", code="invalid_epoch"
        )
    return epoch


def is_number(text: str) -> bool:
    """Whether the text is an id of the games API."""
    return _NUMBER.fullmatch(text) is not None and int(text) <= MAX_NUMBER


def parse_number(text: str, name: str, code: str) -> int:
    """An id of the games API or of an event, from 1 to 2^63 - 1, or InvalidRequestError; `name`: of its field."""
    if not is_number(text):
        raise InvalidRequestError(f"{name} must be a whole number from 1 to {MAX_NUMBER}, not {text[:40]!r}", code=code)
    return int(text)


def moment_in_time(moment: dt.datetime | None) -> dt.datetime | None:
    """When a score was reached, in UTC; None, when it arrives, also for what no clock that is set says: years before
    1970, such as a program's zero time, or beyond 9998."""
    years = range(FIRST_YEAR, LAST_YEAR + 1)
    # As it is written, and in UTC, which some moments of the years 1 and 9999 have none of.
    if moment is None or moment.year not in years:
        return None
    in_utc = moment.astimezone(dt.UTC)
    return in_utc if in_utc.year in years else None


def parse_moment(moment: dt.datetime, name: str, code: str) -> dt.datetime:
    """The moment, in UTC, or InvalidRequestError when it is of no year from 1970 to 9998; `name`: of its field."""
    in_utc = moment_in_time(moment)
    if in_utc is None:
        raise InvalidRequestError(f"{name} must be in the years {FIRST_YEAR} to {LAST_YEAR}", code=code)
    return in_utc


def parse_event_id(text: str, name: str) -> EventId:
    """The ledger's id of an event, or InvalidRequestError; `name`: of its field."""
    return EventId(parse_number(text, name, "invalid_event_id"))


def parse_remark(text: str, name: str) -> str:
    """What an operator says of what is done, or InvalidRequestError; `name`: of its field."""
    if not 1 <= len(text.strip()) <= MAX_REMARK_LENGTH or _FORBIDDEN_IN_USER_ID.search(text) is not None:
        raise InvalidRequestError(
            f"{name} must be 1 to {MAX_REMARK_LENGTH} characters without control characters", code=f"invalid_{name}"
        )
    return text.strip()


def parse_idempotency_key(text: str) -> IdempotencyKey:
    """The key, or InvalidRequestError. In double quotes, as the IETF's draft for the header asks, or without."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if _KEY.fullmatch(text) is None:
        raise InvalidRequestError(
            f"an idempotency key must be 1 to {MAX_KEY_LENGTH} visible ASCII characters without blanks, a UUID for "
            "example",
            code="invalid_idempotency_key",
        )
    return IdempotencyKey(text)


def all_acceptable(
    user_ids: Sequence[str], deltas: Sequence[int], keys: Sequence[str], *, absolute: bool = False
) -> bool:
    """Whether the functions above would take all of these, and as they are: a fifth of the time for thousands.

    `absolute`: the deltas are scores.

    Where it says no, each has to be asked for itself: a key in quotes is not taken as it is.
    """
    all_keys = "".join(keys)
    return (
        all(user_ids)
        and max(map(len, user_ids), default=0) <= MAX_USER_ID_LENGTH
        and _FORBIDDEN_IN_USER_ID.search("".join(user_ids)) is None
        and (absolute or all(deltas))
        and min(deltas, default=0) >= -MAX_SCORE
        and max(deltas, default=0) <= MAX_SCORE
        and all(keys)
        and max(map(len, keys), default=0) <= MAX_KEY_LENGTH
        and '"' not in all_keys
        and _KEYS.fullmatch(all_keys) is not None
    )
