"""What several scores of a player come to, as text of SQL: one rule for batches, for windows that scores leave, and for
the comparison with the ledger.

Of a score's moment, `at`, its minute decides in which windows it is (`shared.windows`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.scores import MAX_SCORE, Rules
from shared.windows import HOURS, WINDOWS

MOMENT: Final = "least(event.occurred_at, event.created_at)"
"""When an event's score was reached: as its client says, else when it arrived, and no later than that."""

MINUTE: Final = "date_bin('1 minute', {at}, timestamptz 'epoch')"

AS_OF: Final = "(timestamptz 'epoch' + season.token * interval '1 microsecond')"
"""What time it is for a season that is locked: its new token. The clock may step back, tokens never do, so that what
left a window does not come back into it."""


class Place(NamedTuple):
    """Columns of standings for one board end in `suffix`; `condition`: whether a score counts there."""

    suffix: str
    condition: str


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

IN_WINDOWS: Final = tuple(
    Place(f"_{window}", f"within > {len(WINDOWS) - 1 - number}") for number, window in enumerate(WINDOWS)
)
PLACES: Final = (Place("", "true"), *IN_WINDOWS)

_FAR: Final = 2**61
"""Far beyond what a board shows, and two of them are not too much for a bigint."""

COLUMNS: Final = "season_id, user_id, score"
"""A standing of a season whose rules are plain."""

# Of a window the sum may leave what a board holds exactly, where what was taken away is older than the window. Moments
# by way of a double, which holds microseconds exactly until 2106: exact numbers would take six times as long.
FULL_COLUMNS: Final = "season_id, user_id, " + ", ".join(
    f"case when abs(score{suffix}) > {MAX_SCORE} then sign(score{suffix})::bigint * {MAX_SCORE} "
    f"else score{suffix} end, "
    f"(date_part('epoch', reached_at{suffix}) * 1000000)::bigint, reached_by{suffix}"
    for suffix, _ in PLACES
)
"""A whole standing: the score, when it was reached, in microseconds, and by which event, of all time and of each
window."""


def columns_of(rules: Rules) -> str:
    """The columns of `shared.standings.Standing`, as far as the season has them."""
    return COLUMNS if rules.plain else FULL_COLUMNS


def preference(rules: Rules) -> str:
    """The order of a player's scores in which the first one is that by which the standing was reached; where they do
    not add up, it is the one that counts."""
    if rules.aggregation == "sum":
        return "at desc, id desc"
    if rules.aggregation == "latest":
        # Ids say what came later: a clock may step back between two scores.
        return "id desc"
    return f"score{'' if rules.order == 'asc' else ' desc'}, at, id"


def counts_more(rules: Rules, new: str, old: str, suffix: str = "") -> str:
    """Whether the score in columns of `new` comes before that of `old` in the order of `preference`."""
    score, at, by = (f"{name}{suffix}" for name in ("score", "reached_at", "reached_by"))
    if rules.aggregation == "latest":
        return f"{new}.{by} > {old}.{by}"
    sign = "<" if rules.order == "asc" else ">"
    return (
        f"({new}.{score} {sign} {old}.{score} or {new}.{score} = {old}.{score}"
        f" and ({new}.{at}, {new}.{by}) < ({old}.{at}, {old}.{by}))"
    )


def bounded(total: str) -> str:
    """A sum that no column overflows with: what was taken away may have left a window, or lie in another minute."""
    return f"case when abs({total}) > {_FAR} then sign({total}) * {_FAR} else {total} end"


def aggregates(rules: Rules, places: tuple[Place, ...], *, of_minutes: bool = False) -> str:
    """score, reached_at and reached_by of each place, over rows of score, at, id and within; `of_minutes`: for
    window_buckets."""
    told = []
    for suffix, condition in places:
        score = _score(rules, condition, of_all_time=not suffix and not of_minutes)
        at, by = (_first(rules, of, condition) for of in ("at", "id"))
        told.append(f"{score} as score{suffix}, {at} as reached_at{suffix}, {by} as reached_by{suffix}")
    return ", ".join(told)


def _score(rules: Rules, condition: str, *, of_all_time: bool) -> str:
    if rules.aggregation != "sum":
        return _first(rules, "score", condition)
    total = f"sum(score) filter (where {condition})"
    return total if of_all_time else bounded(total)  # of all time the table's constraint bounds it


def _first(rules: Rules, of: str, condition: str) -> str:
    return f"(array_agg({of} order by {preference(rules)}) filter (where {condition}))[1]"


def names(places: tuple[Place, ...], prefix: str = "") -> str:
    """The columns of standings for these places."""
    return ", ".join(
        f"{prefix}{name}{suffix}" for suffix, _ in places for name in ("score", "reached_at", "reached_by")
    )
