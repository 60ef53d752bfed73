"""The running service, with its worker, asked what its OpenAPI document allows and forbids: schemathesis, all phases.

The seed is printed. More of it: OPENAPI_EXAMPLES=2000 (per operation), another draw: OPENAPI_SEED=…
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from conftest import serving
from own_worker import working
from pydantic import SecretStr
from receiver import SECRET

from api.app import create_app

HERE = Path(__file__).parent
SEED = os.environ.get("OPENAPI_SEED", "20261124")
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "60"))

KEY = "the-admin-key-of-this-test"

NOT_CHECKED = [
    "use_after_free",  # a season that was deleted is an empty board, not a 404
]


@pytest.mark.timeout(400 + EXAMPLES)
async def test_the_service_keeps_to_its_document(settings, tmp_path, eventually, truth):
    # The worker has no secret of webhooks: nothing is sent to the receivers that are made up here.
    keyed = settings.model_copy(update={"admin_key": SecretStr(KEY), "webhook_secret": SecretStr(SECRET)})
    async with serving(create_app(keyed)) as base_url, working(settings):
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", HERE / "schemathesis.toml"),
            "run",
            f"{base_url}/openapi.json",
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--exclude-checks", ",".join(NOT_CHECKED)),
            *("--seed", SEED, "--max-examples", str(EXAMPLES)),
            *("--generation-database", "none", "--request-timeout", "20", "--no-color", "--warnings", "off"),
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        await eventually("select 1 from outbox where status = 'pending'", gone=True)
    sys.stdout.write(f"OPENAPI_SEED={SEED} OPENAPI_EXAMPLES={EXAMPLES}\n{out.decode()}")
    assert process.returncode == 0
    await truth()
