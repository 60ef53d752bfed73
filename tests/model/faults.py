"""What happens to the world between two steps of whoever is at work: losses, crashes, late arrivals, clock steps.

Each fault takes the world and does its worst with what is there; where there is nothing to harm it does nothing.
"""

from __future__ import annotations

from model.boards import EMPTY
from model.database import Database


def crash_client(world):
    """A process dies; the server may notice only later that its session has nobody at the other end."""
    client = world.choose(world.clients)
    client.job = None
    if client.session is not None:
        if world.random() < 0.5:
            client.session.end()
        elif client.session.alive:
            world.orphans.append(client.session)
        client.session = None


def end_session(world):
    """PostgreSQL ends a session, its locks go; the client goes on until its next statement."""
    sessions = world.orphans or [client.session for client in world.clients if client.session is not None]
    if sessions:
        session = world.choose(sessions)
        session.end()
        if sessions is world.orphans:
            sessions.remove(session)


def crash_postgres(world):
    world.stop(world.primary)
    world.primary.sequence = world.primary.durable_sequence


def fail_over(world):
    """A replica that misses up to three commits is promoted; the old primary may go on for a while."""
    if world.deposed is not None:
        world.stop(world.deposed)
    old = world.deposed = world.primary
    lost = int(world.random() * 4)
    kept = old.history[: max(1, len(old.history) - lost)]
    world.primary = Database(old.timeline + 1, kept)
    if world.random() < 0.5:
        shut_down_deposed(world)


def shut_down_deposed(world):
    if world.deposed is not None:
        world.stop(world.deposed)
        world.deposed = None


def arrive_late(world):
    if world.redis.on_their_way:
        script, season, arguments = world.redis.on_their_way.pop(int(world.random() * len(world.redis.on_their_way)))
        world.redis.run(script, season, *arguments)


def roll_back_redis(world):
    """All seasons, as after a restart; or one, as on one node of a cluster. Mostly to something recent."""
    redis = world.redis
    ago = int(world.random() ** 2 * len(redis.history))
    boards = redis.history[-1 - ago]
    redis.staging.clear()
    chosen = int(world.random() * 2 * len(boards))
    for season in range(len(boards)) if chosen >= len(boards) else (chosen,):
        redis.put(season, boards[season])


def wipe_redis(world):
    world.redis.staging.clear()
    for season in range(len(world.redis.boards)):
        world.redis.put(season, EMPTY)


def lose_sorted_set(world):
    season = int(world.random() * len(world.redis.boards))
    world.redis.put(season, world.redis.boards[season]._replace(players={}))


def lose_meta(world):
    season = int(world.random() * len(world.redis.boards))
    world.redis.put(season, EMPTY._replace(players=world.redis.boards[season].players))


def lose_player(world):
    season = int(world.random() * len(world.redis.boards))
    players = world.redis.boards[season].players.copy()
    if players:
        del players[world.choose(list(players))]
        world.redis.put(season, world.redis.boards[season]._replace(players=players))


HARMLESS = (crash_client, end_session, end_session, crash_postgres)
"""Neither a board nor a commit is lost."""

FAULTS = (
    *HARMLESS,
    crash_postgres,
    fail_over,
    shut_down_deposed,
    roll_back_redis,
    roll_back_redis,
    roll_back_redis,
    roll_back_redis,
    wipe_redis,
    lose_sorted_set,
    lose_meta,
    lose_player,
)
