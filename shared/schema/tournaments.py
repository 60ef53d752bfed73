"""Seasons that reset themselves, and who is told of final ranks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)

from shared.schema.parts import ID, created_at, metadata

reset_schedules = Table(
    "reset_schedules",
    metadata,
    Column("season_id", ID, primary_key=True),
    # One of the two kinds: a cron expression, or each so many days.
    Column("cron", Text),
    Column("every_days", Integer),
    Column("starting_at", DateTime(timezone=True)),
    # IANA's name of it.
    Column("time_zone", Text, nullable=False),
    # Whether the epochs that it ends stay readable.
    Column("archive", Boolean, nullable=False),
    # null = never again: the season ends before that.
    Column("next_at", DateTime(timezone=True)),
    # The moment that the last reset by a schedule was for; null = there was none yet.
    Column("previous_at", DateTime(timezone=True)),
    CheckConstraint("num_nonnulls(cron, every_days) = 1 and (every_days is null) = (starting_at is null)", name="kind"),
    Index("reset_schedules_next_at_idx", "next_at"),
    comment="When seasons are reset by themselves. Written under the season's lock.",
)

season_ends = Table(
    "season_ends",
    metadata,
    Column("season_id", ID, primary_key=True),
    # The season's ends_at.
    Column("due_at", DateTime(timezone=True), nullable=False),
    Index("season_ends_due_at_idx", "due_at"),
    comment="Ends that are to be noted in season_epochs as they come: of seasons with a hook, or whose schedule "
    "archives. The row goes with that. Written under the season's lock.",
)

reward_hooks = Table(
    "reward_hooks",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("url", Text, nullable=False),
    # How many of the best are told of.
    Column("top", Integer, nullable=False),
    CheckConstraint("top between 1 and 1000", name="top"),
    comment="Who is told of the final ranks of a season's epochs. Written under the season's lock.",
)

epoch_hooks = Table(
    "epoch_hooks",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    # As the season had them when the epoch ended.
    Column("url", Text, nullable=False),
    Column("top", Integer, nullable=False),
    comment="Epochs that are over and whose final ranks somebody is to be told of, until that is written down.",
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("season_id", ID, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("url", Text, nullable=False),
    # The same at each attempt, so that the receiver counts it once.
    Column("webhook_id", Text, nullable=False),
    # What is sent, the same at each attempt; null once it was delivered: it names players.
    Column("body", LargeBinary),
    # SHA-256 of it, and its bytes, which stay.
    Column("body_digest", LargeBinary, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("last_error", Text),
    created_at(),
    # When it was delivered, or given up.
    Column("processed_at", DateTime(timezone=True)),
    CheckConstraint("status in ('pending', 'done', 'failed')", name="status"),
    CheckConstraint("(status = 'done') = (body is null)", name="body"),
    Index("deliveries_season_id_epoch_key", "season_id", "epoch", unique=True),
    Index("deliveries_pending_idx", "next_at", postgresql_where=text("status = 'pending'")),
    Index("deliveries_failed_idx", "id", postgresql_where=text("status = 'failed'")),
    comment="Final ranks on their way to who is to be told: pending, done = taken, failed = given up.",
)
