"""Files of scores on their way into the ledger."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Integer, LargeBinary, Table, Text, func, text

from shared.schema.parts import ID, metadata

imports = Table(
    "imports",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    # SHA-256 of what the file says, unpacked.
    Column("digest", LargeBinary, primary_key=True),
    # What it was called when it came first.
    Column("file", Text, nullable=False),
    # So many lines from its beginning are done, and so many scores of them are in the ledger.
    Column("lines", BigInteger, nullable=False, server_default=text("0")),
    Column("scores", BigInteger, nullable=False, server_default=text("0")),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # null = not all of its lines are done.
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint("length(digest) = 32", name="digest"),
    comment="How far each file of scores is read into a season's epoch: changed together with the ledger.",
)
