"""validate the outbox's states"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Reads the whole outbox; reads and writes go on meanwhile.
    op.execute("alter table outbox validate constraint outbox_status_check")


def downgrade() -> None:
    pass
