"""Terraform where it is: its program, and the AWS provider in a folder (TF_PLUGIN_DIR, or where such folders usually
are). Nothing is downloaded. Without them the tests that need them are skipped, with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"
_PLUGIN_FOLDERS = (
    os.environ.get("TF_PLUGIN_DIR", ""),
    "/opt/tf-plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    str(Path.home() / ".terraform.d/plugins"),
)
_PROVIDER = "registry.terraform.io/hashicorp/aws/*/*/terraform-provider-aws*"


def _plugin_folder():
    """The first folder with the AWS provider in it, None where there is none."""
    return next((folder for folder in _PLUGIN_FOLDERS if folder and any(Path(folder).glob(_PROVIDER))), None)


def _missing():
    if shutil.which("terraform") is None:
        return "terraform is not installed"
    if _plugin_folder() is None:
        return "no folder with Terraform's AWS provider: `terraform providers mirror` makes one, TF_PLUGIN_DIR names it"
    return None


class Deployment:
    """A copy of terraform/ with its provider, and in the background the rehearsal of its life."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="leaderboard-deploy-"))
        self._configuration = self.folder / "configuration"
        shutil.copytree(TERRAFORM, self._configuration, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        self._environment = {**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
        self._environment.pop("TF_DATA_DIR", None)
        self._rehearsal = None
        done = self.terraform("init", "-input=false", f"-plugin-dir={_plugin_folder()}")
        assert done.returncode == 0, done.stdout + done.stderr

    def terraform(self, *argv):
        """Run a command of Terraform that asks nothing of AWS."""
        command = ["terraform", *argv, "-no-color"]
        return subprocess.run(
            command, cwd=self._configuration, env=self._environment, capture_output=True, text=True, check=False
        )

    def start_rehearsal(self):
        if self._rehearsal is None:
            with (self.folder / "rehearsal.log").open("w") as log:
                self._rehearsal = subprocess.Popen(
                    [sys.executable, Path(__file__).with_name("rehearsal.py"), self.folder],
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def facts(self):
        self.start_rehearsal()
        assert self._rehearsal.wait() == 0, (self.folder / "rehearsal.log").read_text()
        return json.loads((self.folder / "facts.json").read_text())

    def clean_up(self):
        if self._rehearsal is not None:
            self._rehearsal.communicate()
        shutil.rmtree(self.folder)


_DEPLOYMENT = pytest.StashKey[Deployment]()


def _deployment(config):
    if _DEPLOYMENT not in config.stash:
        config.stash[_DEPLOYMENT] = Deployment()
    return config.stash[_DEPLOYMENT]


def pytest_collection_finish(session):
    """Starts the rehearsal before the first test: it mostly waits, two minutes, and other tests run meanwhile."""
    wanted = any("rehearsed" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly and _missing() is None:
        _deployment(session.config).start_rehearsal()


def pytest_unconfigure(config):
    if (deployment := config.stash.get(_DEPLOYMENT, None)) is not None:
        deployment.clean_up()


@pytest.fixture(scope="session")
def deployment(request):
    if (reason := _missing()) is not None:
        pytest.skip(reason)
    return _deployment(request.config)


@pytest.fixture(scope="session")
def rehearsed(deployment):
    """The facts of the rehearsal, once it has ended."""
    return deployment.facts()
