"""standings say which event they are of"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("standings", sa.Column("reached_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("standings", sa.Column("reached_by", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    # The build of before would add up what these seasons compare.
    if op.get_bind().scalar(sa.text("select exists (select from seasons where aggregation <> 'sum')")):
        raise RuntimeError("there are seasons that do not add up; the build of before would, so nothing is changed")
    op.drop_column("standings", "reached_by")
    op.drop_column("standings", "reached_at")
