"""What happens to a score: ledger, outbox, standings, and the season whose row holds the fence."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    false,
    func,
    text,
)

from shared.schema.parts import (
    EAGER_VACUUM,
    ID,
    created_at,
    delta,
    metadata,
    occurred_at,
    season_id_check,
    user_id_check,
)
from shared.scores import MAX_KEY_LENGTH, MAX_SCORE

seasons = Table(
    "seasons",
    metadata,
    Column("season_id", ID, primary_key=True),
    # Grows by one at each reset; events and standings carry the epoch that they belong to.
    Column("epoch", Integer, nullable=False, server_default=text("1")),
    # The fence token of the last committed batch, in microseconds of the clock; 0 = never projected.
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    # What an event does to its player's score: it is added, it counts where it is better, or it replaces.
    Column("aggregation", Text, nullable=False, server_default=text("'sum'")),
    # desc: the highest score stands first. asc: the lowest, as of race times.
    Column("sort_order", Text, nullable=False, server_default=text("'desc'")),
    # Whether there are boards of the last 24 hours, 3 and 7 days too.
    Column("windows", Boolean, nullable=False, server_default=false()),
    # Who of those with equal scores stands higher: the first to reach it, or by their ids.
    Column("tie_break", Text, nullable=False, server_default=text("'member'")),
    # Scores are taken from `starts_at` until `ends_at`, and not once an operator or game has closed the season.
    Column("starts_at", DateTime(timezone=True)),
    Column("ends_at", DateTime(timezone=True)),
    Column("closed_at", DateTime(timezone=True)),
    # A JSON object of the game's, as it was sent.
    Column("metadata", Text),
    # Whether it has players who are hidden (`hidden_players`).
    Column("hides", Boolean, nullable=False, server_default=false()),
    # Boards from before this token are built anew, never patched: a player was erased with it, of whom no tombstone
    # may stay. 0 = none ever was.
    Column("patch_floor", BigInteger, nullable=False, server_default=text("0")),
    created_at(),
    season_id_check(),
    CheckConstraint("aggregation in ('sum', 'best', 'latest')", name="aggregation"),
    CheckConstraint("sort_order in ('desc', 'asc')", name="sort_order"),
    CheckConstraint("tie_break in ('member', 'earliest')", name="tie_break"),
    CheckConstraint("starts_at < ends_at", name="times"),
    # One row is updated by every batch: room on the page keeps those updates heap-only.
    postgresql_with={"fillfactor": "50", **EAGER_VACUUM},
    comment="One row per season ever written to, never deleted: it holds the fence of docs/reliability.md.",
)

restores = Table(
    "restores",
    metadata,
    # Seconds of the clock, growing: stands before PostgreSQL's timeline in the fence.
    Column("history", BigInteger, primary_key=True, autoincrement=False),
    Column("restored_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="Each time this database was restored from a backup; boards from before the last time are built anew.",
)

score_events = Table(
    "score_events",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("user_id", ID, nullable=False),
    delta(),
    created_at(),
    # When an operator gave the event up; it counts no more.
    Column("discarded_at", DateTime(timezone=True)),
    occurred_at(),
    # When it was voided: from then on it counts no more.
    Column("voided_at", DateTime(timezone=True)),
    user_id_check(),
    CheckConstraint(f"delta between -{MAX_SCORE} and {MAX_SCORE}", name="delta"),
    # What a player has sent (`shared.player_entries`). New rows go to a list, which costs a seventh of what a B-tree
    # would, and a worker moves them into the index (worker/upkeep.py).
    Index(
        "score_events_player_idx",
        text("(array[hashtextextended(user_id, hashtext(season_id))])"),
        postgresql_using="gin",
        postgresql_with={"fastupdate": "on", "gin_pending_list_limit": "65536"},
    ),
    postgresql_with={"autovacuum_vacuum_insert_scale_factor": "0.05"},
    comment="The ledger: every score that was accepted. Ordered by season and epoch, so that one can be summed.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("key", ID, primary_key=True),
    # The ledger's id of the event that came with this key first, and what its body said.
    Column("event_id", BigInteger, nullable=False),
    Column("user_id", ID, nullable=False),
    delta(),
    created_at(),
    CheckConstraint(f"length(key) between 1 and {MAX_KEY_LENGTH}", name="key"),
    # For the purge. Keys come in the order of time, so this index only ever grows at its end.
    Index("idempotency_keys_created_at_idx", "created_at"),
    postgresql_with=EAGER_VACUUM,
    comment="Which event a client's Idempotency-Key or eventId stands for; written with the event, then only deleted.",
)

outbox = Table(
    "outbox",
    metadata,
    # The ledger's id: one outbox event for each ledger row, committed together.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("event_type", Text, nullable=False),
    Column("season_id", ID, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("user_id", ID, nullable=False),
    delta(),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_error", Text),
    created_at(),
    Column("processed_at", DateTime(timezone=True)),
    occurred_at(),
    # Of the few requests that are traced: the span under which the score came (W3C Trace Context).
    Column("traceparent", Text),
    # Of an event that voids another: the ledger's id of that one.
    Column("target", BigInteger),
    CheckConstraint("status in ('pending', 'done', 'failed', 'discarded')", name="status"),
    Index("outbox_pending_idx", "id", postgresql_where=text("status = 'pending'")),
    Index("outbox_failed_idx", "id", postgresql_where=text("status = 'failed'")),
    postgresql_with=EAGER_VACUUM,
    comment="What is still to be shown: pending, done = visible in Redis, failed = refused by the database, discarded.",
)

standings = Table(
    "standings",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("user_id", ID, primary_key=True),
    # null = not on the board (a tombstone: its token tells a repair to remove the player).
    Column("score", BigInteger),
    Column("token", BigInteger, nullable=False),
    # When the score was reached, and by which event where the season does not sum; null where nothing asks for it.
    Column("reached_at", DateTime(timezone=True)),
    Column("reached_by", BigInteger),
    # The same of the last 24 hours, 3 and 7 days: score, when, in microseconds, and by which event, each null where the
    # player is not in the window. One array: with more than eight columns every row would be eight bytes longer, and
    # batches of seasons without windows 5 to 9 % slower.
    Column("windows", ARRAY(BigInteger)),
    CheckConstraint(f"score between -{MAX_SCORE} and {MAX_SCORE}", name="score"),
    # Scores change in place: room on the page keeps those updates heap-only. What new rows leave when their first
    # update takes their place (`shared.folds`) is room as well, which the fill factor does not count.
    postgresql_with={"fillfactor": "80", **EAGER_VACUUM},
    comment="The ledger folded: one absolute score per player; token = the batch that changed it last.",
)

window_buckets = Table(
    "window_buckets",
    metadata,
    Column("season_id", ID, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("user_id", ID, primary_key=True),
    # Its beginning.
    Column("minute", DateTime(timezone=True), primary_key=True),
    # What the minute's events come to, as in standings.
    Column("score", BigInteger, nullable=False),
    Column("reached_at", DateTime(timezone=True), nullable=False),
    Column("reached_by", BigInteger),
    # When the bucket next leaves a window.
    Column("leaves_at", DateTime(timezone=True), nullable=False),
    Index("window_buckets_leaves_at_idx", "leaves_at"),
    # Scores of the same minute change it in place.
    postgresql_with={"fillfactor": "80", **EAGER_VACUUM},
    comment="What each player reached in each minute of the last 7 days, in seasons with windows.",
)
