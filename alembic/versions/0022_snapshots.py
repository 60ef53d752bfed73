"""snapshots of standings, for boards as of a moment"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_INDEX = "score_events_amended_idx"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # Nobody queues behind this, however long it waits for snapshots that are older than it.
        op.execute("set lock_timeout = 0")
        op.execute(f"drop index concurrently if exists {_INDEX}")  # an attempt that failed leaves an invalid one
        op.execute(
            f"create index concurrently {_INDEX} on score_events (season_id, epoch, user_id)"
            " where voided_at is not null or discarded_at is not null"
        )
        op.execute("set lock_timeout = '1s'")
    op.create_table(
        "snapshots",
        sa.Column("snapshot_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("low_id", sa.BigInteger(), nullable=False),
        sa.Column("high_id", sa.BigInteger(), nullable=False),
        sa.Column("players", sa.Integer(), nullable=False),
        sa.Column("unsettled", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("failed", sa.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("erased", sa.ARRAY(sa.Integer()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id", name=op.f("snapshots_pkey")),
        comment="Moments whose standings were kept, so that a board as of a moment needs no more than what came since.",
    )
    op.create_index("snapshots_season_id_epoch_as_of_idx", "snapshots", ["season_id", "epoch", "as_of"], unique=True)
    op.create_table(
        "snapshot_standings",
        sa.Column("snapshot_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("tie_at", sa.BigInteger(), nullable=False),
        sa.Column("tie_by", sa.BigInteger(), nullable=False),
        sa.Column("reached_by", sa.BigInteger(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id", "user_id", name=op.f("snapshot_standings_pkey")),
        comment="The standings of snapshots, hidden players too. Written once, then only deleted.",
        postgresql_with={"autovacuum_vacuum_insert_scale_factor": "0.05"},
    )
    op.create_index(
        "snapshot_standings_board_idx",
        "snapshot_standings",
        ["snapshot_id", "score", "tie_at", "tie_by", "user_id"],
        postgresql_include=["place"],
    )


def downgrade() -> None:
    op.drop_table("snapshot_standings")
    op.drop_table("snapshots")
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        op.execute(f"drop index concurrently if exists {_INDEX}")
        op.execute("set lock_timeout = '1s'")
