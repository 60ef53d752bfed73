"""who is told of final ranks, and what is on its way"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reward_hooks",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("top", sa.Integer(), nullable=False),
        sa.CheckConstraint("top between 1 and 1000", name=op.f("reward_hooks_top_check")),
        sa.PrimaryKeyConstraint("season_id", name=op.f("reward_hooks_pkey")),
        comment="Who is told of the final ranks of a season's epochs. Written under the season's lock.",
    )
    op.create_table(
        "epoch_hooks",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("top", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("season_id", "epoch", name=op.f("epoch_hooks_pkey")),
        comment="Epochs that are over and whose final ranks somebody is to be told of, until that is written down.",
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("body_digest", sa.LargeBinary(), nullable=False),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status in ('pending', 'done', 'failed')", name=op.f("deliveries_status_check")),
        sa.CheckConstraint("(status = 'done') = (body is null)", name=op.f("deliveries_body_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("deliveries_pkey")),
        comment="Final ranks on their way to who is to be told: pending, done = taken, failed = given up.",
    )
    op.create_index("deliveries_season_id_epoch_key", "deliveries", ["season_id", "epoch"], unique=True)
    op.create_index("deliveries_pending_idx", "deliveries", ["next_at"], postgresql_where=sa.text("status = 'pending'"))
    op.create_index("deliveries_failed_idx", "deliveries", ["id"], postgresql_where=sa.text("status = 'failed'"))


# Asked here, by the newest of the revisions that one release brought: each is a transaction of its own, and what those
# behind this one drop is gone before an older one could refuse.
_IN_USE = {
    "select from moderations": "moderation was used: its audit would go, hidden players come back",
    "select from outbox where event_type <> 'score' and status in ('pending', 'failed')": "moderation is to be applied",
    "select from season_epochs where archived": "epochs are archived; the build before would delete them",
    "select from epoch_hooks": "final ranks are still to be told",
    "select from deliveries where status <> 'done'": "final ranks are still on their way",
    "select from reset_schedules": "seasons have schedules of resets, which the build before does not know",
}


def downgrade() -> None:
    for rows, reason in _IN_USE.items():
        if op.get_bind().scalar(sa.text(f"select exists ({rows})")):
            raise RuntimeError(f"{reason}, so nothing of it is taken back")
    op.drop_table("deliveries")
    op.drop_table("epoch_hooks")
    op.drop_table("reward_hooks")
