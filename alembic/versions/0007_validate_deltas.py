"""validate the ledger's deltas"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Reads the whole ledger; reads and writes go on meanwhile.
    op.execute("alter table score_events validate constraint score_events_delta_check")


def downgrade() -> None:
    pass
