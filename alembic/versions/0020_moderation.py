"""moderation: its audit, and who is hidden"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moderations",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=True),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("effect", sa.Text(), nullable=True),
        sa.CheckConstraint("action in ('void', 'hide', 'unhide', 'erase')", name=op.f("moderations_action_check")),
        sa.CheckConstraint("(action = 'void') = (event_id is not null)", name=op.f("moderations_event_id_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("moderations_pkey")),
        comment="The audit of moderation: who did what to whom, when and why. Rows stay.",
    )
    op.create_index("moderations_season_id_id_idx", "moderations", ["season_id", "id"])
    op.create_index("moderations_season_id_user_id_id_idx", "moderations", ["season_id", "user_id", "id"])
    op.create_table(
        "hidden_players",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("hidden_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("season_id", "user_id", name=op.f("hidden_players_pkey")),
        comment="Players whose scores are folded, but not shown on their season's boards.",
    )


def downgrade() -> None:
    op.drop_table("hidden_players")
    op.drop_table("moderations")
