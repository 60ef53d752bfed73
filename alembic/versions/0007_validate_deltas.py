"""validate the ledger's deltas"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Reads the whole ledger; reads and writes go on meanwhile.
    op.execute("alter table score_events validate constraint score_events_delta_check")


def downgrade() -> None:
    # As in 0005, which would refuse only after 0006 has let no score of zero in any more.
    if op.get_bind().scalar(sa.text("select exists (select from seasons where aggregation <> 'sum')")):
        raise RuntimeError("there are seasons that do not add up; the build of before would, so nothing is changed")
