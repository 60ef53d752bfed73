"""The service's HTTP API as methods, for game back ends.

Every request may be sent again. A score has a key, made here unless the caller gives one, and with a key it counts once
(docs/api.md, "Sending again"); all else has the same effect again, but for a reset, which takes along what came since.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec

from leaderboard_client import answers
from leaderboard_client.answers import Aggregation, Order, Page, Result, Season, TieBreak, Ties, Window
from leaderboard_client.bodies import Points, Score, Settings, batches
from leaderboard_client.exchange import Exchange, LeaderboardError, error_in, read, told_in

T = TypeVar("T")


class Leaderboard:
    """One client for the whole process. `api_key` is sent as `Authorization: Bearer`.

    `timeout_seconds` bounds each wait for a connection or for bytes on it, `attempts` how often a request is sent; a
    call with all its pauses is bounded by whoever awaits it (`asyncio.timeout`). Every method raises LeaderboardError.
    Times need an offset; other bounds are in docs/api.md.
    """

    def __init__(
        self, base_url: str, *, api_key: str | None = None, timeout_seconds: float = 5, attempts: int = 5
    ) -> None:
        self._exchange = Exchange(base_url, api_key, timeout_seconds, attempts)

    async def __aenter__(self) -> Self:
        await self._exchange.__aenter__()
        return self

    async def __aexit__(self, *trouble: object) -> None:
        await self._exchange.__aexit__(*trouble)

    async def put_season(
        self,
        season_id: str,
        *,
        aggregation: Aggregation = "sum",
        order: Order = "desc",
        starts_at: dt.datetime | None = None,
        ends_at: dt.datetime | None = None,
        metadata: dict[str, Any] | None = None,
        windows: bool = False,
        tie_break: TieBreak = "member",
    ) -> Season:
        """Make the season, or set it anew: what is left out is set to its default then too."""
        body = Settings(aggregation, order, starts_at, ends_at, metadata, windows, tie_break)
        return read(await self._exchange.send("PUT", _season(season_id), body=body), Season)

    async def season(self, season_id: str) -> Season:
        return await self._get(Season, _season(season_id))

    def seasons(self, *, page_size: int = 100) -> AsyncIterator[Season]:
        """All seasons in the order of their ids, fetched `page_size` (1 to 1,000) at a time."""
        return self._walk(Page[Season], "/v1/seasons", limit=page_size)

    async def close_season(self, season_id: str) -> Season:
        return read(await self._exchange.send("POST", _season(season_id, "/close")), Season)

    async def delete_season(self, season_id: str) -> None:
        """Reset it: its board is empty, and no score from before counts again."""
        read(await self._exchange.send("DELETE", _season(season_id)), answers.Answer)

    async def add(
        self,
        season_id: str,
        user_id: str,
        delta: int,
        *,
        key: str | None = None,
        occurred_at: dt.datetime | None = None,
    ) -> answers.Accepted:
        """Add points. Give a key, of match and player say, where you will send the score again after an error."""
        return await self._store(season_id, Score(user_id, delta, key or str(uuid4()), occurred_at), "delta")

    async def submit(
        self,
        season_id: str,
        user_id: str,
        score: int,
        *,
        key: str | None = None,
        occurred_at: dt.datetime | None = None,
    ) -> answers.Accepted:
        """As `add`, the score that was reached, for a season that keeps the best or the latest."""
        return await self._store(season_id, Score(user_id, score, key or str(uuid4()), occurred_at), "score")

    async def add_many(self, season_id: str, scores: Iterable[Score]) -> list[Result]:
        """A result for each, in their order. After an error some may be stored: send the same objects again."""
        return await self._store_many(season_id, scores, "delta")

    async def submit_many(self, season_id: str, scores: Iterable[Score]) -> list[Result]:
        """As `add_many`, scores that were reached."""
        return await self._store_many(season_id, scores, "score")

    async def top(
        self,
        season_id: str,
        *,
        limit: int = 10,
        offset: int | None = None,
        cursor: str | None = None,
        ties: Ties | None = None,
        window: Window | None = None,
    ) -> answers.Top:
        """The best, or with `offset` or the `next_cursor` of another top those behind."""
        path = _season(season_id, "/leaderboard/top")
        return await self._get(answers.Top, path, limit=limit, offset=offset, cursor=cursor, ties=ties, window=window)

    async def rank(
        self, season_id: str, user_id: str, *, ties: Ties | None = None, window: Window | None = None
    ) -> answers.Rank | None:
        """None: not on the board."""
        path = _season(season_id, "/leaderboard/rank")
        return await self._if_on_board(answers.Rank, path, userId=user_id, ties=ties, window=window)

    async def around(
        self, season_id: str, user_id: str, *, reach: int = 5, ties: Ties | None = None, window: Window | None = None
    ) -> answers.Around | None:
        """The player among `reach` (0 to 100) on each side. None: not on the board."""
        path = _season(season_id, "/leaderboard/around")
        return await self._if_on_board(answers.Around, path, userId=user_id, range=reach, ties=ties, window=window)

    async def around_score(
        self, season_id: str, score: int, *, reach: int = 5, ties: Ties | None = None, window: Window | None = None
    ) -> answers.AroundScore:
        """Where a score would stand, and `reach` players on each side."""
        path = _season(season_id, "/leaderboard/around")
        return await self._get(answers.AroundScore, path, score=score, range=reach, ties=ties, window=window)

    async def ranks(self, season_id: str, user_ids: Iterable[str], *, ties: Ties | None = None) -> answers.Ranks:
        """Of 1 to 1,000 players."""
        path, body = _season(season_id, "/leaderboard/ranks"), {"userIds": list(user_ids)}
        return read(await self._exchange.send("POST", path, query={"ties": ties}, body=body), answers.Ranks)

    def ranks_of(
        self, user_id: str, *, page_size: int = 100, ties: Ties | None = None
    ) -> AsyncIterator[answers.SeasonRank]:
        """The player's ranks in all seasons, in the order of the seasons' ids, `page_size` (1 to 1,000) at a time."""
        return self._walk(Page[answers.SeasonRank], f"/v1/users/{_segment(user_id)}/ranks", limit=page_size, ties=ties)

    async def _get(self, kind: type[T], path: str, **query: Any) -> T:
        return read(await self._exchange.send("GET", path, query=query), kind)

    async def _if_on_board(self, kind: type[T], path: str, **query: Any) -> T | None:
        try:
            return await self._get(kind, path, **query)
        except LeaderboardError as error:
            if error.code != "not_on_board":
                raise
            return None

    async def _walk(self, page: type[Page[T]], path: str, **query: Any) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            found = await self._get(page, path, cursor=cursor, **query)
            for item in found.items:
                yield item
            if (cursor := found.next_cursor) is None:
                return

    async def _store(self, season_id: str, score: Score, kind: Points) -> answers.Accepted:
        path = _season(season_id, "/scores")
        response = await self._exchange.send("POST", path, body=score.body(kind))
        accepted = read(response, answers.Accepted)
        return msgspec.structs.replace(accepted, replayed="idempotent-replayed" in response.headers)

    async def _store_many(self, season_id: str, scores: Iterable[Score], kind: Points) -> list[Result]:
        results: list[Result] = []
        for body in batches(score.body(kind) for score in scores):
            response = await self._exchange.send("POST", _season(season_id, "/scores/batch"), body=body)
            # Where every single one was refused, that is an error's answer, with the results all the same.
            told = told_in(response)
            if not told.results:
                raise error_in(response)
            results += told.results
        return results


def _season(season_id: str, rest: str = "") -> str:
    return f"/v1/seasons/{_segment(season_id)}{rest}"


def _segment(text: str) -> str:
    """As a part of a path; "." and ".." as they are would make another path of it."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted
