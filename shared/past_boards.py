"""Boards as of a moment: top, ranks, neighbours. Run inside `shared.past.reading`.

Nobody's whole season is sorted: the snapshot has its board in an index, and what came since is merged into what is read
of it. What a statement costs is bounded by what came since, and by how far from the top a page begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from shared.past import Then
from shared.past_changes import before, changes, order_of
from shared.postgres import Connection
from shared.scores import MAX_NUMBER, Rules, UserId

Targets: TypeAlias = Literal["players", "score"]
"""Whose places are asked for: players', or that behind all who have at least some score."""


class PastPlace(NamedTuple):
    """Rank 1 = best, of `total` players."""

    rank: int
    score: int
    total: int


class PastEntry(NamedTuple):
    rank: int
    user_id: str
    score: int


class PastPage(NamedTuple):
    entries: list[PastEntry]
    total: int


_COLUMNS: Final = "user_id, score, tie_at, tie_by"

_TOP: Final = f"""
, page as (
  select {_COLUMNS} from (
    (select {_COLUMNS} from snapshot_standings
     where snapshot_id = %(snapshot_id)s and user_id not in (select user_id from excluded)
     order by {{best_first}} limit %(last)s)
    union all
    (select {_COLUMNS} from visible order by {{best_first}} limit %(last)s)
  ) as merged
  order by {{best_first}} offset %(offset)s limit %(limit)s
)
select page.user_id, page.score, counted.total from counted left join page on true order by {{best_first}}
"""  # noqa: S608 - made of constants

_PLAYERS: Final = f"""
  select {_COLUMNS} from visible where user_id = any(%(user_ids)s)
  union all
  select {_COLUMNS} from snapshot_standings
  where snapshot_id = %(snapshot_id)s and user_id = any(%(user_ids)s) and user_id not in (select user_id from excluded)
"""  # noqa: S608 - made of constants

# Behind all that are as good.
_SCORE: Final = f"""
  select ''::text collate "C" as user_id, %(score)s::bigint as score, {{sign}}{MAX_NUMBER} as tie_at,
    0::bigint as tie_by
"""

# How many stand before a place: so many of the snapshot as the last of them has as its place there, but for those who
# were erased since; and who came or left before it, which is counted for all places that are asked for in one go. Those
# are asked for first among equals, so that nobody counts himself.
_PLACED: Final = f"""
, target as materialized ({{targets}}), step as (
  select {_COLUMNS}, 1 as weight, false as asked from visible
  union all
  select {_COLUMNS}, -1, false from known
  union all
  select {_COLUMNS}, 0, true from target
), tally as (
  select {_COLUMNS}, asked, sum(weight) over (order by {{ranked_by}}, asked desc rows unbounded preceding) as passed
  from step
), placed as materialized (
  select tally.user_id, tally.score, tally.tie_at, tally.tie_by, 1 + tally.passed + coalesce(ahead.place, 0)
    - (select count(*) from unnest(%(erased)s::int[]) as gone (place) where gone.place <= ahead.place) as rank
  from tally left join lateral (
    select place from snapshot_standings as entry
    where snapshot_id = %(snapshot_id)s and {{is_ahead}} order by {{worst_first}} limit 1
  ) as ahead on true
  where tally.asked
)"""  # noqa: S608 - made of constants

_RANKS: Final = """
select placed.user_id, placed.rank::bigint, placed.score, counted.total from placed cross join counted
"""

_SIDE: Final = f"""
  (select {{side}}, row_number() over (order by {{order}}), user_id, score from (
    (select entry.* from placed cross join lateral (
       select {_COLUMNS} from snapshot_standings as entry
       where snapshot_id = %(snapshot_id)s and {{of_entry}} and user_id not in (select user_id from excluded)
       order by {{order}} limit %(size)s
     ) as entry)
    union all
    (select entry.user_id, entry.score, entry.tie_at, entry.tie_by from visible as entry cross join placed
     where {{of_entry}} order by {{order_of_entry}} limit %(size)s)
   ) as merged
   order by {{order}} limit %(size)s)
"""  # noqa: S608 - made of constants


async def top(conn: Connection, then: Then, limit: int, offset: int, *, shared: bool) -> PastPage:
    """The `limit` best players after `offset` others.

    Here and below, `shared`: players with equal scores share the best rank of them (1, 2, 2, 4).
    """
    asked = {**then.parameters(), "limit": limit, "offset": offset, "last": offset + limit}
    rows = await (await conn.execute(top_of(then.rules), asked)).fetchall()
    total = rows[0][2]
    found = [(user_id, score) for user_id, score, _ in rows if user_id is not None]
    return PastPage(await _ranked(conn, then, offset + 1, found, shared=shared), total)


async def ranks(conn: Connection, then: Then, user_ids: Sequence[UserId], *, shared: bool) -> dict[UserId, PastPlace]:
    """Where each of the players stood; no entry for who did not."""
    asked = {**then.parameters(), "user_ids": list(user_ids)}
    rows = await (await conn.execute(ranks_of(then.rules, "players", shared=shared), asked)).fetchall()
    return {user_id: PastPlace(*place) for user_id, *place in rows}


async def around(conn: Connection, then: Then, user_id: UserId, size: int, *, shared: bool) -> list[PastEntry]:
    """The player with up to `size` players on each side; [] where the player was not on the board."""
    asked = {**then.parameters(), "user_ids": [user_id], "size": size}
    return (await _neighbours(conn, then, "players", asked, shared=shared))[0]


async def around_score(
    conn: Connection, then: Then, score: int, size: int, *, shared: bool
) -> tuple[list[PastEntry], int]:
    """Up to `size` players on each side of where that score would have stood, behind all that were as good, and the
    rank that it would have had."""
    asked = {**then.parameters(), "score": score, "size": size}
    entries, rank = await _neighbours(conn, then, "score", asked, shared=shared)
    return entries, await _shared_rank(conn, then, score) if shared else rank


async def _neighbours(
    conn: Connection, then: Then, targets: Targets, asked: dict[str, Any], *, shared: bool
) -> tuple[list[PastEntry], int]:
    rows = await (await conn.execute(around_of(then.rules, targets), asked)).fetchall()
    if not rows:
        return [], 0
    rows.sort(key=lambda row: row[0] * row[1])
    rank, own = next((row[1], place) for place, row in enumerate(rows) if row[0] == 0)
    if targets == "score":
        del rows[own]
    found = [(user_id, score) for _, _, user_id, score in rows]
    return await _ranked(conn, then, rank - own, found, shared=shared), rank


async def _ranked(
    conn: Connection, then: Then, first: int, found: Sequence[tuple[str, int]], *, shared: bool
) -> list[PastEntry]:
    """`found`: players side by side, and their scores; `first`: the rank of the first of them, were none shared."""
    told = list(range(first, first + len(found)))
    if shared and found:
        told[0] = await _shared_rank(conn, then, found[0][1])
        for number in range(1, len(found)):
            if found[number][1] == found[number - 1][1]:
                told[number] = told[number - 1]
    return [PastEntry(rank, user_id, score) for rank, (user_id, score) in zip(told, found, strict=True)]


async def _shared_rank(conn: Connection, then: Then, score: int) -> int:
    query = ranks_of(then.rules, "score", shared=True)
    row = await (await conn.execute(query, {**then.parameters(), "score": score})).fetchone()
    assert row is not None
    return int(row[1])


@lru_cache
def top_of(rules: Rules) -> str:
    """The statement of `top`."""
    return changes(rules) + _TOP.replace("{best_first}", order_of(rules))


@lru_cache
def ranks_of(rules: Rules, targets: Targets, *, shared: bool) -> str:
    """The statement of `ranks`."""
    return changes(rules) + _placed(rules, targets, shared=shared) + _RANKS


@lru_cache
def around_of(rules: Rules, targets: Targets) -> str:
    """The statement of `around` and `around_score`: side and number there of each, of the target 0 and its rank."""
    sides = []
    for side, better in ((-1, True), (1, False)):
        order = order_of(rules, best_first=not better)
        of_entry = before(rules, "entry", "placed", better=better)
        parts = {"side": str(side), "order": order, "of_entry": of_entry}
        parts["order_of_entry"] = ", ".join(f"entry.{column}" for column in order.split(", "))
        sides.append(_filled(_SIDE, parts))
    own = "\nselect 0, placed.rank::bigint, placed.user_id, placed.score from placed\nunion all"
    return changes(rules) + _placed(rules, targets, shared=False) + own + "union all".join(sides)


def _placed(rules: Rules, targets: Targets, *, shared: bool) -> str:
    best_first = order_of(rules)
    by_score = best_first.split(", ", maxsplit=1)[0]
    sign = "-" if rules.order == "desc" else ""
    parts = {
        "targets": _PLAYERS if targets == "players" else _SCORE.replace("{sign}", sign),
        "ranked_by": by_score if shared else best_first,
        "is_ahead": before(rules, "entry", "tally", columns="score" if shared else "all"),
        "worst_first": order_of(rules, best_first=False),
    }
    return _filled(_PLACED, parts)


def _filled(query: str, parts: dict[str, str]) -> str:
    for name, text in parts.items():
        query = query.replace(f"{{{name}}}", text)
    return query
