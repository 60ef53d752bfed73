"""seasons may have windows and break ties, and there are buckets of minutes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Beside the new one, one table in each of 0008 to 0011, as before: see 0004.


def upgrade() -> None:
    op.add_column("seasons", sa.Column("windows", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("seasons", sa.Column("tie_break", sa.Text(), server_default=sa.text("'member'"), nullable=False))
    op.create_check_constraint(op.f("seasons_tie_break_check"), "seasons", "tie_break in ('member', 'earliest')")
    op.create_table(
        "window_buckets",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reached_by", sa.BigInteger(), nullable=True),
        sa.Column("leaves_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("season_id", "epoch", "user_id", "minute", name=op.f("window_buckets_pkey")),
        comment="What each player reached in each minute of the last 7 days, in seasons with windows.",
        postgresql_with={
            "fillfactor": "80",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_insert_scale_factor": "0.05",
            "autovacuum_analyze_scale_factor": "0.05",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("window_buckets_leaves_at_idx", "window_buckets", ["leaves_at"])


def downgrade() -> None:
    # The build of before would not show windows, and would mark their scores as shown.
    if op.get_bind().scalar(sa.text("select exists (select from seasons where windows or tie_break <> 'member')")):
        raise RuntimeError("there are seasons with windows or ties; the build before has none, so nothing is changed")
    op.drop_table("window_buckets")
    op.drop_column("seasons", "tie_break")
    op.drop_column("seasons", "windows")
