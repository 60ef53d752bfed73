"""The one tree of errors that a client may see, each with its HTTP status and stable code.

Nothing here knows HTTP beyond those two numbers; `api.errors` turns them into answers.
"""

from __future__ import annotations


class LeaderboardError(Exception):
    """Base of all. `message` says what is wrong and what would be right; `code` is stable for programs."""

    status = 500
    code = "internal_error"
    retry_after_seconds: int | None = None

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequestError(LeaderboardError):
    """What the client sent can't be accepted, now or later."""

    status = 400
    code = "invalid_request"


class UnauthorizedError(LeaderboardError):
    """The request needs a key and has none, or one that holds no longer."""

    status = 401
    code = "unauthorized"


class ForbiddenError(LeaderboardError):
    """The key is right, and does not allow this."""

    status = 403
    code = "forbidden"


class NotOnBoardError(LeaderboardError):
    status = 404
    code = "not_on_board"


class SeasonNotFoundError(LeaderboardError):
    status = 404
    code = "season_not_found"


class EventNotFoundError(LeaderboardError):
    status = 404
    code = "event_not_found"


class EpochNotFoundError(LeaderboardError):
    status = 404
    code = "epoch_not_found"


class ConflictError(LeaderboardError):
    """The request is well-formed, but the season is not as it would have to be."""

    status = 409
    code = "conflict"


class EpochGoneError(LeaderboardError):
    """The season was in an epoch then whose scores are no longer there."""

    status = 410
    code = "epoch_gone"


class EpochSealingError(ConflictError):
    """The epoch's final ranks are being settled: the same request will succeed soon. No 503, nothing is in trouble."""

    code = "epoch_sealing"
    retry_after_seconds = 1


class BodyTooLargeError(LeaderboardError):
    status = 413
    code = "body_too_large"


class KeyReusedError(LeaderboardError):
    """The idempotency key stands for another score already."""

    status = 422
    code = "idempotency_key_reused"


class RateLimitedError(LeaderboardError):
    """More came than may: `quota` within `window_seconds`, by the limit of that name. Nothing was stored."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, *, limit: str, quota: int, window_seconds: int, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.limit = limit
        self.quota = quota
        self.window_seconds = window_seconds
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(LeaderboardError):
    """Trouble behind the service: the same request may succeed soon."""

    status = 503
    code = "unavailable"
    retry_after_seconds = 1


class OverloadedError(UnavailableError):
    """Refused at once, before anything was stored: more work waits than can be done in time."""

    code = "overloaded"


class DeadlineError(UnavailableError):
    """The request's time was up. A score may or may not have been stored."""

    code = "deadline_exceeded"


class PostgresUnavailableError(UnavailableError):
    code = "postgres_unavailable"


class RedisUnavailableError(UnavailableError):
    code = "redis_unavailable"
