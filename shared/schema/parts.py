"""The metadata, and what several tables have in common."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, MetaData, Text, func

from shared.scores import MAX_SEASON_ID_LENGTH, MAX_USER_ID_LENGTH

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "pk": "%(table_name)s_pkey",
    }
)

# Byte order: ids are opaque, comparing them by bytes is the fastest and the same on every server.
ID: Final = Text(collation="C")

# Queue-like tables turn over wholly within minutes; the defaults wait for a fifth of the table to be dead.
EAGER_VACUUM: Final = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_delay": "0",
}


def created_at() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def season_id_check() -> CheckConstraint:
    return CheckConstraint(f"length(season_id) between 1 and {MAX_SEASON_ID_LENGTH}", name="season_id")


def user_id_check() -> CheckConstraint:
    return CheckConstraint(f"length(user_id) between 1 and {MAX_USER_ID_LENGTH}", name="user_id")


def delta() -> Column[int]:
    """What the client sent: points to add in a season that sums, else the score that was reached."""
    return Column("delta", BigInteger, nullable=False)


def occurred_at() -> Column[object]:
    """When the score was reached, as the client says; null, or later than its arrival: when it arrived."""
    return Column("occurred_at", DateTime(timezone=True))
