"""imports: how far each file is read"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "imports",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("lines", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("scores", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("length(digest) = 32", name=op.f("imports_digest_check")),
        sa.PrimaryKeyConstraint("season_id", "epoch", "digest", name=op.f("imports_pkey")),
        comment="How far each file of scores is read into a season's epoch: changed together with the ledger.",
    )


def downgrade() -> None:
    op.drop_table("imports")
