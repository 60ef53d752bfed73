"""`leaderboard deliveries …`: the commands, their options and what they teach."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import typer

from cli.console import fail, run_to_end, settings_or_fail

app = typer.Typer(
    help="Final ranks on their way to receivers (webhooks), one for each epoch of a season with rewards.\n\n"
    "pending = to be sent, or sent again; done = the receiver took them; failed = given up, after some three days or "
    "because the receiver said 410.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print the result as one JSON document")]


@app.command("list")
def list_(
    status: Annotated[
        Literal["pending", "done", "failed"] | None, typer.Option(help="only these", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="how many, newest first")] = 20,
    json: _Json = False,
) -> None:
    """List them, with the last error of those that were not taken yet."""
    from cli.deliveries import listed, print_listed  # noqa: PLC0415

    settings = settings_or_fail()
    print_listed(run_to_end("deliveries", settings, listed(settings, status, limit)), as_json=json)


@app.command()
def retry(
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]...", min=1, max=2**63 - 1, help="ids, as `deliveries list` tells them"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="all that failed")] = False,
    json: _Json = False,
) -> None:
    """Send failed or pending ones now, and start counting their attempts anew. A worker takes them within seconds.

    What is sent, and its webhook-id, is the same as before: a receiver that has taken it knows it again.
    """
    from cli.deliveries import print_retried, sent_again  # noqa: PLC0415

    if bool(ids) is every:
        fail("say which deliveries: their ids, or --all", code=2)
    settings = settings_or_fail()
    found = run_to_end("deliveries", settings, sent_again(settings, ids or [], every=every))
    print_retried(found, as_json=json)
    if left := sorted(set(ids or []) - set(found)):
        fail(f"not there, or done already: {', '.join(map(str, left))}")
