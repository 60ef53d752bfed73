"""compose.yaml as Compose reads it, with its profiles and the files for servers elsewhere; and its HTTPS for real."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tomllib
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import yaml
from ports import free_port

from cli.migrations import ROOT
from shared.settings import Settings

BIN = Path(sys.executable).parent
POSTGRES = "terraform/compose/external-postgres.yaml"
REDIS = "terraform/compose/external-redis.yaml"
OURS = {"migrate", "api", "worker", "gateway"}
SECRETS = {"POSTGRES_PASSWORD": "secret-of-postgres", "REDIS_PASSWORD": "secret-of-redis"}


def compose(folder, files=(), **settings):
    """The configuration as Compose understands it, with such a .env."""
    compose_file = ":".join(str(ROOT / file) for file in ("compose.yaml", *files))
    values = {**SECRETS, "COMPOSE_FILE": compose_file, **settings}
    env_file = folder / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return understood(ROOT, "--env-file", env_file)


def understood(folder, *options):
    """What Compose makes of the files in this folder."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [BIN / "docker-compose", *options, "config", "--format=json"],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )


def configured(*arguments, **settings):
    done = compose(*arguments, **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


def environments(folder):
    """The settings of each container, by its service's name, with the `.env` of this folder beside compose.yaml."""
    shutil.copy(ROOT / "compose.yaml", folder)
    done = understood(folder)
    assert done.returncode == 0, done.stderr
    return {name: one.get("environment", {}) for name, one in json.loads(done.stdout)["services"].items()}


def published(service):
    return [(port.get("host_ip"), port["published"], port["target"]) for port in service.get("ports", [])]


def test_by_default_all_is_in_containers_and_one_port_is_open(tmp_path):
    services = configured(tmp_path)
    assert set(services) == OURS | {"postgres", "redis"}
    assert {name: published(service) for name, service in services.items() if "ports" in service} == {
        "gateway": [(None, "8080", 8080)]
    }


def test_all_settings_of_env_reach_every_process_of_the_service(tmp_path):
    fixed = {"API_HOST", "API_PORT", "POSTGRES_DSN", "REDIS_URL", "WORKER_HEALTH_HOST", "WORKER_HEALTH_PORT"}
    wanted = {name.upper(): f"a value of {name}" for name in Settings.model_fields} | {
        "WEBHOOK_SECRET": f"whsec_{'+/Ab' * 10}Q29tZQ== whsec_{'0f' * 32}",
        "API_PORT": "9000",
        "CORS_ORIGINS": "https://game.example, https://other.example",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in {**SECRETS, **wanted}.items()))
    found = environments(tmp_path)
    for name in ("migrate", "api", "worker"):
        assert {key: found[name].get(key) for key in wanted.keys() - fixed} == {
            key: value for key, value in wanted.items() if key not in fixed
        }
        assert {key for key in fixed if found[name][key] == wanted[key]} == set()


def test_the_port_is_the_gateways_and_the_api_keeps_its_own(tmp_path):
    services = configured(tmp_path, API_PORT="9000")
    assert published(services["gateway"]) == [(None, "9000", 8080)]
    assert services["api"]["environment"]["API_PORT"] == "8080"


def test_with_tls_caddy_is_the_only_way_in_and_as_confined_as_the_others(tmp_path):
    services = configured(tmp_path, COMPOSE_PROFILES="tls", TLS_DOMAIN="a.example.com", GATEWAY_ADDRESS="127.0.0.1")
    assert set(services) == OURS | {"postgres", "redis", "caddy"}
    assert published(services["gateway"]) == [("127.0.0.1", "8080", 8080)]
    assert published(services["caddy"]) == [(None, "80", 80), (None, "443", 443)]
    for name in ("caddy", "gateway"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


def test_with_observe_prometheus_and_grafana_are_for_this_machine_alone_and_as_confined_as_the_others(tmp_path):
    services = configured(tmp_path, COMPOSE_PROFILES="observe", METRICS_KEY="lbk_1", GRAFANA_PASSWORD="p")
    assert set(services) == OURS | {"postgres", "redis", "prometheus", "grafana"}
    assert published(services["prometheus"]) == [("127.0.0.1", "9090", 9090)]
    assert published(services["grafana"]) == [("127.0.0.1", "3000", 3000)]
    for name in ("prometheus", "grafana"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        files = [Path(one["source"]) for one in services[name]["volumes"] if one["type"] == "bind"]
        assert files
        assert all(file.exists() for file in files)


@pytest.mark.parametrize("key", ["", "lbk_1.with-any$letters"])
def test_prometheus_finds_its_key_in_a_file(tmp_path, key):
    (_, _, script) = configured(tmp_path, COMPOSE_PROFILES="observe")["prometheus"]["entrypoint"]
    script = script.replace("$$", "$").replace("/tmp/", f"{tmp_path}/").replace("exec prometheus", "exec echo")
    subprocess.run(["/bin/sh", "-c", script], env={"METRICS_KEY": key, "PATH": os.environ["PATH"]}, check=True)
    assert (tmp_path / "metrics_key").read_text() == key
    assert (tmp_path / "metrics_key").stat().st_mode & 0o777 == 0o600
    configuration = yaml.safe_load((ROOT / "observe/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    assert jobs["api"]["authorization"] == {"credentials_file": "/tmp/metrics_key"}
    assert {name: job["dns_sd_configs"][0]["names"] for name, job in jobs.items() if name != "prometheus"} == {
        "api": ["api"],
        "worker": ["worker"],
    }


def test_grafana_needs_a_password(tmp_path):
    (_, _, script) = configured(tmp_path, COMPOSE_PROFILES="observe")["grafana"]["entrypoint"]
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("$$", "$")],
        env={"GF_SECURITY_ADMIN_PASSWORD": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "set GRAFANA_PASSWORD in .env" in done.stderr


@pytest.mark.parametrize(
    ("files", "gone", "settings"),
    [
        ([POSTGRES], {"postgres"}, {"POSTGRES_DSN": "host=db.example.com user=leaderboard"}),
        ([REDIS], {"redis"}, {"REDIS_URL": "rediss://:${REDIS_PASSWORD}@redis.example.com:6379/0"}),
        (
            [POSTGRES, REDIS],
            {"postgres", "redis"},
            {
                "POSTGRES_DSN": "host=db.example.com user=leaderboard",
                "REDIS_URL": "rediss://:${REDIS_PASSWORD}@redis.example.com:6379/0",
            },
        ),
    ],
)
def test_servers_elsewhere(tmp_path, files, gone, settings):
    services = configured(tmp_path, files, **settings, POSTGRES_CA_FILE="/etc/ca.pem")
    assert set(services) == OURS | ({"postgres", "redis"} - gone)
    for name in ("migrate", "api", "worker"):
        environment = services[name]["environment"]
        waits_for = set(services[name].get("depends_on", {}))
        assert not waits_for & gone
        assert environment["PGPASSWORD"] == "secret-of-postgres"
        if "postgres" in gone:
            assert environment["POSTGRES_DSN"] == "host=db.example.com user=leaderboard"
            assert [(one["source"], one["read_only"]) for one in services[name]["volumes"]] == [("/etc/ca.pem", True)]
        if "redis" in gone:
            assert environment["REDIS_URL"] == "rediss://:secret-of-redis@redis.example.com:6379/0"
    assert "migrate" in services["api"]["depends_on"]


@pytest.mark.parametrize(("file", "missing"), [(POSTGRES, "POSTGRES_DSN"), (REDIS, "REDIS_URL")])
def test_a_server_elsewhere_must_be_named(tmp_path, file, missing):
    done = compose(tmp_path, [file])
    assert done.returncode != 0
    assert missing in done.stderr


class Upstream:
    """In place of the gateway: answers `/stream` with one event and holds it open, anything else at once."""

    def __init__(self):
        self.reader_went = asyncio.Event()

    async def answer(self, reader, writer):
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        if path == b"/stream":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            event = b"event: top\ndata: {}\n\n"
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await reader.read()
            self.reader_went.set()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def caddy(folder, upstream_port):
    """Caddy as compose.yaml starts it, for localhost and with ports that are free; gives (HTTP, HTTPS, CA file)."""
    (_, _, script) = configured(folder, COMPOSE_PROFILES="tls")["caddy"]["command"]
    http, https, inside = free_port(), free_port(), free_port()
    own = f"admin off\nskip_install_trust\nhttp_port {http}\nhttps_port {https}\n"
    script = script.replace("$$", "$").replace("admin off\n", own, 1)
    script = script.replace("gateway:8080", f"127.0.0.1:{upstream_port}").replace(":8081", f":{inside}")
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "TLS_DOMAIN": "localhost",
        "TLS_EMAIL": "ops@example.com",
    }
    process = await asyncio.create_subprocess_exec("sh", "-c", script, env=environment, stderr=asyncio.subprocess.PIPE)
    try:
        said = ""
        while not all(words in said for words in ("serving initial configuration", "certificate obtained success")):
            line = (await process.stderr.readline()).decode()
            assert line, said
            said += line
        yield http, https, inside, folder / "caddy/pki/authorities/local/root.crt"
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def certificate_in_use(port, context):
    """Caddy tells of a certificate a moment before it hands it out; until then it ends every handshake."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        except ssl.SSLError as error:
            if error.reason != "TLSV1_ALERT_INTERNAL_ERROR":
                raise
        else:
            writer.close()
            await writer.wait_closed()
            return


async def test_https(tmp_path):
    if not (BIN / "caddy").exists():
        pytest.skip("caddy is not installed in this environment")
    upstream = Upstream()
    async with await asyncio.start_server(upstream.answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with caddy(tmp_path, port) as (http, https, inside, authority):
            context = await asyncio.to_thread(ssl.create_default_context, cafile=authority)
            await certificate_in_use(https, context)
            async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=20) as client:
                answer = await client.get(f"https://localhost:{https}/healthz")
                assert answer.status_code == 200
                assert answer.headers["strict-transport-security"] == "max-age=31536000"

                answer = await client.get(f"http://localhost:{http}/v1/seasons/a?b=c")
                assert answer.status_code == 308
                assert answer.headers["location"].endswith("/v1/seasons/a?b=c")
                assert answer.headers["location"].startswith("https://localhost")

                # The health check's address.
                assert (await client.get(f"http://127.0.0.1:{inside}/healthz")).status_code == 200

                async with client.stream("GET", f"https://localhost:{https}/stream") as stream:
                    lines = stream.aiter_lines()
                    # While the upstream holds the stream open.
                    assert await anext(lines) == "event: top"
                    assert not upstream.reader_went.is_set()
                await upstream.reader_went.wait()

                server.close()
                answer = await client.get(f"https://localhost:{https}/healthz")
                assert answer.status_code == 502
                assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_https_needs_a_name(tmp_path):
    (_, _, script) = configured(tmp_path, COMPOSE_PROFILES="tls")["caddy"]["command"]
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("$$", "$")], env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "TLS_DOMAIN: set it in .env" in done.stderr


def test_the_image_has_the_library_that_a_setting_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {line.partition("==")[0] for line in (ROOT / "locks" / "runtime.txt").read_text().splitlines()}
    for needed in project["optional-dependencies"]["otel"]:
        assert needed.partition(">")[0] in locked
