"""All settings of all processes: one frozen object, read from the environment or `.env`, validated once.

The only module that reads the environment. README lists the same names, units and defaults; a test compares them.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.webhook_signature import secrets_in

Port = Annotated[int, Field(ge=0, le=65535)]


_ADMIN_KEY: Final = re.compile(r"[A-Za-z0-9._~+/=-]{24,200}")
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:]+\](?::[0-9]{1,5})?")


class SettingsError(Exception):
    """Settings are wrong; the message lists every mistake, one a line."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, str_strip_whitespace=True
    )

    postgres_dsn: str | None = Field(None, description="PostgreSQL, the ledger: URL or key=value string")
    redis_url: str | None = Field(None, description="Redis or Valkey, the projection: redis://, rediss:// or unix://")

    api_host: str = Field("127.0.0.1", description="address the API listens on")
    api_port: Port = Field(8080, description="port the API listens on")
    api_workers: int = Field(2, ge=1, le=256, description="API processes behind that port")
    admin_key: SecretStr | None = Field(
        None, description="a key that allows everything, 24 characters or more, beside those of `leaderboard keys`"
    )
    allow_anonymous: bool = Field(
        False, description="serve everybody on any address while no key was ever made; on loopback that is so anyway"
    )
    read_access: Literal["open", "keyed"] = Field(
        "open", description="once there are keys: whether reading boards needs one (keyed) or not (open)"
    )
    rate_limit_key_per_second: int = Field(
        0, ge=0, le=1_000_000, description="requests per second and key, beyond that 429; 0 = no limit"
    )
    rate_limit_player_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="scores per minute and player, beyond that 429; 0 = no limit"
    )
    cors_origins: str | None = Field(
        None, description="web pages that may call the API, as https://game.example, several with commas, or *"
    )

    db_pool_max: int = Field(50, ge=2, le=1000, description="PostgreSQL connections per process, at most")
    request_timeout_ms: int = Field(3000, ge=50, le=60_000, description="deadline of a request, milliseconds; then 503")
    intake_queue_max: int = Field(
        10_000, ge=1, description="scores that may wait for a commit per API process; beyond that 503 at once"
    )
    intake_batch_max: int = Field(500, ge=1, le=10_000, description="scores that share one commit, at most")
    intake_concurrency: int = Field(4, ge=1, le=64, description="commits under way at once per API process")
    streams_max: int = Field(
        5000, ge=0, le=100_000, description="live streams per API process, at most; beyond that 503 at once"
    )

    outbox_batch_size: int = Field(500, ge=1, le=10_000, description="outbox events a batch claims, at most")
    outbox_poll_ms: int = Field(50, ge=1, le=60_000, description="pause between polls of an idle worker, milliseconds")
    outbox_retention_hours: float = Field(
        24.0, gt=0, description="done and discarded outbox events are deleted after, hours"
    )
    idempotency_retention_hours: float = Field(
        24.0, ge=0.01, description="an idempotency key is forgotten after, hours; the same key then counts anew"
    )
    archive_retention_days: float = Field(
        0.0, ge=0, description="archived epochs stay readable for, days from when they are sealed; 0 = for ever"
    )
    audit_interval_ms: int = Field(
        1000,
        ge=10,
        le=3_600_000,
        description="pause between comparisons of boards with the ledger, milliseconds",
    )
    scrub_players_per_second: int = Field(
        2000, ge=0, description="players compared one by one with their standings, each second and worker; 0 = none"
    )
    snapshot_events: int = Field(
        50_000, ge=0, description="scores of a season between two snapshots for boards as of a moment; 0 = none is made"
    )
    worker_health_host: str = Field("127.0.0.1", description="address of the worker's health endpoint")
    worker_health_port: Port = Field(8081, description="port of the worker's health endpoint; 0 = any free one")

    webhook_secret: SecretStr | None = Field(
        None,
        description="signs what is sent to receivers of final ranks: whsec_… (Standard Webhooks); several with blanks",
    )
    webhook_targets: Literal["public", "any"] = Field(
        "public", description="where webhooks may go: https to public addresses, or any: http and the own network too"
    )

    startup_timeout_seconds: float = Field(
        30.0, ge=0, description="how long a process waits for its servers at start, seconds"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line to log")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")
    traces_sample: float = Field(
        0.0, ge=0, le=1, description="share of the requests with scores that are traced, to an OTLP collector; 0 = none"
    )
    data_dir: Path = Field(Path(".data"), description="where `make run` keeps its embedded servers' data")
    prometheus_multiproc_dir: Path | None = Field(
        None, description="where the processes of one API share their metrics; unset = a folder made at each start"
    )
    fault_point: str | None = Field(
        None, description="tests only: the worker kills itself, with :stop stops, at this step; unset in production"
    )

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a process that is started with them."""
        values = {name: value for name, value in self.model_dump().items() if value is not None}
        for name, value in values.items():
            if isinstance(value, SecretStr):
                values[name] = value.get_secret_value()
        return {name.upper(): str(value) for name, value in values.items()}

    @property
    def origins(self) -> list[str]:
        """Of `cors_origins` each one."""
        return [origin.strip() for origin in (self.cors_origins or "").split(",") if origin.strip()]

    @property
    def webhooks(self) -> Literal["public", "any"] | None:
        """Where they may go; None: without a secret nothing is sent."""
        return None if self.webhook_secret is None else self.webhook_targets

    @field_validator("webhook_secret")
    @classmethod
    def _signs(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            secrets_in(value.get_secret_value())
        return value

    @field_validator("admin_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _ADMIN_KEY.fullmatch(value.get_secret_value()):
            raise ValueError(
                "must be 24 to 200 letters, digits and . _ ~ + / - =, as a header can carry: `openssl rand -hex 32`"
            )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _web_origins(cls, value: str | None) -> str | None:
        for origin in filter(None, map(str.strip, (value or "").split(","))):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"must be origins as https://game.example, without a path, or *; {origin!r} is none")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value


class ServiceSettings(Settings):
    """Settings of a process that serves: both servers are named."""

    postgres_dsn: str = Field(description="PostgreSQL, the ledger: URL or key=value string")
    redis_url: str = Field(description="Redis or Valkey, the projection: redis://, rediss:// or unix://")

    @field_validator("traces_sample")
    @classmethod
    def _can_trace(cls, value: float) -> float:
        if value:
            try:
                find_spec("opentelemetry.sdk.trace"), find_spec("opentelemetry.exporter.otlp.proto.http")
            except ModuleNotFoundError as error:
                raise ValueError(
                    "needs the extra 'otel', which is not installed: pip install 'season-leaderboard[otel]', or 0"
                ) from error
        return value


_MAY_HOLD_A_SECRET = ("POSTGRES_DSN", "REDIS_URL", "ADMIN_KEY", "WEBHOOK_SECRET")

S = TypeVar("S", bound=Settings)


def _load(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        lines = []
        for mistake in error.errors():
            name = str(mistake["loc"][0]).upper()
            wrong = "is required" if mistake["type"] == "missing" else mistake["msg"]
            if mistake["type"] != "missing" and name not in _MAY_HOLD_A_SECRET:
                wrong += f", not {mistake['input']!r}"
            lines.append(f"  {name}: {wrong}")
        raise SettingsError("settings are wrong (environment or .env):\n" + "\n".join(lines)) from error


def load_settings() -> Settings:
    """Settings of an operator's command; SettingsError lists every mistake."""
    return _load(Settings)


def load_service_settings() -> ServiceSettings:
    """Settings of api and worker, where POSTGRES_DSN and REDIS_URL are required; SettingsError lists every mistake."""
    return _load(ServiceSettings)
