"""What operators did to scores and players, and who is hidden."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Index, Table, Text, func

from shared.schema.parts import ID, metadata

moderations = Table(
    "moderations",
    metadata,
    # That of the outbox event.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("season_id", ID, nullable=False),
    Column("action", Text, nullable=False),
    # The player; null once that player was erased.
    Column("user_id", ID),
    # The event that is voided.
    Column("event_id", BigInteger),
    # By which API key, and who that was as the request says.
    Column("actor", Text, nullable=False),
    Column("by", Text),
    Column("reason", Text, nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # When it took effect, and what that was; null while its event is pending, but for an erasure that has begun.
    Column("applied_at", DateTime(timezone=True)),
    Column("effect", Text),
    CheckConstraint("action in ('void', 'hide', 'unhide', 'erase')", name="action"),
    CheckConstraint("(action = 'void') = (event_id is not null)", name="event_id"),
    Index("moderations_season_id_id_idx", "season_id", "id"),
    Index("moderations_season_id_user_id_id_idx", "season_id", "user_id", "id"),
    comment="The audit of moderation: who did what to whom, when and why. Rows stay.",
)

hidden_players = Table(
    "hidden_players",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("user_id", ID, primary_key=True),
    Column("hidden_at", DateTime(timezone=True), nullable=False),
    comment="Players whose scores are folded, but not shown on their season's boards.",
)
