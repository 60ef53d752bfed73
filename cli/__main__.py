"""`leaderboard`: operators' commands. Exit codes: 0 done, 1 failed, 2 wrong settings or arguments, 130 interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import psycopg
import typer

from cli import backup_commands, deliveries_commands, keys_commands, outbox_commands, transfer_commands
from cli.console import fail, run_to_end, settings_or_fail, tell_place
from cli.servers import NoServersError, ledger_dsn, place
from shared.logs import configure_logs
from shared.postgres import wait_for_server

app = typer.Typer(
    help="Leaderboard service: run it, migrate its database, look into it, mend it. Commands talk to the servers of "
    "POSTGRES_DSN and REDIS_URL, or, where neither is set, to those that `make run` started.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(outbox_commands.app, name="outbox")
app.add_typer(deliveries_commands.app, name="deliveries")
app.add_typer(keys_commands.app, name="keys")
for _command in (backup_commands.backup, backup_commands.restore, backup_commands.restored, transfer_commands.export):
    app.command()(_command)
app.command("import")(transfer_commands.import_scores)

_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="print the result as one JSON document")]
_Seasons: TypeAlias = Annotated[
    list[str] | None, typer.Option("--season", help="a season's id; may be repeated", show_default=False)
]


@app.command()
def run() -> None:
    """Run everything in the foreground: servers (embedded unless POSTGRES_DSN, REDIS_URL are set), worker, api."""
    # Loads the embedded stack, which is not installed everywhere.
    from cli.stack import run_stack  # noqa: PLC0415
    from cli.supervisor import StackError  # noqa: PLC0415

    settings = settings_or_fail()
    configure_logs(settings, "run")

    async def until_signal() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await run_stack(settings)

    try:
        asyncio.run(until_signal())
    except asyncio.CancelledError:
        print("stopped", flush=True)
    except StackError as error:
        fail(str(error))


@app.command()
def migrate() -> None:
    """Bring the database to the schema of this build. Safe to repeat, and while the service runs.

    Where others hold what it must lock, it tries again for up to a minute, a second at a time, so that the service's
    requests do not queue behind it for longer. Several at once take turns.
    """
    from cli import migrations  # noqa: PLC0415 - alembic is loaded only where it is used

    settings = settings_or_fail()
    configure_logs(settings, "migrate")
    try:
        dsn = ledger_dsn(settings)
        tell_place(asyncio.run(_reached(dsn, settings.startup_timeout_seconds)))
        migrations.migrate(dsn)
    except NoServersError as error:
        fail(str(error), code=2)
    except (psycopg.Error, migrations.MigrationError) as error:
        fail(f"can't migrate: {str(error).strip()}")
    from shared.revision import REVISION  # noqa: PLC0415

    print(f"schema is at revision {REVISION}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def psql(context: typer.Context) -> None:
    """Open psql on the embedded PostgreSQL that `leaderboard run` started; arguments are passed on."""
    from cli.embedded.memory import remembered  # noqa: PLC0415
    from cli.embedded.postgres import client_program, embedded_dsn  # noqa: PLC0415

    settings = settings_or_fail()
    memory = remembered(settings.data_dir)
    if memory is None:
        fail(f"there is no embedded PostgreSQL in {settings.data_dir}: start it with `make run`")
    program = client_program()
    # The password in the environment: an argument would show it in the list of processes.
    environment = {**os.environ, "PGPASSWORD": memory.postgres_password}
    os.execve(program, [str(program), embedded_dsn(memory.postgres_port), *context.args], environment)


@app.command()
def demo(
    base_url: Annotated[
        str | None, typer.Option(help="the service to send to [default: the one on this machine's API_PORT]")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="events as .csv.gz: season, user_id, delta, occurred_at")] = None,
    connections: Annotated[int, typer.Option(min=1, max=1024, help="requests under way at once")] = 64,
    key: Annotated[
        str | None,
        typer.Option(envvar="LEADERBOARD_KEY", help="an admin key, where there are keys", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the boards as JSON")] = False,
) -> None:
    """Replay real score events through the API, one season per year, and print the final boards.

    It resets the seasons 2005 to 2026 first: what others have scored there is gone.
    """
    from cli.demo import DemoError, replay  # noqa: PLC0415 - the HTTP client is loaded only where it is used

    try:
        asyncio.run(replay(_here(base_url), key, file, connections, as_json=json))
    except DemoError as error:
        fail(str(error))


@app.command(epilog="Exit codes: 0 shown (--once), 1 the service does not answer or refuses, 130 interrupted.")
def watch(
    season: Annotated[
        str | None, typer.Argument(help="a season's id; left out: the one that changed last", show_default=False)
    ] = None,
    *,
    base_url: Annotated[
        str | None, typer.Option(help="the service to ask [default: the one on this machine's API_PORT]")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="LEADERBOARD_KEY", help="a key that may read, where reading needs one", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many of the best")] = 10,
    window: Annotated[
        str | None, typer.Option(help="24h, 3d or 7d, in seasons that have windows", show_default=False)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="as it is now, then end")] = False,
    json: Annotated[bool, typer.Option("--json", help="each board as a line of JSON")] = False,
) -> None:
    """Watch a season's best players, live, with who moved; over HTTP, from anywhere. Ctrl-C ends it.

    Where standard output is no terminal: a line for each player whose place or score changed.
    """
    from cli.board_feed import AwayError, FeedError, Service, View  # noqa: PLC0415
    from cli.watch import watch as show  # noqa: PLC0415

    try:
        service = Service(_here(base_url), key)
        view = View(season or service.latest_season(), limit, window)
        show(service, view, once=once, as_json=json)
    except (FeedError, AwayError) as error:
        fail(str(error))
    except BrokenPipeError:  # who read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command(epilog="Exit codes: 0 all equal, 1 differences left, 2 could not compare (arguments, settings, servers).")
def verify(
    seasons: _Seasons = None,
    repair: Annotated[bool, typer.Option("--repair", help="make right what is not")] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="seconds to wait for boards that are behind before they are reported")
    ] = 10.0,
    json: _Json = False,
) -> None:
    """Compare ledger, standings and boards, player by player; safe beside a service at full load.

    The ledger is every score that was accepted, standings are its sums per player, boards are what Redis shows. The
    ledger is always right: with --repair, standings become its sums and boards become the standings.
    """
    from cli.verify import compare, print_reports  # noqa: PLC0415

    settings = settings_or_fail()
    # As in diff and grep, 2 tells "could not compare" from "differs".
    work = compare(settings, seasons or [], repair=repair, patience_seconds=patience)
    reports = run_to_end("verify", settings, work, trouble_code=2)
    print_reports(reports, as_json=json)
    if not all(report.equal for report in reports):
        raise SystemExit(1)


@app.command()
def rebuild(
    seasons: _Seasons = None,
    every: Annotated[bool, typer.Option("--all", help="all seasons, one after the other")] = False,
    json: _Json = False,
) -> None:
    """Build boards anew from the standings, whatever they say of themselves.

    Seldom needed: workers notice a lost board and rebuild it by themselves, and `verify --repair` mends single players.
    The new board is built beside the old one, which answers until it is replaced at once. New scores of the season
    wait meanwhile, 0.4 s per 100,000 players.
    """
    from cli.rebuild import build_anew, print_rebuilt  # noqa: PLC0415

    if bool(seasons) is every:
        fail("say which boards: --season S, as often as needed, or --all", code=2)
    settings = settings_or_fail()
    print_rebuilt(run_to_end("rebuild", settings, build_anew(settings, seasons or [])), as_json=json)


@app.command()
def purge(
    older_than: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="HOURS",
            help="hours since an outbox event was done or discarded [default: OUTBOX_RETENTION_HOURS]",
        ),
    ] = None,
    keys_older_than: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="HOURS",
            help="delete idempotency keys too, this long after their first use; a request that is sent again with such "
            "a key counts twice",
            show_default=False,
        ),
    ] = None,
    json: _Json = False,
) -> None:
    """Delete what is no longer needed, now; workers do the same every few seconds.

    That is outbox events that were done or discarded long enough ago, standings and ledger rows from before a season's
    reset, and archived epochs past ARCHIVE_RETENTION_DAYS. Pending and failed events, the ledger of what counts, and
    that of epochs that are archived, are never deleted. Idempotency keys are
    left to the workers, who know how long the service promises to remember them, unless --keys-older-than is given.
    """
    from cli.purge import print_purged  # noqa: PLC0415
    from cli.purge import purge as purge_now  # noqa: PLC0415

    settings = settings_or_fail()
    hours = settings.outbox_retention_hours if older_than is None else older_than
    work = purge_now(settings, retention_hours=hours, key_retention_hours=keys_older_than)
    print_purged(run_to_end("purge", settings, work), as_json=json)


def _here(base_url: str | None) -> str:
    """The URL given, else that of the service which `leaderboard run` starts with the same settings."""
    return (base_url or f"http://127.0.0.1:{settings_or_fail().api_port}").rstrip("/")


async def _reached(dsn: str, timeout_seconds: float) -> str:
    """Which server and database it is, once it answers."""
    async with await wait_for_server(dsn, timeout_seconds) as conn:
        return place(conn)


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
