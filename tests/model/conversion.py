"""The model's states as rows of the real tables and keys of a real Valkey, and back, for the tests of conformance."""

from __future__ import annotations

from model.boards import EMPTY, Board

from shared import keys

META = ("timeline", "epoch", "token", "base", "count")


async def store(redis, cases):
    async with redis.pipeline(transaction=False) as pipe:
        for season, board in enumerate(cases):
            if board.players:
                pipe.zadd(keys.board(str(season)), {str(player): score for player, score in board.players.items()})
            if board[:5] != EMPTY[:5]:
                pipe.hset(keys.meta(str(season)), mapping=dict(zip(META, board[:5], strict=True)))
        await pipe.execute()


async def load(redis, count):
    async with redis.pipeline(transaction=False) as pipe:
        for season in range(count):
            pipe.hmget(keys.meta(str(season)), *META)
            pipe.zrange(keys.board(str(season)), 0, -1, withscores=True)
        replies = await pipe.execute()
    return [
        Board(*(int(number or 0) for number in meta), {int(player): int(score) for player, score in members})
        for meta, members in zip(replies[::2], replies[1::2], strict=True)
    ]


async def store_rows(conn, rows, events):
    """The model's seasons, standings and pending events as rows of the real tables."""
    for season, (epoch, token, standings) in enumerate(rows):
        await conn.execute(
            "insert into seasons (season_id, epoch, token) values (%s, %s, %s)", (str(season), epoch, token)
        )
        for player, (score, changed) in standings.items():
            await conn.execute(
                "insert into standings (season_id, epoch, user_id, score, token) values (%s, %s, %s, %s, %s)",
                (str(season), epoch, str(player), score, changed),
            )
    for event_id, (season, epoch, player, delta) in enumerate(events):
        await conn.execute(
            "insert into outbox (id, event_type, season_id, epoch, user_id, delta)"
            " values (%s, 'score', %s, %s, %s, %s)",
            (event_id, str(season), epoch, str(player), delta),
        )
