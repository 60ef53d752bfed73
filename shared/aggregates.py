"""What several scores of a player come to, as text of SQL: one rule for batches, for windows that scores leave, and for
the comparison with the ledger.

Of a score's moment, `at`, its minute decides in which windows it is (`shared.windows`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from shared.scores import MAX_SCORE, Rules
from shared.windows import HOURS, WINDOWS

MOMENT: Final = "least(event.occurred_at, event.created_at)"
"""When an event's score was reached: as its client says, else when it arrived, and no later than that."""

STANDS: Final = "event.discarded_at is null and event.voided_at is null"
"""Whether a score was not given up."""

MINUTE: Final = "date_bin('1 minute', {at}, timestamptz 'epoch')"

AS_OF: Final = "(timestamptz 'epoch' + season.token * interval '1 microsecond')"
"""What time it is for a season that is locked: its new token. The clock may step back, tokens never do, so that what
left a window does not come back into it."""


class Place(NamedTuple):
    """A board. `condition`: whether a score counts there. Its three values have names that end in `suffix`; standings
    have them as columns, or, those of windows, from `first` on in the array `windows`."""

    suffix: str
    condition: str
    first: int


# Hours and minutes, not days: those are as long as the time zone has it.
_ENDS: Final = [f"interval '{60 * HOURS[window] + 1} minutes'" for window in reversed(WINDOWS)]

WITHIN: Final = (
    "case "
    + " ".join(
        f"when {{minute}} + {ends} > {{as_of}} then {count}"
        for count, ends in reversed(list(enumerate(_ENDS, start=1)))
    )
    + " else 0 end"
)
"""In how many windows a minute is; those are the widest ones."""

LEAVES: Final = f"({{minute}} + (array[{', '.join(_ENDS)}])[{{within}}])"
"""When a minute that is in some windows leaves the narrowest of them."""

VALUES: Final = ("score", "reached_at", "reached_by")

ALL_TIME: Final = Place("", "true", 0)
IN_WINDOWS: Final = tuple(
    Place(f"_{window}", f"within > {len(WINDOWS) - 1 - number}", 1 + len(VALUES) * number)
    for number, window in enumerate(WINDOWS)
)


def places_of(rules: Rules) -> tuple[Place, ...]:
    """The boards of a season."""
    return (ALL_TIME, *IN_WINDOWS) if rules.windows else (ALL_TIME,)


def held(standing: str, value: str, place: Place) -> str:
    """Where a row of standings holds one of a board's values."""
    return f"{standing}.windows[{place.first + VALUES.index(value)}]" if place.first else f"{standing}.{value}"


def array_of(values: Iterable[str]) -> str:
    """What `windows` holds, of the values of all windows."""
    return f"array[{', '.join(values)}]::bigint[]"


def microseconds(moment: str) -> str:
    """By way of a double, which holds them exactly until 2106: exact numbers would take six times as long."""
    return f"(date_part('epoch', {moment}) * 1000000)::bigint"


_FAR: Final = 2**61
"""Far beyond what a board shows, and two of them are not too much for a bigint."""

_HIDDEN: Final = """exists (
  select from hidden_players as hidden
  where hidden.season_id = standing.season_id and hidden.user_id = standing.user_id)"""


def _shown(score: str, *, hides: bool) -> str:
    """The score as boards show it: that of who is hidden is on none of them."""
    return f"case when {_HIDDEN} then null else {score} end" if hides else score


def _bounded_score(place: Place) -> str:
    """Of a window the sum may leave what a board holds exactly, where what was taken away is older than the window."""
    score = held("standing", "score", place)
    return f"case when abs({score}) > {MAX_SCORE} then sign({score})::bigint * {MAX_SCORE} else {score} end"


def _full_columns(*, hides: bool) -> str:
    told = [f"season_id, user_id, {_shown('score', hides=hides)}, {microseconds('reached_at')}, reached_by"]
    for place in IN_WINDOWS:
        score = _shown(_bounded_score(place), hides=hides)
        told.append(f"{score}, {held('standing', 'reached_at', place)}, {held('standing', 'reached_by', place)}")
    return ", ".join(told)


FULL_COLUMNS: Final = _full_columns(hides=True)
"""A whole row of standings, called `standing`, as boards show it: the score, when it was reached, in microseconds, and
by which event, of all time and of each window. For seasons with any rules."""


def columns_of(rules: Rules) -> str:
    """The columns of `shared.standings.Standing`, as far as the season has them."""
    if rules.plain:
        return f"season_id, user_id, {_shown('score', hides=rules.hides)}"
    return _full_columns(hides=rules.hides)


def preference(rules: Rules) -> str:
    """The order of a player's scores in which the first one is that by which the standing was reached; where they do
    not add up, it is the one that counts."""
    if rules.aggregation == "sum":
        return "at desc, id desc"
    if rules.aggregation == "latest":
        # Ids say what came later: a clock may step back between two scores.
        return "id desc"
    return f"score{'' if rules.order == 'asc' else ' desc'}, at, id"


def counts_more(rules: Rules, new: str, old: str, place: Place = ALL_TIME) -> str:
    """Whether the score in a row `new` comes before that of `old` in the order of `preference`."""
    of_new, of_old = ([held(row, value, place) for value in VALUES] for row in (new, old))
    if rules.aggregation == "latest":
        return f"{of_new[2]} > {of_old[2]}"
    sign = "<" if rules.order == "asc" else ">"
    earlier = f"({of_new[1]}, {of_new[2]}) < ({of_old[1]}, {of_old[2]})"
    return f"({of_new[0]} {sign} {of_old[0]} or {of_new[0]} = {of_old[0]} and {earlier})"


def bounded(total: str) -> str:
    """A sum that no column overflows with: what was taken away may have left a window, or lie in another minute."""
    return f"case when abs({total}) > {_FAR} then sign({total}) * {_FAR} else {total} end"


def aggregates(rules: Rules, places: Iterable[Place], *, of_minutes: bool = False) -> str:
    """The values of each place as standings hold them, over rows of score, at, id and within; `of_minutes`: as
    window_buckets hold them."""
    told = []
    for suffix, condition, first in places:
        score = _score(rules, condition, of_all_time=not first and not of_minutes)
        at, by = (_first(rules, of, condition) for of in ("at", "id"))
        told.append(f"{score} as score{suffix}, {microseconds(at) if first else at} as reached_at{suffix}")
        told.append(f"{by} as reached_by{suffix}")
    return ", ".join(told)


def _score(rules: Rules, condition: str, *, of_all_time: bool) -> str:
    if rules.aggregation != "sum":
        return _first(rules, "score", condition)
    total = f"sum(score) filter (where {condition})"
    return total if of_all_time else bounded(total)  # of all time the table's constraint bounds it


def _first(rules: Rules, of: str, condition: str) -> str:
    return f"(array_agg({of} order by {preference(rules)}) filter (where {condition}))[1]"


def names(place: Place, prefix: str = "") -> list[str]:
    """What a board's values are called."""
    return [f"{prefix}{value}{place.suffix}" for value in VALUES]
