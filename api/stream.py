"""One client's stream: what it is shown, and what it has seen of that. Only the newest state is ever kept for it."""

from __future__ import annotations

from typing import NamedTuple

from api.open_answers import OpenAnswer
from api.stream_events import HEARTBEAT, Seen, State, event
from shared.api_keys import ApiKey
from shared.scores import UserId
from shared.windows import Window


class Board(NamedTuple):
    """Of a season: which of its boards, and whether equal scores share a rank."""

    window: Window | None
    shared: bool


class View(NamedTuple):
    """What a stream shows: so many of the best, and a player's rank, None = nobody's."""

    board: Board
    limit: int
    user_id: UserId | None


class Stream:
    """`as_of`: when what it begins with was looked up, or later. `key`: by which it passed."""

    __slots__ = ("_answer", "_rank", "_seen", "_top", "as_of", "key", "view", "written_at")

    def __init__(self, view: View, answer: OpenAnswer, seen: Seen, as_of: float, key: ApiKey | None = None) -> None:
        self.key = key
        self.view = view
        self.as_of = as_of
        self.written_at = as_of
        self._answer = answer
        self._seen = seen
        self._top: State | None = None
        self._rank: State | None = None

    def show(self, top: State, rank: State | None, now: float) -> None:
        """This is how things stand; what the client has not seen of it is sent, at once or when it has caught up."""
        self._top, self._rank = top, rank
        self.catch_up(now)

    def catch_up(self, now: float) -> None:
        if self._answer.takes_more and (news := self._news()):
            self._write(news, now)

    def say(self, chunk: bytes, now: float) -> None:
        """Send what is neither top nor rank; who does not keep up goes without."""
        if self._answer.takes_more:
            self._write(chunk, now)

    def beat(self, now: float, quiet_seconds: float) -> None:
        """Where nothing was written for so long, show proxies and kernels that somebody is there."""
        if now - self.written_at >= quiet_seconds:
            self.say(HEARTBEAT, now)

    def _write(self, chunks: bytes, now: float) -> None:
        self.written_at = now
        self._answer.write(chunks)

    def end(self) -> None:
        self._answer.end()

    def _news(self) -> bytes:
        top, rank, seen = self._top, self._rank, self._seen
        news = b""
        if top is not None and top.tag != seen.top:
            seen = Seen(top.tag, seen.rank)
            news = event(b"top", seen, top.data)
        if rank is not None and rank.tag != seen.rank:
            seen = Seen(seen.top, rank.tag)
            news += event(b"rank", seen, rank.data)
        self._seen = seen
        return news
