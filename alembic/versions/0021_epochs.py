"""epochs that are over, and their final ranks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "season_epochs",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("aggregation", sa.Text(), nullable=False),
        sa.Column("sort_order", sa.Text(), nullable=False),
        sa.Column("windows", sa.Boolean(), nullable=False),
        sa.Column("tie_break", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("archived", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("wanted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("players", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("expired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "reason in ('reset', 'schedule', 'restart', 'close', 'end')", name=op.f("season_epochs_reason_check")
        ),
        sa.PrimaryKeyConstraint("season_id", "epoch", name=op.f("season_epochs_pkey")),
        comment="Epochs that take no more scores.",
    )
    for name, columns, where in (
        ("unsealed", ["season_id", "epoch"], "sealed_at is null and (archived or wanted)"),
        (
            "unpurged",
            ["season_id", "epoch"],
            "next_began_at is not null and purged_at is null and not (archived or wanted)",
        ),
        ("readable", ["sealed_at"], "archived and sealed_at is not null"),
    ):
        op.create_index(f"season_epochs_{name}_idx", "season_epochs", columns, postgresql_where=sa.text(where))
    op.create_table(
        "final_ranks",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("season_id", "epoch", "rank", name=op.f("final_ranks_pkey")),
        comment="The boards of epochs that are sealed, 1 = best.",
    )
    op.create_index(
        "final_ranks_season_id_user_id_epoch_idx", "final_ranks", ["season_id", "user_id", "epoch"], unique=True
    )


def downgrade() -> None:
    # The build of before would purge the ledger of what is archived, and nothing could read it.
    if op.get_bind().scalar(sa.text("select exists (select from season_epochs where archived)")):
        raise RuntimeError("epochs are archived; the build before would delete them, so nothing is changed")
    op.drop_table("final_ranks")
    op.drop_table("season_epochs")
