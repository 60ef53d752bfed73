"""The boards in Redis: what is sent there, fenced so that sending it late, twice or never does no harm.

Knows nothing of PostgreSQL; `shared.reconciliation` decides with both in view.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from operator import add
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from redis.exceptions import ReadOnlyError, RedisError

from shared import keys
from shared.board_entries import TIE_LENGTH, Shown, changes_of
from shared.redis_client import Client
from shared.scores import PLAIN, Rules, SeasonId, UserId
from shared.scripts import APPLY, DROP, INSPECT, LOOK, PATCH, SWAP, Script
from shared.standings import Standing
from shared.windows import BOARDS

Verdict = Literal["stored", "applied", "late", "behind", "moved", "dropped"]

_STAGING_TTL_SECONDS: Final = 3600
"""A rebuild that dies leaves its staged board behind no longer than this."""


class Stored(NamedTuple):
    """What a season's boards say of themselves. `base` is the last committed token that their last writer knew; so many
    entries as `noted` were there after the last write, in all of them together; `members` are now."""

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
    """What a season's boards say of themselves and what they show of some players, all of one instant: for each player
    and each board, None = not there."""

    stored: Stored
    players: list[list[Shown | None]]


class Update(NamedTuple):
    """One batch's effect on one season: absolute scores, and the fence that they pass only once.

    `prev` is the token of the last committed batch, `token` that of this one (microseconds, growing).
    `patch_floor`: see `shared.seasons.Fence`.
    """

    season_id: SeasonId
    timeline: int
    epoch: int
    prev: int
    token: int
    standings: Sequence[Standing] = ()
    rules: Rules = PLAIN
    patch_floor: int = 0


_Call: TypeAlias = tuple[SeasonId, list[str], list[Any]]
"""A season, the keys of a script there, and its arguments."""


class Projection:
    """Client of the scripts. Raises redis.exceptions.RedisError when Redis does not answer.

    `answered` hears of each write to a board: the script's name, and its verdict or "error".
    """

    def __init__(self, client: Client, answered: Callable[[str, str], None] = lambda _name, _verdict: None) -> None:
        self._client = client
        self._answered = answered

    async def apply(self, updates: Sequence[Update]) -> list[Answer | RedisError]:
        """Send all updates in one pipeline; per update what the board answered, or why it could not."""
        return await self._write(
            APPLY,
            [
                (
                    update.season_id,
                    _keys(update.season_id, update.rules),
                    [
                        *(_stride(update.rules), update.timeline, update.epoch, update.prev, update.token),
                        *(_packed(update.standings, update.rules), *_how_to_read(update.rules)),
                    ],
                )
                for update in updates
            ],
        )

    async def inspect(self, seasons: Sequence[tuple[SeasonId, Rules]]) -> list[Answer | RedisError]:
        """What the boards of each season say of themselves, in one pipeline."""
        return await self._run(
            INSPECT, [(season_id, _keys(season_id, rules), [_stride(rules)]) for season_id, rules in seasons]
        )

    async def look(self, season_id: SeasonId, rules: Rules, user_ids: Sequence[UserId]) -> Look:
        """Where up to 5,000 players are, in their order, with what the boards say of themselves."""
        arguments = [_stride(rules), *user_ids]
        (reply,) = await self._replies(LOOK, [(season_id, _keys(season_id, rules), arguments)])
        if isinstance(reply, RedisError):
            raise reply
        *numbers, boards = reply[1:]
        shown = [[None if score is None else float(score) for score in scores] for scores, _ in boards]
        ties = [told or [""] * len(user_ids) for _, told in boards]
        players = [
            [
                None if score is None else Shown(score, tie or "")
                for score, tie in zip(
                    (scores[number] for scores in shown), (told[number] for told in ties), strict=True
                )
            ]
            for number in range(len(user_ids))
        ]
        return Look(Stored(*numbers), players)

    async def members(self, season_id: SeasonId, rules: Rules, chunk: int) -> AsyncIterator[list[UserId]]:
        """All players whom a board shows from beginning to end, in chunks, in no order, some perhaps several times."""
        skipped = TIE_LENGTH if rules.tie_break == "earliest" else 0
        for window in BOARDS if rules.windows else (None,):
            cursor = None
            while cursor != 0:
                cursor, pairs = await self._client.zscan(keys.board(season_id, window), cursor or 0, count=chunk)
                yield [UserId(str(member)[skipped:]) for member, _ in pairs]

    async def players(self, season_id: SeasonId) -> int:
        """How many players the board of all time shows."""
        return int(await self._client.zcard(keys.board(season_id)))

    async def patch(self, update: Update, seen: Stored, standings: Sequence[Standing]) -> Answer:
        """Write the standings and the update's token, provided that the boards still say `seen`; else "moved"."""
        rules = update.rules
        arguments = [*seen, update.prev, update.token, _packed(standings, rules), *_how_to_read(rules)]
        return await self._write_one(PATCH, update, arguments)

    async def stage(self, update: Update, standings: Sequence[Standing]) -> int:
        """Add players to the boards that `swap` will put in place; returns how many entries those are."""
        rules, entries = update.rules, 0
        stride = _stride(rules)
        names = keys.shown(update.season_id, rules, update.token)
        async with self._client.pipeline(transaction=False) as pipe:
            for number, (shown, _) in enumerate(changes_of(standings, rules)):
                scores, players, ties = shown[:: stride + 1], shown[1 :: stride + 1], shown[2::3]
                if not players:
                    continue
                members = list(map(add, ties, players)) if stride == 2 else players
                pipe.zadd(names[number * stride], dict(zip(members, scores, strict=True)))
                if stride == 2:
                    pipe.hset(names[number * stride + 1], mapping=dict(zip(players, ties, strict=True)))
                entries += len(members) * stride
            for name in names:
                pipe.expire(name, _STAGING_TTL_SECONDS)
            await pipe.execute()
        return entries

    async def swap(self, update: Update, seen: Stored, staged: int) -> Answer:
        """Replace the whole boards by the staged ones, provided that they still say `seen` and all `staged` entries
        are there; else "moved"."""
        season_id, rules = update.season_id, update.rules
        shown = keys.shown(season_id, rules)
        others = [name for name in keys.all_shown(season_id) if name not in shown]
        arguments = [
            *(len(shown), *seen, update.timeline, update.epoch, update.prev, update.token, staged),
            *_how_to_read(rules),
        ]
        return await self._write_one(SWAP, update, arguments, *keys.shown(season_id, rules, update.token), *others)

    async def season_ids(self) -> AsyncIterator[list[SeasonId]]:
        """All seasons that have a board, in no order, some perhaps several times; those that come meanwhile perhaps."""
        before, _, behind = keys.meta(SeasonId("*")).partition("*")
        cursor = None
        while cursor != 0:
            cursor, found = await self._client.scan(cursor or 0, match=f"{before}*{behind}", count=1000)
            yield [SeasonId(str(name)[len(before) : -len(behind)]) for name in found]

    async def drop(self, season_ids: Sequence[SeasonId], timeline: int) -> list[Answer | RedisError]:
        """Delete the seasons' boards, provided that they were written before `timeline`; else "stored"."""
        calls: list[_Call] = [
            (season_id, [keys.meta(season_id), *keys.all_shown(season_id)], [2, timeline]) for season_id in season_ids
        ]
        return await self._write(DROP, calls)

    async def discard_staged(self, update: Update) -> None:
        await self._client.unlink(*keys.shown(update.season_id, update.rules, update.token))

    async def _write_one(self, script: Script, update: Update, arguments: list[Any], *more_keys: str) -> Answer:
        names = [*_keys(update.season_id, update.rules), *more_keys]
        (answer,) = await self._write(script, [(update.season_id, names, [_stride(update.rules), *arguments])])
        if isinstance(answer, RedisError):
            raise answer
        return answer

    async def _write(self, script: Script, calls: Sequence[_Call]) -> list[Answer | RedisError]:
        answers = await self._run(script, calls, changed="\n".join(season_id for season_id, _, _ in calls))
        for answer in answers:
            self._answered(script.name, "error" if isinstance(answer, RedisError) else answer.verdict)
        return answers

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


def _keys(season_id: SeasonId, rules: Rules) -> list[str]:
    return [keys.meta(season_id), *keys.shown(season_id, rules)]


def _stride(rules: Rules) -> int:
    return 2 if rules.tie_break == "earliest" else 1


def _how_to_read(rules: Rules) -> tuple[str, str, int]:
    return rules.order, rules.tie_break, int(rules.windows)


def _packed(standings: Sequence[Standing], rules: Rules) -> bytes:
    """What the scripts' `write` takes."""
    return msgspec.msgpack.encode(changes_of(standings, rules))
