"""When a season is reset by itself: days and cron across changes of the clock, and what is no schedule."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared import schedules
from shared.errors import InvalidRequestError
from shared.schedules import Cron, Days, next_after

BERLIN, APIA, HAVANA = "Europe/Berlin", "Pacific/Apia", "America/Havana"


def moment(text):
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def firings(timing, zone, after, number):
    found = [moment(after)]
    for _ in range(number):
        found.append(next_after(timing, zone, found[-1]))
    return [one.astimezone(zoneinfo.ZoneInfo(zone)).isoformat() for one in found[1:]]


def test_a_week_is_a_week_of_the_wall_clock():
    assert firings(Cron("0 0 * * 1"), BERLIN, "2026-03-20T00:00Z", 2) == [
        "2026-03-23T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
    ]
    weekly = Days(7, moment("2026-03-23T00:00+01:00"))
    assert firings(weekly, BERLIN, "2026-01-01T00:00Z", 3) == [
        "2026-03-23T00:00:00+01:00",
        "2026-03-30T00:00:00+02:00",
        "2026-04-06T00:00:00+02:00",
    ]


@pytest.mark.parametrize(
    "timing", [Cron("30 2 * * *"), Days(1, moment("2026-03-01T02:30+01:00"))], ids=["cron", "days"]
)
def test_a_time_that_is_skipped_counts_after_the_gap_and_one_that_comes_twice_once(timing):
    assert firings(timing, BERLIN, "2026-03-28T00:00Z", 3) == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert firings(timing, BERLIN, "2026-10-24T12:00Z", 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    # Asked within the hour's second round: the first is over.
    assert firings(timing, BERLIN, "2026-10-25T02:10+01:00", 1) == ["2026-10-26T02:30:00+01:00"]


def test_days_that_start_in_the_second_round_of_an_hour_do():
    timing = Days(1, moment("2026-10-25T02:30+01:00"))
    assert firings(timing, BERLIN, "2026-10-25T02:30+02:00", 2) == [
        "2026-10-25T02:30:00+01:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_a_midnight_that_is_skipped_and_a_day_that_a_zone_never_had():
    daily = Days(1, moment("2025-03-01T00:00-05:00"))
    assert firings(daily, HAVANA, "2025-03-08T12:00Z", 2) == ["2025-03-09T01:00:00-04:00", "2025-03-10T00:00:00-04:00"]
    daily = Days(1, moment("2011-12-01T09:00-10:00"))
    assert firings(daily, APIA, "2011-12-29T18:00Z", 3) == [
        "2011-12-29T09:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T09:00:00+14:00",
    ]


def test_seconds_of_the_start_stay():
    timing = Days(1, moment("2026-03-01T02:30:15.5+01:00"))
    assert firings(timing, BERLIN, "2026-03-28T12:00Z", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:15.500000+02:00",
    ]


ZONES = st.sampled_from([BERLIN, APIA, HAVANA, "UTC", "Australia/Lord_Howe", "America/St_Johns", "Asia/Tehran"])
_SECONDS = (moment("2005-01-01T00:00Z").timestamp(), moment("2035-01-01T00:00Z").timestamp())
MOMENTS = st.floats(*_SECONDS).map(lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC))


@given(st.integers(1, 40), MOMENTS, ZONES, MOMENTS)
@example(1, moment("2011-12-01T09:00-10:00"), APIA, moment("2011-12-30T09:59:59.9Z"))
def test_days_grow_and_none_is_left_out(every, starting_at, zone, after):
    """Each moment of the schedule is the next one after whatever lies between it and the one before."""
    timing = Days(every, starting_at)
    found = next_after(timing, zone, after)
    assert found > after
    following = next_after(timing, zone, found)
    assert following > found
    assert next_after(timing, zone, following - dt.timedelta(microseconds=1)) == following
    assert next_after(timing, zone, found + (following - found) / 2) == following
    # No more than the days and what a change of the clock adds: a day in Samoa, else less than two hours.
    assert following - found <= dt.timedelta(days=every) + dt.timedelta(days=1 if zone == APIA else 0, hours=2)
    assert found == starting_at or found - after <= dt.timedelta(days=every + 1, hours=2)


@given(
    st.sampled_from(["0 0 * * 1", "30 2 * * *", "*/30 * * * *", "15 1-3 * * *", "0 */2 * * *", "0 0 L * *"]),
    ZONES,
    MOMENTS,
)
@example("30 2 * * *", BERLIN, moment("2026-10-25T01:10Z"))
def test_cron_grows_and_none_is_left_out(expression, zone, after):
    found = next_after(Cron(expression), zone, after)
    assert after < found == next_after(Cron(expression), zone, found - dt.timedelta(microseconds=1))
    assert found < next_after(Cron(expression), zone, found)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@weekly", "five fields"),
        ("x" * 101, "five fields"),
        ("60 0 * * *", "the minute must be 0 to 59, or .*, not '60'"),
        ("0 24 * * *", "the hour must be 0 to 23, or .*, not '24'"),
        ("0 0 32 2 *", "the day of the month must be 1 to 31, L or LW, or .*, not '32'"),
        ("0 0 1 FEBR *", "the month must be 1 to 12 or JAN to DEC, or .*, not 'FEBR'"),
        ("0 0 30 2 MON-", "the day of the week must be 0 to 7 .*, not 'MON-'"),
        ("0 0 30 2 *", "never fires: no month that '0 0 30 2 [*]' names ever has such a day; take one that comes"),
        ("0 0 31 4,6,9,11 *", "never fires: no month"),
        ("0 0 */31 2 TUE#5", "never fires: no month"),
    ],
)
def test_what_is_no_cron_or_never_fires_is_refused(expression, told):
    with pytest.raises(InvalidRequestError, match=rf"resets\.cron.*{told}") as caught:
        schedules.cron(expression)
    assert caught.value.code == "invalid_schedule"


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "0 0 31 2 1", "0 0 31 1,4 *", "0 0 * 2 MON#5"])
def test_what_fires_seldom_does(expression):
    schedules.cron(expression)


FIELDS = st.one_of(
    st.sampled_from(["*", "*/2", "*/31", "0", "1-5", "5,7/2", "29-31", "L", "LW", "FEB", "2", "5L", "TUE-FRI/2"]),
    st.text("0123456789*/-,#LWMONFRI²", max_size=5),
)


@given(st.lists(FIELDS, min_size=5, max_size=5).map(" ".join))
def test_whatever_is_taken_for_a_cron_fires(expression):
    try:
        timing = schedules.cron(expression)
    except InvalidRequestError:
        return
    assert next_after(timing, BERLIN, moment("2026-01-01T00:00Z")).year >= 2026


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "Pacific/Kiritimati", HAVANA])
@pytest.mark.parametrize("timing", [Cron("0 0 29 2 *"), Days(3660, moment("1970-01-01T23:59:59Z"))])
def test_beyond_the_last_year_nothing_fires(timing, zone):
    with pytest.raises(InvalidRequestError, match="never fires") as caught:
        next_after(timing, zone, moment("9998-12-31T23:59:59Z"))
    assert caught.value.code == "invalid_schedule"


@pytest.mark.parametrize("name", ["", "Berlin", "localtime", "../etc/passwd", "Europe", "europe/berlin", "UTC+2"])
def test_what_is_no_time_zone_is_refused(name):
    with pytest.raises(InvalidRequestError, match=r"resets\.timeZone"):
        schedules.time_zone(name)


@pytest.mark.parametrize("every", [0, -1, 3661])
def test_what_is_no_number_of_days_is_refused(every):
    with pytest.raises(InvalidRequestError, match=r"resets\.everyDays"):
        schedules.days(every, moment("2026-01-01T00:00Z"))
