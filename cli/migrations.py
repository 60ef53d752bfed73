"""Bringing a database to the schema of this build. Never lets a lock that it waits for hold up the service for long."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Final

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shared.backoff import backoff_seconds

ROOT: Final = Path(__file__).parent.parent

_PATIENCE_SECONDS: Final = 60.0
_WHO: Final = (
    "select pid, application_name, state, xact_start, query from pg_stat_activity where xact_start is not null "
    "order by xact_start"
)
_HELD: Final = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

log = structlog.get_logger()


class MigrationError(Exception):
    """No revision is half done: the database is at the last one that went through. The message says what would help."""


def alembic_config(dsn: str) -> Config:
    """Alembic's configuration from pyproject.toml, for one database."""
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["dsn"] = dsn
    return config


def migrate(dsn: str, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Upgrade to the newest revision; does nothing where it is there already. Raises MigrationError.

    Tables that others hold are asked for again and again for `patience_seconds`, each time briefly (alembic/env.py):
    what waits for an exclusive lock holds up all that comes after it.
    """
    give_up_at = time.monotonic() + patience_seconds
    attempts = 0
    while (reason := _attempt(dsn)) is not None:
        attempts += 1
        # Jitter, so that it does not always meet the same moment of who takes the table at regular times.
        pause_seconds = backoff_seconds(attempts, random.random(), first=0.5, ceiling=4.0)  # noqa: S311
        if time.monotonic() + pause_seconds > give_up_at:
            raise MigrationError(
                f"for {patience_seconds:g} s others held what the migration must lock ({reason}), such as an open psql "
                f"session, a backup or a long query; no revision is half done. See which with: {_WHO}; wait for them "
                "or end them with: select pg_terminate_backend(pid); then run it again"
            )
        if attempts == 1:
            log.warning("waiting for a lock, trying again", seconds=patience_seconds, reason=reason)
        time.sleep(pause_seconds)


def _attempt(dsn: str) -> str | None:
    """Migrate; returns why not where somebody held a lock, which may pass."""
    try:
        command.upgrade(alembic_config(dsn), "head")
    except DBAPIError as error:
        reason = str(error.orig).strip()
        if isinstance(error.orig, _HELD):
            return reason.splitlines()[0]
        raise MigrationError(reason) from error
    except (SQLAlchemyError, psycopg.Error) as error:
        raise MigrationError(str(error).strip()) from error
    except CommandError as error:
        raise MigrationError(f"{error}; was the database migrated by another build than this one?") from error
    return None
