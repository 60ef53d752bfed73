"""What Prometheus' own tool thinks of observe/, and the gateway's rule for /metrics. Both need programs that are no
packages of Python: without promtool or HAProxy the tests are skipped."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from ports import free_port
from raw_http import connection_to

from cli.migrations import ROOT
from deploy.test_compose import configured

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")


@promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "--syntax-only", ROOT / "observe/prometheus.yml"],
        ["check", "rules", ROOT / "observe/alerts.yml"],
        ["test", "rules", Path(__file__).with_name("alerts_test.yml")],
    ],
    ids=["configuration", "rules", "what fires"],
)
def test_promtool(arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Api:
    """In place of an api container: it answers everything with 200, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    async def answer(self, reader, writer):
        with suppress(asyncio.IncompleteReadError):
            while True:
                self.asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


@asynccontextmanager
async def gateway(folder, api_port):
    """HAProxy as compose.yaml starts it, with a free port and one server; gives its URL."""
    (_, _, script) = configured(folder)["gateway"]["command"]
    port = free_port()
    # As many connections as any machine's limit of open files allows.
    script = re.sub(r"maxconn \d+", "maxconn 100", script.replace("$$", "$"))
    script = script.replace("bind :8080", f"bind 127.0.0.1:{port}")
    script = re.sub(r"server-template .*", f"server api 127.0.0.1:{api_port}", script)
    process = await asyncio.create_subprocess_exec("sh", "-c", script, stderr=asyncio.subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    try:
        while process.returncode is None:
            with suppress(ConnectionRefusedError):
                (await connection_to(url)).leave()
                break
            await asyncio.sleep(0)
        assert process.returncode is None, (await process.communicate())[1].decode()
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


@haproxy
async def test_the_gateway_passes_on_everything_but_metrics(tmp_path):
    hidden = ("/metrics", "/metrics?a=b", "/%6Detrics", "/%6detric%73?a", "http://api/metrics")
    passed = ("/healthz", "/v1/seasons/metrics", "/v1/seasons?a=/metrics")
    api = Api()
    async with await asyncio.start_server(api.answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with gateway(tmp_path, port) as url:
            connection = await connection_to(url)
            for target in (*hidden, *passed):
                connection.send(f"GET {target} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
                status, headers, body = await connection.answer()
                assert headers["content-type"] == "application/json"
                if target in hidden:
                    assert (status, body["code"], set(body)) == (404, "not_found", {"error", "code", "requestId"})
                else:
                    assert status == 200
            connection.leave()
    assert api.asked == [*passed]
