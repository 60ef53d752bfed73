"""The model can't drift from the code: a worker's turn, a repair and an audit, real and modelled, from the same state.

Random seasons, standings, pending events and boards are put into PostgreSQL and Valkey and into the model. Afterwards
both must hold the same; tokens that did not exist before are all called "new".
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest
from model import protocol
from model.boards import EMPTY, Board
from model.client import SeasonUnreachableError
from model.conversion import load, store, store_rows
from model.database import Database, Event, Season, State
from model.protocol import PATCH_LIMIT
from model.rules import RIGHT
from model.world import PLAYERS, SEASONS, World

from shared import reconciliation
from shared.reconciliation import LateError, SeasonsUnreachableError, pass_late, reconcile
from worker.upkeep import Audit

CASES = 150
TOMORROW = 9_000_000_000_000_000
KNOWN = (0, 5, 10, 15, 20, 30, TOMORROW)


def random_case(rng, *, projected):
    """Seasons, pending events, and boards that fit them more or less. `projected`: each season has a token."""
    rows, boards = [], []
    for _ in range(SEASONS):
        token = rng.choice((10, 20) if projected else (0, 10, 20))
        epoch = rng.randint(1, 2)
        scores = {player: rng.choice((None, 1, 2, 5)) for player in range(PLAYERS) if rng.random() < 0.6}
        standings = {player: (score, rng.choice((5, token))) for player, score in scores.items()} if token else {}
        rows.append(Season(epoch, token, standings))
        players = {player: score for player, (score, _) in standings.items() if score is not None}
        if rng.random() < 0.5:
            players[rng.randrange(PLAYERS)] = rng.choice((3, 7))
        noted = len(players) + (rng.random() < 0.15)
        known = [token, token, 5, 10, 15, 20, 30, TOMORROW]
        board = Board(rng.choice((0, 1, 1, 1, 1, 1, 2)), epoch, rng.choice(known), rng.choice(known), noted, players)
        boards.append(EMPTY if rng.random() < 0.2 else board)
    events = [
        Event(season, max(1, rows[season].epoch - (rng.random() < 0.2)), rng.randrange(PLAYERS), rng.randint(1, 3))
        for season in (rng.randrange(SEASONS) for _ in range(rng.randint(1, 5)))
    ]
    return rows, events, boards


def model_of(rows, events, boards):
    world = World(0, RIGHT, Counter(), None)
    world.calm = True
    world.clock_steps = 0.0
    world.clock = 1_000_000_000_000_000
    world.events = events
    world.primary = Database(1, [State(tuple(rows), (1 << len(events)) - 1, 0, 0)])
    world.redis.boards = list(boards)
    return world


def modelled(world, job):
    try:
        for _ in job:
            pass
    except SeasonUnreachableError:
        outcome = "unreachable"
    else:
        outcome = "through"
    world.clients[0].session.end()
    return outcome


async def outcome_of(work):
    try:
        await work
    except SeasonsUnreachableError:
        return "unreachable"
    return "through"


def named(token):
    return token if token in KNOWN else "new"


def held_by_model(world):
    state = world.primary.state
    return {
        "pending": [event_id for event_id in range(len(world.events)) if state.pending() >> event_id & 1],
        "seasons": [(row.epoch, named(row.token)) for row in state.seasons],
        "standings": [
            {player: (score, named(token)) for player, (score, token) in row.standings.items()} for row in state.seasons
        ],
        "boards": [board._replace(token=named(board.token), base=named(board.base)) for board in world.redis.boards],
    }


async def held_by_servers(conn, redis):
    async def rows(query):
        return await (await conn.execute(query)).fetchall()

    standings = [{} for _ in range(SEASONS)]
    for season_id, player, score, token in await rows(
        "select season_id, user_id, score, standings.token from standings join seasons using (season_id, epoch)"
    ):
        standings[int(season_id)][int(player)] = score, named(token)
    return {
        "pending": [row[0] for row in await rows("select id from outbox where status = 'pending' order by id")],
        "seasons": [
            (epoch, named(token)) for epoch, token in await rows("select epoch, token from seasons order by season_id")
        ],
        "standings": standings,
        "boards": [
            board._replace(token=named(board.token), base=named(board.base)) for board in await load(redis, SEASONS)
        ],
    }


async def turn(applier, pool, projection):
    """What `worker.loop.Loop` does in a turn, but for its pauses."""
    try:
        await applier.apply(floor=0, paused=[])
    except LateError as error:
        await pass_late(pool, projection, error)


async def audit(pool, projection):
    with contextlib.suppress(LateError):
        await Audit(pool, projection).run()


@pytest.mark.parametrize("kind", ["turn", "reconcile", "audit"])
async def test_the_code_does_what_the_model_does(kind, applier, pool, projection, redis, monkeypatch):
    monkeypatch.setattr(reconciliation, "_PATCH_LIMIT", PATCH_LIMIT)
    rng = random.Random(kind)
    outcomes = Counter()
    for _ in range(CASES):
        case = random_case(rng, projected=kind == "audit")
        world = model_of(*case)
        client = world.clients[0]
        async with pool.connection() as conn:
            await conn.execute("truncate seasons, standings, outbox")
            await redis.flushall()
            await store_rows(conn, *case[:2])
            await store(redis, case[2])
        if kind == "turn":
            expected = modelled(world, protocol.batch(client, 500))
            outcome = await outcome_of(turn(applier, pool, projection))
        elif kind == "reconcile":
            expected = modelled(world, protocol.reconcile(client, 0))
            outcome = await outcome_of(reconcile(pool, projection, "0"))
        else:
            expected = [modelled(world, protocol.audit(client, season)) for season in range(SEASONS)]
            expected = "unreachable" if "unreachable" in expected else "through"
            outcome = await outcome_of(audit(pool, projection))
        assert outcome == expected, case
        async with pool.connection() as conn:
            assert await held_by_servers(conn, redis) == held_by_model(world), case
        outcomes[outcome] += 1
    assert min(outcomes.values()) > CASES / 20
    assert len(outcomes) == 2
