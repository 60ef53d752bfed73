"""outbox: which event an event is about"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("target", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    # The build of before would fold every event as a score.
    if op.get_bind().scalar(
        sa.text("select exists (select from outbox where event_type <> 'score' and status in ('pending', 'failed'))")
    ):
        raise RuntimeError("there are events that moderate and are not applied yet, so nothing is changed")
    op.drop_column("outbox", "target")
