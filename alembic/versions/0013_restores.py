"""restores"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restores",
        sa.Column("history", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("restored_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("history", name=op.f("restores_pkey")),
        comment="Each time this database was restored from a backup; boards from before the last time are built anew.",
    )


def downgrade() -> None:
    # The build of before would take boards that it wrote itself for a later PostgreSQL's.
    if op.get_bind().scalar(sa.text("select exists (select from restores)")):
        raise RuntimeError("the database was restored; the build before would not know, so nothing is changed")
    op.drop_table("restores")
