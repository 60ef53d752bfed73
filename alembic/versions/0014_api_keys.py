"""API keys, of which only digests are kept"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("season_prefixes", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("previous_digest", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "scopes <@ array['read', 'write', 'admin'] and cardinality(scopes) > 0",
            name=op.f("api_keys_scopes_check"),
        ),
        sa.CheckConstraint("length(digest) = 32", name=op.f("api_keys_digest_check")),
        sa.PrimaryKeyConstraint("key_id", name=op.f("api_keys_pkey")),
        comment="Keys that requests are allowed by. The key itself is kept nowhere; revoked ones stay as rows.",
    )


def downgrade() -> None:
    # The build of before asks for no keys: what they kept closed would be open to everybody.
    if op.get_bind().scalar(sa.text("select exists (select from api_keys)")):
        raise RuntimeError("there are API keys; the build before asks for none, so nothing is changed")
    op.drop_table("api_keys")
