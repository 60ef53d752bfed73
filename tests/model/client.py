"""A process at work in the model: its job, its session, and what may come back from PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Callable, Generator

from model.database import Session, SessionLostError
from model.rules import Rules

from shared.projection import Answer

Steps = Generator[str, None, None]
"""A job. Where it yields, anything may happen before it goes on."""


class RedisLostError(Exception):
    """No answer from Redis; what was sent may have arrived, may arrive later, or never."""


class LateError(Exception):
    def __init__(self, season: int) -> None:
        self.seasons = [season]


class SeasonUnreachableError(Exception):
    """The board is a later PostgreSQL's, too large to be rebuilt in a batch, or keeps changing."""


class LockTimeoutError(Exception):
    pass


TROUBLE = (SessionLostError, RedisLostError, LateError, SeasonUnreachableError, LockTimeoutError)


class Client:
    """A process at work: what it runs, in which session. The world says what becomes of what it sends."""

    __slots__ = ("job", "name", "rules", "session", "world")

    def __init__(self, name: str, world, rules: Rules) -> None:
        self.name = name
        self.world = world
        self.rules = rules
        self.session: Session | None = None
        self.job: Steps | None = None

    def begin(self) -> Session:
        """A new transaction; one that is still open is rolled back."""
        if self.session is not None:
            self.session.end()
        self.session = self.world.connect(self.rules)
        return self.session

    def commit(self) -> None:
        self.session.commit()
        if self.world.reply_lost():
            raise SessionLostError

    def send(self, script: Callable, season: int, *arguments) -> Generator[str, None, Answer]:
        yield script.__name__
        return self.world.deliver(script, season, *arguments)
