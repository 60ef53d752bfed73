"""What Prometheus' own tool thinks of observe/, and the gateway's rule for /metrics. Both need programs that are no
packages of Python: without promtool or HAProxy the tests are skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cli.migrations import ROOT

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
