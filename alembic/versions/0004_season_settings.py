"""seasons have settings: aggregation, order, times, metadata"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# One table in each of 0004, 0005 and 0006: whoever writes scores locks seasons and the ledger in one order or the
# other. Defaults are constant and nobody has set anything yet: nothing is rewritten, and little is read.


def upgrade() -> None:
    op.add_column("seasons", sa.Column("aggregation", sa.Text(), server_default=sa.text("'sum'"), nullable=False))
    op.add_column("seasons", sa.Column("sort_order", sa.Text(), server_default=sa.text("'desc'"), nullable=False))
    op.add_column("seasons", sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("seasons", sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("seasons", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("seasons", sa.Column("metadata", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("seasons_aggregation_check"), "seasons", "aggregation in ('sum', 'best', 'latest')")
    op.create_check_constraint(op.f("seasons_sort_order_check"), "seasons", "sort_order in ('desc', 'asc')")
    op.create_check_constraint(op.f("seasons_times_check"), "seasons", "starts_at < ends_at")


def downgrade() -> None:
    for name in ("metadata", "closed_at", "ends_at", "starts_at", "sort_order", "aggregation"):
        op.drop_column("seasons", name)
