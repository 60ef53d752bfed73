"""A season's history, made up with any times, and what its boards were at any moment of it, by brute force."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

from window_calls import counted, ranked

from shared import past, past_boards, snapshots
from shared.scores import Rules

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
STEP = dt.timedelta(seconds=1)
MICROSECOND = dt.timedelta(microseconds=1)
NAMES = ["ann", "bob", "B", "a", "aa", "Zoë 🎮", "~", "0", *(f"p{number}" for number in range(8))]

_ADD = """
insert into score_events (season_id, epoch, id, user_id, delta, created_at, occurred_at) overriding system value
values (%s, %s, nextval('score_events_id_seq'), %s, %s, %s, %s) returning id
"""
_NOTE = """
insert into outbox (id, event_type, season_id, epoch, user_id, delta, status, target)
values (%s, %s, %s, %s, %s, 0, %s, %s)
"""
_MODERATE = """
insert into moderations (id, season_id, action, user_id, event_id, actor, reason, requested_at, applied_at)
values (nextval('score_events_id_seq'), %s, %s, %s, %s, 'test', 'test', %s, %s) returning id
"""
_EVENTS = """
select event.user_id, event.delta, least(event.occurred_at, event.created_at), event.id
from score_events as event left join outbox on outbox.id = event.id and outbox.status = 'failed'
where event.season_id = %(season)s and event.epoch = %(epoch)s and event.created_at <= %(moment)s
  and event.discarded_at is null and outbox.id is null and coalesce(event.voided_at > %(moment)s, true)
  and not exists (
    select from moderations join outbox as asked using (id)
    where event_id = event.id and requested_at <= %(moment)s and asked.status = 'pending')
order by event.id
"""
_HIDDEN = """
select moderations.user_id, action from moderations left join outbox using (id)
where moderations.season_id = %s and action in ('hide', 'unhide') and requested_at <= %s
  and coalesce(outbox.status = 'pending', applied_at is not null) order by moderations.id
"""


class History:
    """Of one season: what happens, happens at `now`, which only grows."""

    def __init__(self, conn, season_id, rules, rng):
        self.conn, self.season_id, self.rules, self.rng = conn, season_id, rules, rng
        self.now, self.epoch, self.epochs = START, 1, [(START, 1)]
        self.moments = [START - STEP, START]
        self.snapshots = 0

    async def begin(self):
        query = "insert into seasons (season_id, aggregation, sort_order, windows, tie_break, created_at)"
        await self.conn.execute(f"{query} values (%s, %s, %s, %s, %s, %s)", (self.season_id, *self.rules[:4], START))

    async def step(self):
        self.now += STEP
        happens = self.rng.choices(
            [
                *(self.scores, self.void, self.apply, self.hide, self.fail, self.settle_failed, self.discard),
                *(self.keep, self.erase, self.reset),
            ],
            [12, 3, 2, 4, 2, 2, 1, 5, 1, 0.5],
        )[0]
        await happens()
        self.moments.append(self.now)

    async def scores(self):
        """Some of a batch, whose ids are not in the order of their times."""
        places = list(range(self.rng.randint(1, 8)))
        self.rng.shuffle(places)
        for place in places:
            at = self.now + place * MICROSECOND
            occurred_at = self.rng.choice((None, None, at - 60 * STEP, self.now - STEP, START))
            added = (self.season_id, self.epoch, self.rng.choice(NAMES), self.rng.randint(1, 3), at, occurred_at)
            await self.conn.execute(_ADD, added)
            self.moments.append(at)
        self.now += 100 * MICROSECOND

    async def any_event(self, condition="discarded_at is null and voided_at is null"):
        query = f"select id, user_id from score_events where season_id = %s and epoch = %s and {condition} order by id"
        found = await (await self.conn.execute(query, (self.season_id, self.epoch))).fetchall()
        return self.rng.choice(found) if found else None

    async def of_outbox(self, condition):
        query = f"select id, target from outbox where season_id = %s and {condition} order by id"
        found = await (await self.conn.execute(query, (self.season_id,))).fetchall()
        return self.rng.choice(found) if found else (None, None)

    async def moderate(self, action, user_id, event_id, *, applied):
        parameters = (self.season_id, action, user_id, event_id, self.now, self.now if applied else None)
        (number,) = await (await self.conn.execute(_MODERATE, parameters)).fetchone()
        if not applied:
            status = self.rng.choice(("pending", "pending", "failed", "discarded"))
            noted = (number, action, self.season_id, self.epoch, user_id, status, event_id)
            await self.conn.execute(_NOTE, noted)

    async def void(self):
        if event := await self.any_event():
            applied = self.rng.random() < 0.5
            await self.moderate("void", event[1], event[0], applied=applied)
            if applied:
                await self.conn.execute("update score_events set voided_at = %s where id = %s", (self.now, event[0]))

    async def apply(self):
        """A void that was pending, or failed and is tried again, takes effect as of when it was asked for; or never."""
        number, target = await self.of_outbox("target is not null and status in ('pending', 'failed')")
        if number is not None and self.rng.random() < 0.3:
            await self.conn.execute("update outbox set status = 'discarded' where id = %s", (number,))
        elif number is not None:
            await self.conn.execute("delete from outbox where id = %s", (number,))
            query = "update moderations set applied_at = %s where id = %s returning requested_at"
            (at,) = await (await self.conn.execute(query, (self.now, number))).fetchone()
            query = "update score_events set voided_at = %s where id = %s and voided_at is null"
            await self.conn.execute(query, (at, target))

    async def hide(self):
        applied = self.rng.random() < 0.6
        await self.moderate(self.rng.choice(("hide", "unhide")), self.rng.choice(NAMES[:6]), None, applied=applied)

    async def fail(self):
        if event := await self.any_event("discarded_at is null and id not in (select id from outbox)"):
            noted = (event[0], "score", self.season_id, self.epoch, event[1], "failed", None)
            await self.conn.execute(_NOTE, noted)

    async def settle_failed(self):
        """A score that had failed is tried again, and counts, or is discarded."""
        number, _ = await self.of_outbox("event_type = 'score' and status = 'failed'")
        if number is not None:
            await self.conn.execute("delete from outbox where id = %s", (number,))
            if self.rng.random() < 0.5:
                query = "update score_events set discarded_at = %s where id = %s"
                await self.conn.execute(query, (self.now, number))

    async def discard(self):
        if event := await self.any_event():
            await self.conn.execute("update score_events set discarded_at = %s where id = %s", (self.now, event[0]))

    async def last_id(self):
        query = "select last_value - (not is_called)::int from score_events_id_seq"
        (last,) = await (await self.conn.execute(query)).fetchone()
        return last

    async def keep(self):
        await (self.keep_now() if self.rng.random() < 0.5 else self.keep_then())

    async def keep_then(self):
        """As of a score that may have come long ago, and have been given up since."""
        season = await snapshots.of_season(self.conn, self.season_id)
        query = "select id from score_events where season_id = %s and epoch = %s and created_at > %s"
        asked = (self.season_id, self.epoch, season.as_of)
        if found := await (await self.conn.execute(query, asked)).fetchall():
            assert await snapshots.make(self.conn, season, self.rng.choice(found)[0]) is not None
            self.snapshots += 1

    async def keep_now(self):
        """Scores that come while it begins are in it, and above its lowest id."""
        last = await self.last_id()
        if self.rng.random() < 0.5:
            await self.scores()
        self.now += STEP
        high_id = await self.last_id() + self.rng.randint(0, 2)
        season = await snapshots.of_season(self.conn, self.season_id)
        made = await snapshots.keep(self.conn, season, self.now, low_id=last, high_id=high_id)
        assert made is not None
        self.snapshots += 1

    async def erase(self):
        """All that the player has sent, or all but the last score."""
        user_id = self.rng.choice(NAMES)
        query = "select id from score_events where season_id = %s and user_id = %s order by id"
        found = await (await self.conn.execute(query, (self.season_id, user_id))).fetchall()
        kept = found[-1:] if self.rng.random() < 0.5 else []
        gone = [number for (number,) in found[: len(found) - len(kept)]]
        await self.conn.execute("delete from outbox where id = any(%s)", (gone,))
        await self.conn.execute("delete from outbox where target = any(%s)", (gone,))
        await self.conn.execute("delete from score_events where id = any(%s)", (gone,))
        query = "update moderations set user_id = null where season_id = %s and user_id = %s"
        await self.conn.execute(query, (self.season_id, user_id))
        await snapshots.forget(self.conn, self.season_id, user_id, again=bool(kept))

    async def reset(self):
        await self.conn.execute(
            "insert into season_epochs (season_id, epoch, aggregation, sort_order, windows, tie_break, began_at, "
            "ended_at, next_began_at, reason, archived) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'reset', true)",
            (self.season_id, self.epoch, *self.rules[:4], self.epochs[-1][0], self.now - STEP, self.now),
        )
        await self.conn.execute("update seasons set epoch = epoch + 1 where season_id = %s", (self.season_id,))
        self.epoch += 1
        self.epochs.append((self.now, self.epoch))

    async def board_at(self, moment):
        """(player, score), best first."""
        epochs = [epoch for began, epoch in self.epochs if began <= moment]
        if not epochs:
            return []
        asked = {"season": self.season_id, "epoch": epochs[-1], "moment": moment}
        by_player = defaultdict(list)
        for user_id, *event in await (await self.conn.execute(_EVENTS, asked)).fetchall():
            by_player[user_id].append(event)
        last = dict(await (await self.conn.execute(_HIDDEN, (self.season_id, moment))).fetchall())
        found = {
            user_id: counted(events, self.rules.aggregation, self.rules.order)
            for user_id, events in by_player.items()
            if last.get(user_id) != "hide"
        }
        return ranked(found, self.rules.order, self.rules.tie_break)


def sharing(board):
    """The ranks of a board whose equal scores share the best rank of them."""
    best = {}
    for rank, (_, score) in enumerate(board, start=1):
        best.setdefault(score, rank)
    return [best[score] for _, score in board]


def entries_of(board, *, shared):
    ranks = sharing(board) if shared else range(1, len(board) + 1)
    return [(rank, user_id, score) for rank, (user_id, score) in zip(ranks, board, strict=True)]


async def assert_equal_at(conn, history, moment, rng):
    """Whatever is asked about that moment is answered as brute force has it."""
    board = await history.board_at(moment)
    shared = rng.random() < 0.5
    right = entries_of(board, shared=shared)
    told = f"{history.season_id} {history.rules} at {moment}"
    then = await past.at(conn, history.season_id, moment)
    if then is None:
        assert board == [], told
        return
    page = await past_boards.top(conn, then, 100, 0, shared=shared)
    assert [tuple(entry) for entry in page.entries] == right, told
    assert page.total == len(board), told
    offset, limit = rng.randint(0, 6), rng.randint(1, 5)
    page = await past_boards.top(conn, then, limit, offset, shared=shared)
    assert [tuple(entry) for entry in page.entries] == right[offset : offset + limit], told
    assert page.total == len(board), told
    ranks = await past_boards.ranks(conn, then, NAMES, shared=shared)
    assert {user_id: tuple(place) for user_id, place in ranks.items()} == {
        user_id: (rank, score, len(board)) for rank, user_id, score in right
    }, told
    user_id, size = rng.choice(NAMES), rng.randint(0, 4)
    around = await past_boards.around(conn, then, user_id, size, shared=shared)
    place = next((number for number, entry in enumerate(right) if entry[1] == user_id), None)
    expected = [] if place is None else right[max(0, place - size) : place + size + 1]
    assert [tuple(entry) for entry in around] == expected, told
    score = rng.randint(0, 12)
    sign = -1 if history.rules.order == "asc" else 1
    above = sum(sign * found >= sign * score for _, found in board)
    better = sum(sign * found > sign * score for _, found in board)
    around, rank = await past_boards.around_score(conn, then, score, size, shared=shared)
    assert [tuple(entry) for entry in around] == right[max(0, above - size) : above + size], told
    assert rank == 1 + (better if shared else above), told


def all_rules():
    return [
        Rules(aggregation, order, windows, tie_break)
        for aggregation in ("sum", "best", "latest")
        for order in ("desc", "asc")
        for tie_break in ("member", "earliest")
        for windows in ((True,) if (aggregation, order, tie_break) == ("sum", "desc", "member") else (False,))
    ]
