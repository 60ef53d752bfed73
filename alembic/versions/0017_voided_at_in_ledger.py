"""score_events: when a score was voided"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("score_events", sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    # The build of before would count it again as soon as it compares with the ledger.
    if op.get_bind().scalar(sa.text("select exists (select from score_events where voided_at is not null)")):
        raise RuntimeError("there are voided scores; the build before has none, so nothing is changed")
    op.drop_column("score_events", "voided_at")
