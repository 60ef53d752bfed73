"""What tests of windows and ties need: time that passes, and what boards must show, by brute force over the ledger."""

from __future__ import annotations

import datetime as dt
from base64 import b64decode, b64encode
from collections import defaultdict

from shared import keys
from shared.board_entries import _IN_ORDER, TIE_LENGTH
from shared.scores import MAX_SCORE, Rules
from shared.windows import BOARDS, HOURS

MINUTE = dt.timedelta(minutes=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_MOMENTS = {
    "score_events": ("created_at", "occurred_at", "voided_at"),
    "outbox": ("created_at", "occurred_at"),
    "standings": ("reached_at",),
    "window_buckets": ("minute", "reached_at", "leaves_at"),
}
_BACK = bytes.maketrans(_IN_ORDER, bytes(range(256)))
_AGES = dt.timedelta(days=36525)


async def let_pass(conn, redis, minutes):
    """Let whole minutes pass, for all that is stored: it is so much older afterwards."""
    async with conn.transaction():
        for table, columns in _MOMENTS.items():
            moved = ", ".join(f"{column} = {column} + %(step)s" for column in columns)
            # Minutes of one player must not meet on the way: they go far away and back.
            for step in (_AGES, -_AGES - minutes * MINUTE) if table == "window_buckets" else (-minutes * MINUTE,):
                await conn.execute(f"update {table} set {moved}", {"step": step})
        for place in (2, 5, 8):
            query = f"update standings set windows[{place}] = windows[{place}] - %s where windows is not null"
            await conn.execute(query, (minutes * 60_000_000,))
    cursor = await conn.execute("select season_id, sort_order from seasons where tie_break = 'earliest'")
    for season_id, order in await cursor.fetchall():
        later = minutes * 60_000_000 * (-1 if order == "asc" else 1)
        for window in BOARDS:
            await _move_ties(redis, keys.board(season_id, window), keys.ties(season_id, window), later)


async def _move_ties(redis, board, ties, later):
    def moved(member):
        place = int.from_bytes(b64decode(member[:TIE_LENGTH].encode().translate(_BACK))) + (later << 64)
        return b64encode(place.to_bytes(15)).translate(_IN_ORDER).decode() + member[TIE_LENGTH:]

    members = {moved(member): score for member, score in await redis.zrange(board, 0, -1, withscores=True)}
    told = {player: moved(tie) for player, tie in (await redis.hgetall(ties)).items()}
    if members:
        await redis.delete(board)
        await redis.zadd(board, members)
    if told:
        await redis.hset(ties, mapping=told)


_EVENTS = """
select event.user_id, event.delta, least(event.occurred_at, event.created_at), event.id
from score_events as event
join seasons using (season_id, epoch)
left join outbox using (id)
where event.season_id = %s and event.discarded_at is null and coalesce(outbox.status, 'done') = 'done'
order by event.id
"""

_SEASON = "select token, aggregation, sort_order, windows, tie_break from seasons where season_id = %s"


def counted(events, aggregation, order):
    """(score, (when it was reached, by which event)) of one player's events: (delta, at, id)."""
    if aggregation == "sum":
        total = sum(delta for delta, _, _ in events)
        return max(-MAX_SCORE, min(MAX_SCORE, total)), max((at, event_id) for _, at, event_id in events)
    sign = 1 if order == "asc" else -1
    score, at, event_id = (
        max(events, key=lambda event: event[2])
        if aggregation == "latest"
        else min(events, key=lambda event: (sign * event[0], event[1], event[2]))
    )
    return score, (at, event_id)


async def expected_boards(conn, season_id, *, voided=(), hidden=()):
    """For each of the season's boards its players and scores, best first, as of its last batch; `voided` are the events
    that count no more, `hidden` the players who are not shown."""
    cursor = await conn.execute(_SEASON, (season_id,))
    token, *rules = await cursor.fetchone()
    by_player = defaultdict(list)
    for user_id, *event in await (await conn.execute(_EVENTS, (season_id,))).fetchall():
        if event[2] not in voided and user_id not in hidden:
            by_player[user_id].append(event)
    return boards_of(by_player, Rules(*rules), moment_of(token))


def moment_of(token):
    return EPOCH + dt.timedelta(microseconds=token)


def boards_of(by_player, rules, as_of):
    """What the boards of a season must show of {player: [(delta, at, id), …]}: each a list of (player, score)."""
    boards = []
    for window in BOARDS if rules.windows else (None,):
        found = {}
        for user_id, events in by_player.items():
            inside = [event for event in events if window is None or is_inside(event[1], window, as_of)]
            if inside:
                found[user_id] = counted(inside, rules.aggregation, rules.order)
        boards.append(ranked(found, rules.order, rules.tie_break))
    return boards


def is_inside(at, window, as_of):
    minute = at - (at - EPOCH) % MINUTE
    return minute + MINUTE + dt.timedelta(hours=HOURS[window]) > as_of


def ranked(found, order, tie_break):
    """`found`: {player: (score, by which moment and event)}; returns (player, score), best first."""

    def by_ids(item):
        return item[0].encode()

    def by_moment(item):
        return item[1][1]

    best_first = sorted(found.items(), key=by_ids, reverse=order == "desc")
    if tie_break == "earliest":
        best_first.sort(key=by_moment)
    best_first.sort(key=lambda item: item[1][0], reverse=order == "desc")
    return [(user_id, int(score)) for user_id, (score, _) in best_first]


async def shown_boards(conn, redis, season_id):
    """The same as Redis shows it."""
    cursor = await conn.execute(_SEASON, (season_id,))
    _, *rules = await cursor.fetchone()
    return await boards_in(redis, season_id, Rules(*rules))


async def boards_in(redis, season_id, rules):
    skipped = TIE_LENGTH if rules.tie_break == "earliest" else 0
    return [
        [
            (member[skipped:], int(score))
            for member, score in await redis.zrange(
                keys.board(season_id, window), 0, -1, desc=rules.order == "desc", withscores=True
            )
        ]
        for window in (BOARDS if rules.windows else (None,))
    ]
