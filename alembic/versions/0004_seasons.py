"""seasons have settings: aggregation, order, times, metadata"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SCORES = "delta between -9007199254740991 and 9007199254740991"


def upgrade() -> None:
    # In the order in which batches lock them. Columns with constant defaults, and constraints not valid (0005 validates
    # the one that reads many rows): nothing is rewritten or read here.
    op.execute("lock table score_events, seasons, standings")
    _delta_check(_SCORES)
    op.add_column("seasons", sa.Column("aggregation", sa.Text(), server_default=sa.text("'sum'"), nullable=False))
    op.add_column("seasons", sa.Column("sort_order", sa.Text(), server_default=sa.text("'desc'"), nullable=False))
    op.add_column("seasons", sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("seasons", sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("seasons", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("seasons", sa.Column("metadata", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("seasons_aggregation_check"), "seasons", "aggregation in ('sum', 'best', 'latest')")
    op.create_check_constraint(op.f("seasons_sort_order_check"), "seasons", "sort_order in ('desc', 'asc')")
    op.create_check_constraint(op.f("seasons_times_check"), "seasons", "starts_at < ends_at")
    op.add_column("standings", sa.Column("reached_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("standings", sa.Column("reached_by", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("standings", "reached_by")
    op.drop_column("standings", "reached_at")
    for name in ("metadata", "closed_at", "ends_at", "starts_at", "sort_order", "aggregation"):
        op.drop_column("seasons", name)
    _delta_check(f"delta <> 0 and {_SCORES}")


def _delta_check(rule: str) -> None:
    """Not valid: every row would be read under a lock that stops all writes."""
    op.drop_constraint(op.f("score_events_delta_check"), "score_events", type_="check")
    op.execute(f"alter table score_events add constraint score_events_delta_check check ({rule}) not valid")
