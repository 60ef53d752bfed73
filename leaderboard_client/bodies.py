"""What is sent, as docs/api.md has it: settings of a season, scores one by one and by the thousand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal
from uuid import uuid4

import msgspec

from leaderboard_client.answers import Aggregation, Order, TieBreak

BATCH_SCORES: Final = 5000
BATCH_BYTES: Final = 1024 * 1024

Points = Literal["delta", "score"]


class Score(msgspec.Struct, frozen=True):
    """Points to add, or the score that was reached. It keeps its key: sent again after an error, it counts once."""

    user_id: str
    points: int
    key: str = msgspec.field(default_factory=lambda: str(uuid4()))
    occurred_at: dt.datetime | None = None

    def body(self, kind: Points) -> dict[str, Any]:
        moment = {} if self.occurred_at is None else {"occurredAt": self.occurred_at}
        return {"userId": self.user_id, kind: self.points, "eventId": self.key, **moment}


class Settings(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    aggregation: Aggregation = "sum"
    order: Order = "desc"
    starts_at: dt.datetime | None = None
    ends_at: dt.datetime | None = None
    metadata: dict[str, Any] | None = None
    windows: bool = False
    tie_break: TieBreak = "member"


def batches(items: Iterable[object]) -> Iterator[msgspec.Raw]:
    """JSON arrays that the service takes: of as many items as it allows, and as many bytes."""
    batch: list[bytes] = []
    size_bytes = 1
    for item in map(msgspec.json.encode, items):
        if batch and (len(batch) == BATCH_SCORES or size_bytes + len(item) + 1 > BATCH_BYTES):
            yield msgspec.Raw(b"[%b]" % b",".join(batch))
            batch, size_bytes = [], 1
        batch.append(item)
        size_bytes += len(item) + 1
    if batch:
        yield msgspec.Raw(b"[%b]" % b",".join(batch))
