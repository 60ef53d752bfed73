"""When a season is reset by itself: the rules of schedules, without a clock. All moments that come out are in UTC.

Wall-clock times of a time zone. One that the clock skips counts at the moment after the gap, one that comes twice
counts the first time: Debian cron's rules (cron(8), "Daylight Saving Time"), held for both kinds.
"""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo
from dataclasses import dataclass
from typing import Final, TypeAlias

from cronsim import CronSim, CronSimError

from shared.errors import InvalidRequestError

MAX_CRON_LENGTH: Final = 100
MAX_DAYS: Final = 3660

_FIELDS: Final = (
    ("the minute", "0 to 59"),
    ("the hour", "0 to 23"),
    ("the day of the month", "1 to 31, L or LW"),
    ("the month", "1 to 12 or JAN to DEC"),
    ("the day of the week", "0 to 7 or SUN to SAT, as FRI#2 for the second Friday or 5L for the last"),
)
"""What each field of a cron expression is, and what it takes beside *."""
_LEAP_YEAR: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Whether a cron expression ever fires does not depend on when that is asked; from here it is found soonest."""

_NO_PLACES: Final = frozenset({"Factory", "localtime"})
"""Names that mean another zone on each machine."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields: minute, hour, day of the month, month, day of the week."""

    expression: str


@dataclass(frozen=True, slots=True)
class Days:
    """Each `every` days from `starting_at` on, at its time of the day."""

    every: int
    starting_at: dt.datetime


Timing: TypeAlias = Cron | Days


@dataclass(frozen=True, slots=True)
class Schedule:
    """`archive`: the epochs that it ends stay readable."""

    timing: Timing
    time_zone: str
    archive: bool


def cron(expression: str) -> Cron:
    """InvalidRequestError where it is none, or never fires."""
    fields = expression.split()
    if len(expression) > MAX_CRON_LENGTH or len(fields) != len(_FIELDS):
        raise _invalid(
            f"resets.cron must be five fields, minute hour day month weekday, of at most {MAX_CRON_LENGTH} characters, "
            'such as "0 0 * * 1"'
        )
    for number, (field, (name, allowed)) in enumerate(zip(fields, _FIELDS, strict=True)):
        alone = ["*"] * len(fields)
        alone[number] = field
        if not _fires(" ".join(alone)):
            raise _invalid(f"resets.cron: {name} must be {allowed}, or *, a list, a range or a step, not {field!r}")
    if not _fires(expression):
        raise _invalid(
            f"resets.cron never fires: no month that {expression!r} names ever has such a day; take one that comes, "
            "such as 28, or L, the last of a month"
        )
    return Cron(expression)


def days(every: int, starting_at: dt.datetime) -> Days:
    """`starting_at` in UTC. InvalidRequestError where it is no number of days."""
    if not 1 <= every <= MAX_DAYS:
        raise _invalid(f"resets.everyDays must be from 1 to {MAX_DAYS}, not {every}")
    return Days(every, starting_at)


def time_zone(name: str) -> str:
    """InvalidRequestError where IANA has no such."""
    if name not in _names():
        raise _invalid(f"resets.timeZone must be a name of IANA's, such as Europe/Berlin or UTC, not {name[:60]!r}")
    return name


def next_after(timing: Timing, zone: str, moment: dt.datetime) -> dt.datetime:
    """The first moment of the schedule after that one. InvalidRequestError where time ends before it comes."""
    place = _zone(zone)
    try:
        match timing:
            case Cron(expression):
                return _next_of_cron(expression, place, moment)
            case Days(every, starting_at):
                return _next_of_days(every, starting_at, place, moment)
    except (OverflowError, ValueError, StopIteration) as error:
        raise _invalid(
            "resets never fires: its next moment would come after the year 9999; take one that comes sooner, or an "
            "earlier startsAt or startingAt"
        ) from error


def _fires(expression: str) -> bool:
    """Whether it is well-formed and ever does."""
    try:
        return next(CronSim(expression, _LEAP_YEAR), None) is not None
    except CronSimError:  # also of a day that none of the months has
        return False


def _next_of_cron(expression: str, zone: dt.tzinfo, moment: dt.datetime) -> dt.datetime:
    firings = CronSim(expression, moment.astimezone(zone))
    while True:
        found = next(firings).astimezone(dt.UTC)
        # Asked within the second round of an hour that comes twice, it tells of the first.
        if found > moment:
            return found


def _next_of_days(every: int, starting_at: dt.datetime, zone: dt.tzinfo, moment: dt.datetime) -> dt.datetime:
    if moment < starting_at:
        return starting_at
    first = starting_at.astimezone(zone).replace(tzinfo=None, fold=0)
    passed = (moment.astimezone(zone).replace(tzinfo=None) - first).days // every
    # Where the zone has left a day out, or had one twice, the days of its calendar are one off.
    step = max(1, passed - 1)
    while (found := _first_real(first + dt.timedelta(days=step * every), zone)) <= moment:
        step += 1
    return found


def _first_real(local: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """The first moment at which that zone's clocks say so, else the one at which they skip it."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1))
    # PEP 495: of a time that is skipped, fold 0 is as far behind the gap as it would have been, fold 1 before it.
    return _jump(second, first, zone) if second < first else first


def _jump(before: dt.datetime, after: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """The moment between those two at which the zone's clocks jump ahead, by bisection."""
    offset = after.astimezone(zone).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if dt.datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return dt.datetime.fromtimestamp(high, dt.UTC)


def _zone(name: str) -> dt.tzinfo:
    return dt.UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones() - _NO_PLACES)


def _invalid(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_schedule")
