"""`leaderboard`: operators' commands. Exit codes: 0 done, 1 failed, 2 wrong settings or arguments, 130 interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import psycopg
import typer

from shared.logs import configure_logs
from shared.postgres import wait_for_server
from shared.settings import Settings, SettingsError, load_settings

app = typer.Typer(
    help="Leaderboard service: run it, migrate its database, look into it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run() -> None:
    """Run everything in the foreground: servers (embedded unless POSTGRES_DSN, REDIS_URL are set), worker, api."""
    # Loads the embedded stack, which is not installed everywhere.
    from cli.stack import run_stack  # noqa: PLC0415
    from cli.supervisor import StackError  # noqa: PLC0415

    settings = _settings()
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
        _fail(str(error))


@app.command()
def migrate() -> None:
    """Bring the database of POSTGRES_DSN to the schema of this build. Safe to repeat, and while the service runs."""
    from cli import migrations  # noqa: PLC0415 - alembic is loaded only where it is used

    settings = _settings()
    if settings.postgres_dsn is None:
        _fail("POSTGRES_DSN is required: the database to migrate", code=2)
    configure_logs(settings, "migrate")
    try:
        asyncio.run(_reached(settings.postgres_dsn, settings.startup_timeout_seconds))
        migrations.migrate(settings.postgres_dsn)
    except psycopg.Error as error:
        _fail(f"can't migrate: {str(error).strip()}")
    from shared.revision import REVISION  # noqa: PLC0415

    print(f"schema is at revision {REVISION}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def psql(context: typer.Context) -> None:
    """Open psql on the embedded PostgreSQL that `leaderboard run` started; arguments are passed on."""
    from cli.embedded.memory import remembered  # noqa: PLC0415
    from cli.embedded.postgres import client_program, embedded_dsn  # noqa: PLC0415

    settings = _settings()
    memory = remembered(settings.data_dir)
    if memory is None:
        _fail(f"there is no embedded PostgreSQL in {settings.data_dir}: start it with `make run`")
    program = client_program()
    # The password in the environment: an argument would show it in the list of processes.
    environment = {**os.environ, "PGPASSWORD": memory.postgres_password}
    os.execve(program, [str(program), embedded_dsn(memory.postgres_port), *context.args], environment)


@app.command()
def demo(
    base_url: Annotated[str, typer.Option(help="the service to send to")] = "http://127.0.0.1:8080",
    file: Annotated[Path | None, typer.Option(help="events as .csv.gz: season, user_id, delta, occurred_at")] = None,
    connections: Annotated[int, typer.Option(min=1, max=1024, help="requests under way at once")] = 64,
    json: Annotated[bool, typer.Option("--json", help="print the boards as JSON")] = False,
) -> None:
    """Replay real score events through the API, one season per year, and print the final boards."""
    from cli.demo import DemoError, replay  # noqa: PLC0415 - the HTTP client is loaded only where it is used

    try:
        asyncio.run(replay(base_url.rstrip("/"), file, connections, as_json=json))
    except DemoError as error:
        _fail(str(error))


async def _reached(dsn: str, timeout_seconds: float) -> None:
    await (await wait_for_server(dsn, timeout_seconds)).close()


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        _fail(str(error), code=2)


def _fail(message: str, code: int = 1) -> NoReturn:
    print(f"leaderboard: {message}", file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
