"""score_events: an index on what a player has sent"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


_INDEX = "score_events_player_idx"
_PLAYER = "(array[hashtextextended(user_id, hashtext(season_id))])"
_PATIENT = "fastupdate = on, gin_pending_list_limit = 65536"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # Nobody queues behind this, however long it waits for snapshots that are older than it.
        op.execute("set lock_timeout = 0")
        op.execute(f"drop index concurrently if exists {_INDEX}")  # an attempt that failed leaves an invalid one
        op.execute(f"create index concurrently {_INDEX} on score_events using gin ({_PLAYER}) with ({_PATIENT})")
        op.execute("set lock_timeout = '1s'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        op.execute(f"drop index concurrently if exists {_INDEX}")
        op.execute("set lock_timeout = '1s'")
