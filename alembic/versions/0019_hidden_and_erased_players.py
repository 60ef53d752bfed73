"""seasons may hide players, and know when one was erased"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("seasons", sa.Column("hides", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("seasons", sa.Column("patch_floor", sa.BigInteger(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    # The build of before would show them.
    if op.get_bind().scalar(sa.text("select exists (select from seasons where hides)")):
        raise RuntimeError("there are hidden players; the build before has none, so nothing is changed")
    op.drop_column("seasons", "patch_floor")
    op.drop_column("seasons", "hides")
