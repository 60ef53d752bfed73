"""standings have the scores of windows"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("standings", sa.Column("windows", sa.ARRAY(sa.BigInteger()), nullable=True))


def downgrade() -> None:
    # As in 0008, which would refuse only after this is gone.
    if op.get_bind().scalar(sa.text("select exists (select from seasons where windows or tie_break <> 'member')")):
        raise RuntimeError("there are seasons with windows or ties; the build before has none, so nothing is changed")
    op.drop_column("standings", "windows")
