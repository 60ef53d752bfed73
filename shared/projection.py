"""The boards in Redis: what is sent there, fenced so that sending it late, twice or never does no harm.

Knows nothing of PostgreSQL; `shared.reconciliation` decides with both in view.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from redis.exceptions import ReadOnlyError, RedisError

from shared import keys
from shared.redis_client import Client
from shared.scores import Order, SeasonId, UserId
from shared.scripts import APPLY, INSPECT, LOOK, PATCH, SWAP, Script
from shared.standings import Standing

Verdict = Literal["stored", "applied", "late", "behind", "moved"]

_STAGING_TTL_SECONDS: Final = 3600
"""A rebuild that dies leaves its staged board behind no longer than this."""


class Stored(NamedTuple):
    """What a board says of itself. `base` is the last committed token that its last writer knew; `noted` players were
    there after the last write, `members` are now."""

    timeline: int
    epoch: int
    token: int
    base: int
    noted: int
    members: int


class Answer(NamedTuple):
    verdict: Verdict
    stored: Stored


class Look(NamedTuple):
    """What a board says of itself and the scores that it shows, all of one instant; None = not there."""

    stored: Stored
    scores: list[float | None]


class Update(NamedTuple):
    """One batch's effect on one season: absolute scores, and the fence that they pass only once.

    `prev` is the token of the last committed batch, `token` that of this one (microseconds, growing).
    """

    season_id: SeasonId
    timeline: int
    epoch: int
    prev: int
    token: int
    standings: Sequence[Standing] = ()
    order: Order = "desc"


_Call: TypeAlias = tuple[SeasonId, list[str], list[Any]]
"""A season, the keys of a script there, and its arguments."""


class Projection:
    """Client of the scripts. Raises redis.exceptions.RedisError when Redis does not answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def apply(self, updates: Sequence[Update]) -> list[Answer | RedisError]:
        """Send all updates in one pipeline; per update what the board answered, or why it could not."""
        return await self._write(
            APPLY,
            [
                (
                    update.season_id,
                    _keys(update.season_id),
                    [
                        *(update.timeline, update.epoch, update.prev, update.token),
                        *(_packed(update.standings), update.order),
                    ],
                )
                for update in updates
            ],
        )

    async def inspect(self, season_ids: Sequence[SeasonId]) -> list[Answer | RedisError]:
        """What each board says of itself, in one pipeline."""
        return await self._run(INSPECT, [(season_id, _keys(season_id), []) for season_id in season_ids])

    async def look(self, season_id: SeasonId, user_ids: Sequence[UserId]) -> Look:
        """The scores of up to 5,000 players, in their order, with what the board says of itself."""
        (reply,) = await self._replies(LOOK, [(season_id, _keys(season_id), list(user_ids))])
        if isinstance(reply, RedisError):
            raise reply
        *numbers, scores = reply[1:]
        return Look(Stored(*numbers), [None if score is None else float(score) for score in scores])

    async def members(self, season_id: SeasonId, chunk: int) -> AsyncIterator[list[UserId]]:
        """All players whom the board shows from beginning to end, in chunks, in no order, some perhaps twice."""
        cursor = None
        while cursor != 0:
            cursor, pairs = await self._client.zscan(keys.board(season_id), cursor or 0, count=chunk)
            yield [UserId(str(member)) for member, _ in pairs]

    async def patch(self, update: Update, seen: Stored, standings: Sequence[Standing]) -> Answer:
        """Write the standings and the update's token, provided that the board still says `seen`; else "moved"."""
        arguments = [*seen, update.prev, update.token, _packed(standings), update.order]
        return await self._write_one(PATCH, update, arguments)

    async def stage(self, update: Update, scores: Iterable[tuple[UserId, int]]) -> None:
        """Add players to the board that `swap` will put in place."""
        staging = keys.staging(update.season_id, update.token)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.zadd(staging, dict(scores))
            pipe.expire(staging, _STAGING_TTL_SECONDS)
            await pipe.execute()

    async def swap(self, update: Update, seen: Stored, staged: int) -> Answer:
        """Replace the whole board by the staged one, provided that it still says `seen` and all `staged` members
        are there; else "moved"."""
        arguments = [*seen, update.timeline, update.epoch, update.prev, update.token, staged, update.order]
        return await self._write_one(SWAP, update, arguments, keys.staging(update.season_id, update.token))

    async def discard_staged(self, update: Update) -> None:
        await self._client.unlink(keys.staging(update.season_id, update.token))

    async def _write_one(self, script: Script, update: Update, arguments: list[Any], *more_keys: str) -> Answer:
        (answer,) = await self._write(script, [(update.season_id, [*_keys(update.season_id), *more_keys], arguments)])
        if isinstance(answer, RedisError):
            raise answer
        return answer

    async def _write(self, script: Script, calls: Sequence[_Call]) -> list[Answer | RedisError]:
        return await self._run(script, calls, changed="\n".join(season_id for season_id, _, _ in calls))

    async def _run(
        self, script: Script, calls: Sequence[_Call], changed: str | None = None
    ) -> list[Answer | RedisError]:
        return [
            reply if isinstance(reply, RedisError) else Answer(reply[0], Stored(*reply[1:]))
            for reply in await self._replies(script, calls, changed)
        ]

    async def _replies(self, script: Script, calls: Sequence[_Call], changed: str | None = None) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            # SCRIPT LOAD in front costs microseconds and makes NOSCRIPT impossible, also right after a restart.
            pipe.script_load(script.text)
            for _, key_names, arguments in calls:
                pipe.evalsha(script.sha, len(key_names), *key_names, *arguments)
            if changed is not None:
                # A hint: who misses it keeps an answer for a second at most.
                pipe.publish(keys.CHANGES, changed)
            _, *replies = await pipe.execute(raise_on_error=False)
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # Demoted: a new connection may reach the new primary, those that we have never will.
            await self._client.connection_pool.disconnect(inuse_connections=False)
        return replies[: len(calls)]


def _keys(season_id: SeasonId) -> list[str]:
    return [keys.board(season_id), keys.meta(season_id)]


def _packed(standings: Sequence[Standing]) -> bytes:
    """What the scripts' `write` takes. Scores as text: Lua's way from a number to text is slower and has more to get
    wrong."""
    shown = chain.from_iterable((str(row.score), row.user_id) for row in standings if row.score is not None)
    gone = [row.user_id for row in standings if row.score is None]
    return msgspec.msgpack.encode((list(shown), gone))
