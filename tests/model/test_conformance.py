"""The model can't drift from the code: its scripts and statements against the real ones, on random states.

The same stored board and the same update, through the Lua on a real Valkey and through the model's functions: same
answer, same board afterwards. The same token and the same fold, through PostgreSQL and through the model.
"""

from __future__ import annotations

import random

from model import boards, database, protocol
from model.boards import EMPTY, Board, Update
from model.conversion import load, store, store_rows
from model.database import Database, Event, Season, Session, State
from model.rules import RIGHT, clock_token

from shared import keys, projection, seasons
from shared.scores import MAX_SCORE, PLAIN
from shared.standings import Standing
from worker import batch

CASES = 3000
PLAYERS = 4


def random_board(rng):
    """Of numbers close to each other, so that each comparison goes every way; sometimes with a key lost."""
    players = {player: rng.randrange(-5, 9) for player in range(PLAYERS) if rng.random() < 0.5}
    if rng.random() < 0.15:
        return EMPTY._replace(players=players if rng.random() < 0.3 else {})
    noted = len(players) if rng.random() < 0.8 else rng.randrange(PLAYERS)
    return Board(rng.randint(1, 3), rng.randint(1, 3), rng.randrange(7), rng.randrange(7), noted, players)


def random_changes(rng):
    return {player: rng.choice((None, -3, 0, 7)) for player in range(PLAYERS) if rng.random() < 0.4}


def random_update(rng, season, board):
    timeline, epoch = (max(1, board[field] + rng.choice((0, 0, 0, 0, 1, -1))) for field in range(2))
    prev = rng.choice((board.token, board.base, rng.randrange(7)))
    return Update(season, timeline, epoch, prev, prev + rng.randint(1, 3), random_changes(rng))


def random_seen(rng, board):
    seen = boards.stored(board)
    if rng.random() < 0.7:
        return seen
    field = rng.choice(seen._fields)
    return seen._replace(**{field: getattr(seen, field) + rng.choice((-1, 1))})


def real(update):
    season_id = str(update.season)
    return projection.Update(season_id, *update[1:5], real_standings(season_id, update.changes))


def real_standings(season_id, changes):
    return [Standing(season_id, str(player), score) for player, score in changes.items()]


async def test_apply_and_inspect(redis, projection):
    rng = random.Random("apply")
    stored = [random_board(rng) for _ in range(CASES)]
    updates = [random_update(rng, season, board) for season, board in enumerate(stored)]
    await store(redis, stored)
    inspected = await projection.inspect([(str(season), PLAIN) for season in range(CASES)])
    assert inspected == [("stored", boards.stored(board)) for board in stored]
    answers = await projection.apply([real(update) for update in updates])
    expected = [boards.apply(board, update) for board, update in zip(stored, updates, strict=True)]
    assert answers == [(verdict, boards.stored(board)) for verdict, board in expected]
    assert await load(redis, CASES) == [board for _, board in expected]
    verdicts = [verdict for verdict, _ in expected]
    assert min(verdicts.count(verdict) for verdict in ("applied", "late", "behind")) > CASES / 20


async def test_patch(redis, projection):
    rng = random.Random("patch")
    stored = [random_board(rng) for _ in range(CASES)]
    await store(redis, stored)
    expected = []
    for season, board in enumerate(stored):
        update, seen, changes = random_update(rng, season, board), random_seen(rng, board), random_changes(rng)
        verdict, after = boards.patch(board, update, seen, changes)
        answer = await projection.patch(real(update), seen, real_standings(str(season), changes))
        assert answer == (verdict, boards.stored(after))
        expected.append(after)
    assert await load(redis, CASES) == expected


async def test_swap(redis, projection):
    rng = random.Random("swap")
    stored = [random_board(rng) for _ in range(CASES)]
    await store(redis, stored)
    expected = []
    for season, board in enumerate(stored):
        update, seen = random_update(rng, season, board), random_seen(rng, board)
        players = {player: rng.randrange(9) for player in range(PLAYERS) if rng.random() < 0.5}
        staged = len(players) + (rng.random() < 0.1)
        if players:
            await projection.stage(real(update), real_standings(str(season), players))
        staging = {(season, update.token): players}
        verdict, after = boards.swap(board, update, seen, staging, staged)
        assert await projection.swap(real(update), seen, staged) == (verdict, boards.stored(after))
        kept = bool(staging.get((season, update.token)))
        assert await redis.exists(*keys.shown(str(season), PLAIN, update.token)) == kept
        expected.append(after)
    assert await load(redis, CASES) == expected


async def test_token(pool):
    rng = random.Random("token")
    async with pool.connection() as conn:
        await conn.execute("insert into seasons (season_id) values ('s')")
        for _ in range(500):
            token, jitter = rng.randrange(20), rng.randrange(5)
            clock = token + rng.randrange(-5, 6)
            statement = seasons._ADVANCE.replace("(random() * 1000)", str(jitter))
            statement = statement.replace("extract(epoch from clock_timestamp()) * 1000000", str(clock))
            assert statement.count("(random") + statement.count("clock_timestamp") == 0
            await conn.execute("update seasons set token = %s", (token,))
            (row,) = await (await conn.execute(statement, (["s"],))).fetchall()
            assert row == ("s", clock_token(token, clock, jitter, 0))


async def test_fold(pool, monkeypatch):
    """Sums, tombstones, events of ended epochs and poison: the same standings, the same events set aside."""
    monkeypatch.setattr(database, "LARGEST_SCORE", MAX_SCORE)
    rng = random.Random("fold")
    async with pool.connection() as conn:
        for _ in range(200):
            rows, events = random_rows(rng), random_events(rng)
            session = Session(
                Database(1, [State(rows, (1 << len(events)) - 1, 0, 0)]),
                RIGHT,
                lambda: (6, 0),
            )
            for season in range(2):
                session.advance(season)
            failed = protocol.fold(session, events, list(range(len(events))))
            async with conn.transaction(force_rollback=True):
                await store_rows(conn, rows, events)
                await conn.execute("update seasons set token = token + 1")
                folded = await batch._fold_in_halves(conn, list(range(len(events))), {PLAIN})
                assert sum(1 << event_id for event_id in folded.failures) == failed
                assert {
                    int(season_id): {int(row.user_id): row.score for row in changed}
                    for season_id, changed in batch.by_season(folded.standings).items()
                } == {
                    season: {player: score for player, (score, _) in changed.items()}
                    for season, changed in session.changes.items()
                }
                found = await (await conn.execute("select season_id, user_id, score, token from standings")).fetchall()
            assert sorted(found, key=str) == sorted(
                (
                    (str(season), str(player), score, token)
                    for season in range(2)
                    for player, (score, token) in session.standings(season).items()
                ),
                key=str,
            )


def random_rows(rng):
    """Two seasons; some scores almost too large."""
    rows = tuple(Season(rng.randint(1, 3), 5, {}) for _ in range(2))
    for row in rows:
        for player in range(PLAYERS):
            if rng.random() < 0.5:
                row.standings[player] = rng.choice((None, 0, 3, MAX_SCORE - 4)), rng.randint(1, 5)
    return rows


def random_events(rng):
    deltas = (1, 2, 4, -3, MAX_SCORE, -MAX_SCORE)
    return [Event(rng.randrange(2), rng.randint(1, 3), rng.randrange(PLAYERS), rng.choice(deltas)) for _ in range(10)]
