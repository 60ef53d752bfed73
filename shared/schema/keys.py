"""Who may ask for what."""

from __future__ import annotations

from sqlalchemy import ARRAY, CheckConstraint, Column, DateTime, LargeBinary, Table, Text, text

from shared.schema.parts import ID, created_at, metadata

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", ID, primary_key=True),
    # What an operator calls it.
    Column("name", Text, nullable=False),
    # SHA-256 of the whole key.
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    # With what the ids of its seasons begin; empty = all seasons.
    Column("season_prefixes", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    created_at(),
    # While it is rotated, the secret of before holds as well.
    Column("rotated_at", DateTime(timezone=True)),
    Column("previous_digest", LargeBinary),
    Column("previous_until", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    CheckConstraint("scopes <@ array['read', 'write', 'admin'] and cardinality(scopes) > 0", name="scopes"),
    CheckConstraint("length(digest) = 32", name="digest"),
    comment="Keys that requests are allowed by. The key itself is kept nowhere; revoked ones stay as rows.",
)
