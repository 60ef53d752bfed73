"""Events that would take their player's total beyond what a board holds exactly: found by one statement, before the
database refuses a whole batch for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Final, NamedTuple

from shared.postgres import Connection
from shared.scores import MAX_SCORE

REASON: Final = f"the total would leave ±{MAX_SCORE} (standings_score_check)"
"""Names the constraint that would have refused it. The same for all, so that failed events are counted by it."""

# Of players whose events of the batch do not fit together, or come to more than one row may hold: the total so far,
# and the events in order. In exact numbers, which nothing overflows. Where seasons do not add up, no score that was
# accepted is too large for a standing. Each standing by its key: for a join the planner might read the whole table.
OVERFLOWING: Final = f"""
with sent as materialized (
  select event.season_id, event.epoch, event.user_id, sum(event.delta) as points,
    array_agg(event.id order by event.id) as ids, array_agg(event.delta order by event.id) as deltas
  from outbox as event
  join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
  where event.id = any(%s::bigint[]) and season.aggregation = 'sum'
  group by event.season_id, event.epoch, event.user_id
)
select total, ids, deltas from (
  select sent.*, coalesce((
    select score from standings as standing
    where standing.season_id = sent.season_id and standing.epoch = sent.epoch and standing.user_id = sent.user_id
  ), 0) as total
  from sent
) as player
where abs(total + points) > {MAX_SCORE} or abs(points) > {MAX_SCORE}
"""  # noqa: S608 - constants


class Found(NamedTuple):
    """`beyond`: the events that do not fit. `rounds`: the others, as they can be folded one after the other."""

    beyond: list[int]
    rounds: list[list[int]]


async def find(conn: Connection, event_ids: Collection[int]) -> Found:
    """Which of the events do not fit, their seasons being locked. Of a player whose events fit together that is none,
    in whatever order they came; of others each one that does not fit behind those before it that do."""
    ids = f"{{{','.join(map(str, event_ids))}}}"  # as in `shared.folds.fold`
    beyond: set[int] = set()
    in_runs: list[list[list[int]]] = []
    for total, sent, deltas in await (await conn.execute(OVERFLOWING, (ids,))).fetchall():
        if abs(total + sum(deltas)) > MAX_SCORE:
            beyond.update(not_fitting(total, sent, deltas))
        fitting = {one: delta for one, delta in zip(sent, deltas, strict=True) if one not in beyond}
        in_runs.append(runs(total, fitting))
    later = [list(chain(*some)) for some in zip_longest(*(cut[1:] for cut in in_runs), fillvalue=())]
    put_off = beyond.union(*later)
    return Found(sorted(beyond), [[one for one in event_ids if one not in put_off], *later])


def runs(total: int, deltas: Mapping[int, int]) -> list[list[int]]:
    """The events of a player, which fit together, cut up so that each sum on the way from `total` and what each run
    adds stay within ±(2^53 - 1): no row may hold more, not even one that is merged into another."""
    losses = [one for one, delta in deltas.items() if delta < 0]
    gains = [one for one, delta in deltas.items() if delta >= 0]
    cut: list[list[int]] = [[]]
    added = 0
    while losses or gains:
        event_id = (losses if losses and (total >= 0 or not gains) else gains).pop()
        total += deltas[event_id]
        added += deltas[event_id]
        if abs(added) > MAX_SCORE:
            cut.append([])
            added = deltas[event_id]
        cut[-1].append(event_id)
    return cut


def not_fitting(total: int, event_ids: Sequence[int], deltas: Sequence[int]) -> Iterator[int]:
    """Which of the events are left out, so that each sum on the way from `total` stays within ±(2^53 - 1)."""
    for event_id, delta in zip(event_ids, deltas, strict=True):
        if abs(total + delta) > MAX_SCORE:
            yield event_id
        else:
            total += delta
