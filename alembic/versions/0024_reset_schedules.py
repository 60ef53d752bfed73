"""schedules of resets"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reset_schedules",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("every_days", sa.Integer(), nullable=True),
        sa.Column("starting_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("archive", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("previous_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "num_nonnulls(cron, every_days) = 1 and (every_days is null) = (starting_at is null)",
            name=op.f("reset_schedules_kind_check"),
        ),
        sa.PrimaryKeyConstraint("season_id", name=op.f("reset_schedules_pkey")),
        comment="When seasons are reset by themselves. Written under the season's lock.",
    )
    op.create_index("reset_schedules_next_at_idx", "reset_schedules", ["next_at"])
    op.create_table(
        "season_ends",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("season_id", name=op.f("season_ends_pkey")),
        comment="Ends that are to be noted in season_epochs as they come: of seasons with a hook, or whose schedule "
        "archives. The row goes with that. Written under the season's lock.",
    )
    op.create_index("season_ends_due_at_idx", "season_ends", ["due_at"])


def downgrade() -> None:
    op.drop_table("season_ends")
    op.drop_table("reset_schedules")
