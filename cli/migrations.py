"""Bringing a database to the schema of this build."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config

ROOT: Final = Path(__file__).parent.parent


def alembic_config(dsn: str) -> Config:
    """Alembic's configuration from pyproject.toml, for one database."""
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["dsn"] = dsn
    return config


def migrate(dsn: str) -> None:
    """Upgrade to the newest revision; does nothing where it is there already."""
    command.upgrade(alembic_config(dsn), "head")
