"""What a season does by itself, as requests and answers say it: when it is reset, and who is told of final ranks."""

from __future__ import annotations

import datetime as dt
from typing import assert_never

import msgspec

from api.seasons_api import Moment
from shared import schedules, webhook_targets
from shared.errors import InvalidRequestError
from shared.rewards import Hook
from shared.schedules import Cron, Days, Schedule
from shared.scores import parse_moment
from shared.webhook_targets import Reach


class ResetsBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One of `cron` (minute, hour, day, month, weekday) and `everyDays` with `startingAt`, in times of the wall clock
    of `timeZone`. `archive`: the epochs that end stay readable."""

    cron: str | msgspec.UnsetType = msgspec.UNSET
    every_days: int | msgspec.UnsetType = msgspec.UNSET
    starting_at: Moment | msgspec.UnsetType = msgspec.UNSET
    time_zone: str = "UTC"
    archive: bool = False


class RewardsBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`url` is sent the `top` best of each epoch that is over."""

    url: str
    top: int = webhook_targets.DEFAULT_TOP


def schedule_in(body: ResetsBody | None) -> Schedule | None:
    """InvalidRequestError where it is no schedule, or one that never fires."""
    if body is None:
        return None
    cron, every, starting_at = body.cron, body.every_days, body.starting_at
    timing: Cron | Days
    if cron is not msgspec.UNSET and every is msgspec.UNSET and starting_at is msgspec.UNSET:
        timing = schedules.cron(cron)
    elif cron is msgspec.UNSET and every is not msgspec.UNSET and starting_at is not msgspec.UNSET:
        timing = schedules.days(every, parse_moment(starting_at, "resets.startingAt", "invalid_schedule"))
    else:
        raise InvalidRequestError("resets must have either cron, or everyDays and startingAt", code="invalid_schedule")
    return Schedule(timing, schedules.time_zone(body.time_zone), body.archive)


def hook_in(body: RewardsBody | None, reach: Reach | None) -> Hook | None:
    """InvalidRequestError where it is none. `reach`: where webhooks may go, None: nothing can be sent."""
    if body is None:
        return None
    if reach is None:
        raise InvalidRequestError(
            "rewards can't be sent: the service has no WEBHOOK_SECRET to sign them with; leave rewards out, or set it",
            code="webhooks_off",
        )
    webhook_targets.target_of(body.url, reach)
    return Hook(body.url, webhook_targets.require_top(body.top))


def resets_of(schedule: Schedule | None) -> ResetsBody | None:
    if schedule is None:
        return None
    match schedule.timing:
        case Cron(expression):
            return ResetsBody(cron=expression, time_zone=schedule.time_zone, archive=schedule.archive)
        case Days(every, starting_at):
            return ResetsBody(
                every_days=every,
                starting_at=starting_at.astimezone(dt.UTC),
                time_zone=schedule.time_zone,
                archive=schedule.archive,
            )
        case _:
            assert_never(schedule.timing)


def rewards_of(hook: Hook | None) -> RewardsBody | None:
    return None if hook is None else RewardsBody(hook.url, hook.top)
