"""pages of standings are tidied up less often"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table standings set (fillfactor = 80)")


def downgrade() -> None:
    op.execute("alter table standings set (fillfactor = 70)")
