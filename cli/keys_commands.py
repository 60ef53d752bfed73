"""`leaderboard keys …`: the commands, their options and what they teach."""

from __future__ import annotations

import re
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import typer

from cli.console import complain, counted, fail, run_to_end, settings_or_fail
from shared.api_keys import SCOPES, Scope
from shared.scores import MAX_SEASON_ID_LENGTH, SEASON_ID_CHARACTERS
from shared.settings import Settings

app = typer.Typer(
    help="Keys that requests are allowed by: `Authorization: Bearer lbk_…`. Only their digests are stored; what "
    "changes here, every API process knows within 3 seconds.\n\n"
    "read = boards and seasons; write = scores; admin = everything. Once a key was made, nobody writes without one.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

T = TypeVar("T")

_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print the result as one JSON document")]
_Id: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="as `keys list` tells it", show_default=False)]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what you call it, such as the game server that gets it")],
    scope: Annotated[
        list[str], typer.Option("--scope", help=f"{', '.join(SCOPES)}; may be repeated", show_default=False)
    ],
    season_prefix: Annotated[
        list[str] | None,
        typer.Option(
            help="only for seasons whose ids begin so, such as `eu-`, or for one game, `game:7`; may be repeated",
            show_default=False,
        ),
    ] = None,
    json: _Json = False,
) -> None:
    """Make a key and print it, this once: it is stored nowhere."""
    from cli import keys  # noqa: PLC0415

    wrong = [given for given in scope if given not in SCOPES]
    if wrong:
        fail(f"--scope must be one of {', '.join(SCOPES)}, not {wrong[0]!r}", code=2)
    if not name.strip():
        fail("the name must not be empty: it tells whose key it is", code=2)
    for prefix in season_prefix or []:
        if not re.fullmatch(rf"[{SEASON_ID_CHARACTERS}]{{1,{MAX_SEASON_ID_LENGTH}}}", prefix):
            fail(f"--season-prefix must be the beginning of a season's id, not {prefix!r}", code=2)
    scopes = cast("list[Scope]", list(dict.fromkeys(scope)))
    settings = settings_or_fail()
    prefixes = list(dict.fromkeys(season_prefix or []))
    key, first = _done(settings, keys.create(settings, name.strip(), scopes, prefixes))
    keys.print_new(key, as_json=json)
    if sys.stdout.isatty():
        complain("keep it: it can't be shown again, only rotated")
    if first:
        complain("this is the first key: from now on writing, /ops and /metrics need one")


@app.command("list")
def list_keys(json: _Json = False) -> None:
    """All keys that were ever made, by their ids; the keys themselves nobody can tell."""
    from cli import keys  # noqa: PLC0415

    settings = settings_or_fail()
    keys.print_stored(_done(settings, keys.stored(settings)), as_json=json)


@app.command()
def rotate(
    key_id: _Id,
    grace_hours: Annotated[
        float, typer.Option(min=0, max=24 * 365, help="so long the key of before holds as well; 0 = not at all")
    ] = 24.0,
    json: _Json = False,
) -> None:
    """Give a key a new secret and print it. Id, scopes and seasons stay; the key of before holds a while longer."""
    from cli import keys  # noqa: PLC0415

    settings = settings_or_fail()
    key = _done(settings, keys.rotate(settings, key_id, grace_hours))
    keys.print_new(key, as_json=json)


@app.command()
def revoke(
    key_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="as `keys list` tells them")],
    json: _Json = False,
) -> None:
    """Revoke keys, for ever: within 3 seconds no request passes by them. With the last key the service stays closed."""
    from cli import keys  # noqa: PLC0415
    from cli.console import print_json  # noqa: PLC0415

    settings = settings_or_fail()
    asked = list(dict.fromkeys(key_ids))
    revoked = _done(settings, keys.revoke(settings, asked))
    if json:
        print_json({"revoked": sorted(revoked)})
    else:
        before = len(asked) - len(revoked)
        print(f"revoked {counted(len(revoked), 'key')}" + (f", {before} had been before" if before else ""))


def _done(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    from cli.keys import UnknownKeysError  # noqa: PLC0415

    try:
        return run_to_end("keys", settings, work)
    except UnknownKeysError as error:
        fail(str(error), code=2)
