"""Boards as of a moment: standings of before, in board order, and which scores of the ledger were given up since."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    func,
    or_,
    text,
)

from shared.schema.ledger import score_events
from shared.schema.parts import ID, metadata

snapshots = Table(
    "snapshots",
    metadata,
    Column("snapshot_id", BigInteger, Identity(always=True), primary_key=True),
    Column("season_id", ID, nullable=False),
    Column("epoch", Integer, nullable=False),
    # All scores that were accepted until then are in it, and none of later.
    Column("as_of", DateTime(timezone=True), nullable=False),
    # Scores of later have higher ids than this one; those in it have none that is higher than that one.
    Column("low_id", BigInteger, nullable=False),
    Column("high_id", BigInteger, nullable=False),
    # How many there are in it.
    Column("players", Integer, nullable=False),
    # Whose scores may still come to something else: they are counted anew from the ledger.
    Column("unsettled", ARRAY(Text), nullable=False),
    # Scores that had failed when it was made: they are not in it.
    Column("failed", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    # Places that are nobody's any more: their players were erased.
    Column("erased", ARRAY(Integer), nullable=False, server_default=text("'{}'")),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("snapshots_season_id_epoch_as_of_idx", "season_id", "epoch", "as_of", unique=True),
    comment="Moments whose standings were kept, so that a board as of a moment needs no more than what came since.",
)

snapshot_standings = Table(
    "snapshot_standings",
    metadata,
    Column("snapshot_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", ID, primary_key=True),
    Column("score", BigInteger, nullable=False),
    # Who of those with equal scores stands higher: read as the scores are, backwards where high ones are better. When
    # the score was reached, in microseconds, and by which event, both negative in that case; 0 where ids break ties.
    Column("tie_at", BigInteger, nullable=False),
    Column("tie_by", BigInteger, nullable=False),
    # By which event the score was reached, where the latest one counts.
    Column("reached_by", BigInteger),
    # 1 = best.
    Column("place", Integer, nullable=False),
    # The board, from either end.
    Index(
        "snapshot_standings_board_idx",
        *("snapshot_id", "score", "tie_at", "tie_by", "user_id"),
        postgresql_include=["place"],
    ),
    postgresql_with={"autovacuum_vacuum_insert_scale_factor": "0.05"},
    comment="The standings of snapshots, hidden players too. Written once, then only deleted.",
)

# What counts no more, or did not at some time: few.
Index(
    "score_events_amended_idx",
    score_events.c.season_id,
    score_events.c.epoch,
    score_events.c.user_id,
    postgresql_where=or_(score_events.c.voided_at.is_not(None), score_events.c.discarded_at.is_not(None)),
)
