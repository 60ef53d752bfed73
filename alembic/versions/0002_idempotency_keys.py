"""idempotency keys, discarded events"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COMMENT = "What is still to be shown: pending, done = visible in Redis, failed = refused by the database"
_STATES = "status in ('pending', 'done', 'failed'{})"


def upgrade() -> None:
    # Both at once, and the outbox first, as a prepared append locks them.
    op.execute("lock table outbox, score_events")
    _outbox_states(", 'discarded'")
    op.create_table_comment("outbox", f"{_COMMENT}, discarded.", existing_comment=f"{_COMMENT}.")
    op.create_table(
        "idempotency_keys",
        sa.Column("season_id", sa.Text(collation="C"), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("length(key) between 1 and 128", name=op.f("idempotency_keys_key_check")),
        sa.PrimaryKeyConstraint("season_id", "key", name=op.f("idempotency_keys_pkey")),
        comment="Which event a client's Idempotency-Key or eventId stands for; written with the event, then only "
        "deleted.",
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_insert_scale_factor": "0.05",
            "autovacuum_analyze_scale_factor": "0.05",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("idempotency_keys_created_at_idx", "idempotency_keys", ["created_at"])
    op.add_column("score_events", sa.Column("discarded_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.execute("update outbox set status = 'failed' where status = 'discarded'")
    _outbox_states("")
    op.create_table_comment("outbox", f"{_COMMENT}.", existing_comment=f"{_COMMENT}, discarded.")
    op.drop_column("score_events", "discarded_at")
    op.drop_table("idempotency_keys")


def _outbox_states(more: str) -> None:
    """Not valid: else all rows were read under a lock that stops all writes. 0003 reads them under another."""
    op.drop_constraint(op.f("outbox_status_check"), "outbox", type_="check")
    op.execute(f"alter table outbox add constraint outbox_status_check check ({_STATES.format(more)}) not valid")
