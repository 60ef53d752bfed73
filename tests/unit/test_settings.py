"""Settings: read from the environment or `.env`, validated once, every mistake told at once."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from shared.settings import Settings, SettingsError, load_service_settings, load_settings

SERVERS = {"POSTGRES_DSN": "postgresql://db.example/board", "REDIS_URL": "redis://cache.example"}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty working directory and none of our names in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


@pytest.fixture
def environment(monkeypatch):
    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def mistakes(load):
    with pytest.raises(SettingsError) as caught:
        load()
    first, *lines = str(caught.value).splitlines()
    assert first == "settings are wrong (environment or .env):"
    return dict(line.strip().split(": ", 1) for line in lines)


def test_defaults():
    settings = load_settings()
    assert (settings.postgres_dsn, settings.redis_url) == (None, None)
    assert (settings.api_host, settings.api_port, settings.db_pool_max) == ("127.0.0.1", 8080, 50)
    assert (settings.outbox_batch_size, settings.outbox_poll_ms) == (500, 50)
    assert settings.data_dir == Path(".data")
    assert settings.fault_point is None


def test_every_field_says_what_it_is_for():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_from_the_environment(environment):
    environment(**SERVERS, API_PORT="9000", OUTBOX_RETENTION_HOURS="0.5", DATA_DIR="/var/lib/board")
    settings = load_service_settings()
    assert (settings.postgres_dsn, settings.redis_url) == tuple(SERVERS.values())
    assert (settings.api_port, settings.outbox_retention_hours) == (9000, 0.5)
    assert settings.data_dir == Path("/var/lib/board")


def test_from_the_file_where_the_environment_is_silent(folder, environment):
    (folder / ".env").write_text("API_PORT=9000\nAPI_WORKERS=3\nSOMEBODY_ELSES=1\n")
    environment(API_PORT="9001")
    settings = load_settings()
    assert (settings.api_port, settings.api_workers) == (9001, 3)


def test_mistakes_in_the_file_are_told_too(folder):
    (folder / ".env").write_text("API_PORT=many\n")
    assert set(mistakes(load_settings)) == {"API_PORT"}


@pytest.mark.parametrize("given", ["DEBUG", "debug", "Debug"])
def test_the_case_of_the_log_level_does_not_matter(environment, given):
    environment(LOG_LEVEL=given)
    assert load_settings().log_level == "debug"


def test_the_case_of_names_does_not_matter(environment):
    environment(api_port="9000")
    assert load_settings().api_port == 9000


@pytest.mark.parametrize("name", ["POSTGRES_DSN", "REDIS_URL", "FAULT_POINT"])
def test_empty_is_unset(environment, name):
    environment(**{name: ""})
    assert getattr(load_settings(), name.lower()) is None


@pytest.mark.parametrize("given", [{}, {"POSTGRES_DSN": "", "REDIS_URL": ""}], ids=["unset", "empty"])
def test_a_process_that_serves_needs_both_servers(environment, given):
    environment(**given)
    assert mistakes(load_service_settings) == {"POSTGRES_DSN": "is required", "REDIS_URL": "is required"}


def test_every_mistake_is_told_at_once(environment):
    environment(
        REDIS_URL="http://cache.example",
        API_PORT="65536",
        API_WORKERS="0",
        DB_POOL_MAX="lots",
        OUTBOX_POLL_MS="1.5",
        OUTBOX_RETENTION_HOURS="0",
        STARTUP_TIMEOUT_SECONDS="-1",
        LOG_LEVEL="loud",
        LOG_FORMAT="xml",
    )
    found = mistakes(load_service_settings)
    assert set(found) == {
        "POSTGRES_DSN",
        "REDIS_URL",
        "API_PORT",
        "API_WORKERS",
        "DB_POOL_MAX",
        "OUTBOX_POLL_MS",
        "OUTBOX_RETENTION_HOURS",
        "STARTUP_TIMEOUT_SECONDS",
        "LOG_LEVEL",
        "LOG_FORMAT",
    }
    assert found["POSTGRES_DSN"] == "is required"
    assert "redis://, rediss:// or unix://" in found["REDIS_URL"]
    assert "65535" in found["API_PORT"]
    assert "'65536'" in found["API_PORT"]
    assert "'debug', 'info', 'warning' or 'error'" in found["LOG_LEVEL"]


def test_a_mistake_in_an_address_does_not_print_its_password(environment):
    environment(REDIS_URL="rdis://:s3cret@cache.example")
    assert "s3cret" not in mistakes(load_settings)["REDIS_URL"]


@pytest.mark.parametrize("url", ["redis://h", "rediss://:pw@h:6380/1", "unix:///run/redis.sock"])
def test_schemes_of_redis(environment, url):
    environment(REDIS_URL=url)
    assert load_settings().redis_url == url


def test_settings_do_not_change():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load_settings().api_port = 1


def test_a_secret_of_webhooks_is_never_told(environment):
    environment(WEBHOOK_SECRET="whsec_tooshort")
    told = mistakes(load_settings)["WEBHOOK_SECRET"]
    assert "24 to 64 bytes" in told
    assert "tooshort" not in told
    secret = "whsec_" + "c2VjcmV0" * 5
    environment(WEBHOOK_SECRET=secret)
    settings = load_settings()
    assert "c2VjcmV0" not in repr(settings)
    assert (settings.webhooks, settings.environment()["WEBHOOK_SECRET"]) == ("public", secret)
