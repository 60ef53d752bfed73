"""Epochs of seasons that are over, and what their boards said in the end."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, DateTime, Index, Integer, Table, Text, false, text

from shared.epochs import UNPURGED, UNSEALED
from shared.schema.parts import ID, metadata

season_epochs = Table(
    "season_epochs",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    # The season's rules as they were.
    Column("aggregation", Text, nullable=False),
    Column("sort_order", Text, nullable=False),
    Column("windows", Boolean, nullable=False),
    Column("tie_break", Text, nullable=False),
    # null = from before this was noted.
    Column("began_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True), nullable=False),
    # null = none has yet: it was closed, or is past its endsAt.
    Column("next_began_at", DateTime(timezone=True)),
    # reset = DELETE, schedule = a reset by the season's schedule, restart = other rules, close = POST …/close,
    # end = its endsAt came.
    Column("reason", Text, nullable=False),
    # Whether it stays readable.
    Column("archived", Boolean, nullable=False, server_default=false()),
    # Whether somebody else waits for its final ranks, who says so when they are no longer needed.
    Column("wanted", Boolean, nullable=False, server_default=false()),
    # When its final ranks were settled: no score that was accepted for it is missing. null = not yet.
    Column("sealed_at", DateTime(timezone=True)),
    Column("players", Integer, nullable=False, server_default=text("0")),
    # When it ceased to be readable, past its retention.
    Column("expired_at", DateTime(timezone=True)),
    # When nothing of it was left in the ledger and in final_ranks.
    Column("purged_at", DateTime(timezone=True)),
    Index("season_epochs_unsealed_idx", "season_id", "epoch", postgresql_where=text(UNSEALED)),
    Index("season_epochs_unpurged_idx", "season_id", "epoch", postgresql_where=text(UNPURGED)),
    Index("season_epochs_readable_idx", "sealed_at", postgresql_where=text("archived and sealed_at is not null")),
    CheckConstraint("reason in ('reset', 'schedule', 'restart', 'close', 'end')", name="reason"),
    comment="Epochs that take no more scores.",
)

final_ranks = Table(
    "final_ranks",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("user_id", ID, nullable=False),
    Column("score", BigInteger, nullable=False),
    # The epoch last: a player who is erased is looked up in all of them.
    Index("final_ranks_season_id_user_id_epoch_idx", "season_id", "user_id", "epoch", unique=True),
    comment="The boards of epochs that are sealed, 1 = best.",
)
