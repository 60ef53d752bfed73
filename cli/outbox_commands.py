"""`leaderboard outbox …`: the commands, their options and what they teach."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cli.console import counted, fail, run_to_end, settings_or_fail
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.setback_runs import Outcome

app = typer.Typer(
    help="Scores on their way to the boards: what waits, what was refused, and what becomes of that.\n\n"
    "pending = accepted, not on the board yet; done = on the board; failed = the database refused it, it does not "
    "count; discarded = given up by an operator.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print the result as one JSON document")]
_Season: TypeAlias = Annotated[str | None, typer.Option("--season", help="only this season's", show_default=False)]
_Ids: TypeAlias = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", min=1, max=2**63 - 1, help="ids of events, as `outbox failed` lists them"),
]
_All: TypeAlias = Annotated[bool, typer.Option("--all", help="all failed events")]


@app.command()
def status(json: _Json = False) -> None:
    """Events per status, how long the oldest has been waiting, and why events failed.

    Pending and failed ones are counted. Where the outbox is large, done and discarded ones are estimated, so that it
    answers at once.
    """
    from cli.outbox import print_review, review  # noqa: PLC0415

    settings = settings_or_fail()
    print_review(run_to_end("outbox", settings, review(settings)), as_json=json)


@app.command()
def failed(
    season: _Season = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="how many, newest first")] = 20,
    json: _Json = False,
) -> None:
    """List events that the database refused, with its reason, and tell how many there are.

    The usual one is a total beyond ±(2^53 - 1), the largest score that a board can hold exactly.
    """
    from cli.outbox import failed as find_failed  # noqa: PLC0415
    from cli.outbox import print_failed  # noqa: PLC0415

    settings = settings_or_fail()
    print_failed(run_to_end("outbox", settings, find_failed(settings, season, limit)), as_json=json)


@app.command()
def retry(ids: _Ids = None, every: _All = False, season: _Season = None, json: _Json = False) -> None:
    """Send failed events back to pending, once what made them fail is mended. A worker takes them within seconds.

    Attempts and the last error stay with the event, whatever comes of it.
    """
    from cli.setbacks import retry_all, retry_named  # noqa: PLC0415
    from shared.setback_runs import Outcome  # noqa: PLC0415

    event_ids = _chosen(ids, season, every=every)
    settings = settings_or_fail()
    outcome = Outcome()
    work = retry_all(settings, season, outcome) if every else retry_named(settings, event_ids, outcome)
    _carry_out(settings, work, outcome, "sent back to pending", as_json=json)


@app.command()
def discard(
    ids: _Ids = None,
    every: _All = False,
    season: _Season = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    json: _Json = False,
) -> None:
    """Give failed events up for good: they never count, and no board shows them. By id also pending ones.

    The ledger keeps them, marked with the time. An event that is done can't be discarded: send a score that takes its
    points back.
    """
    from cli.setbacks import discard_all, discard_named, tell_servers  # noqa: PLC0415
    from shared.setback_runs import Outcome  # noqa: PLC0415

    event_ids = _chosen(ids, season, every=every)
    settings = settings_or_fail()
    what = f"all failed events of {season or 'all seasons'}" if every else counted(len(event_ids), "event")
    if not yes and not sys.stdin.isatty():
        fail(f"this gives up {what} for good; say --yes where nobody can be asked", code=2)
    run_to_end("outbox", settings, tell_servers(settings))
    if not yes:
        typer.confirm(f"Give up {what} for good?", abort=True, err=True)
    outcome = Outcome()
    work = discard_all(settings, season, outcome) if every else discard_named(settings, event_ids, outcome)
    _carry_out(settings, work, outcome, "discarded", as_json=json)


def _carry_out(
    settings: Settings, work: Coroutine[Any, Any, None], outcome: Outcome, done: str, *, as_json: bool
) -> None:
    """Do the work and tell what came of it, also when it was stopped after some of it was committed."""
    from cli.setbacks import print_outcome  # noqa: PLC0415

    try:
        run_to_end("outbox", settings, work)
    finally:
        if outcome.complete or outcome.changed:
            print_outcome(outcome, done, as_json=as_json)
    if outcome.refused or outcome.left:
        raise SystemExit(1)


def _chosen(ids: list[int] | None, season: str | None, *, every: bool) -> list[int]:
    if bool(ids) is every:
        fail("say which events: their ids, or --all", code=2)
    if ids and season is not None:
        fail("--season goes with --all; ids name events of any season", code=2)
    return sorted(set(ids or []))
