"""standings have the scores of windows"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_WINDOWS = ("24h", "3d", "7d")


def upgrade() -> None:
    for window in _WINDOWS:
        op.add_column("standings", sa.Column(f"score_{window}", sa.BigInteger(), nullable=True))
        op.add_column("standings", sa.Column(f"reached_at_{window}", sa.DateTime(timezone=True), nullable=True))
        op.add_column("standings", sa.Column(f"reached_by_{window}", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    # As in 0008, which would refuse only after this is gone.
    if op.get_bind().scalar(sa.text("select exists (select from seasons where windows or tie_break <> 'member')")):
        raise RuntimeError("there are seasons with windows or ties; the build before has none, so nothing is changed")
    for window in _WINDOWS:
        op.drop_column("standings", f"reached_by_{window}")
        op.drop_column("standings", f"reached_at_{window}")
        op.drop_column("standings", f"score_{window}")
