"""Terraform where it is: its program, and the AWS provider in a folder (TF_PLUGIN_DIR, or where such folders usually
are). Nothing is downloaded. Without them the tests that need them are skipped, with the reason."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"
_PLUGIN_FOLDERS = (
    os.environ.get("TF_PLUGIN_DIR", ""),
    *sorted(map(str, Path("/opt").glob("*"))),
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


class Configuration:
    """A copy of terraform/, initialised with the provider."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(TERRAFORM, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        self._environment = {**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
        self._environment.pop("TF_DATA_DIR", None)
        done = self.run("init", "-input=false", f"-plugin-dir={_plugin_folder()}")
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *argv):
        """A command of Terraform that asks nothing of AWS."""
        return subprocess.run(
            ["terraform", *argv, "-no-color"],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )


class Rehearsal:
    """rehearsal.py in the background: one for all processes of a test run, which ends and cleans up with the run."""

    def __init__(self, config):
        worker = getattr(config, "workerinput", None)
        name = worker["testrunuid"] if worker else uuid.uuid4().hex
        self._run = os.getppid() if worker else os.getpid()
        self._folder = Path(tempfile.gettempdir()) / f"leaderboard-deploy-{name}"
        self._process = None

    def start(self):
        """Start it, unless this or another process has."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with (self._folder / "lock").open("w") as lock, (self._folder / "log").open("a") as log:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if (self._folder / "configuration").exists():
                return
            Configuration(self._folder / "configuration")
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    Path(__file__).with_name("rehearsal.py"),
                    self._folder,
                    str(self._run),
                    str(lock.fileno()),
                ],
                pass_fds=[lock.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def facts(self):
        """What it saw, once it is through."""
        self.start()
        with (self._folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        facts = self._folder / "facts.json"
        assert facts.exists(), (self._folder / "log").read_text()
        return json.loads(facts.read_text())


_REHEARSAL = pytest.StashKey[Rehearsal]()


def _rehearsal(config):
    if _REHEARSAL not in config.stash:
        config.stash[_REHEARSAL] = Rehearsal(config)
    return config.stash[_REHEARSAL]


def pytest_collection_modifyitems(items):
    """What waits for the rehearsal comes last."""
    items.sort(key=lambda item: "rehearsed" in getattr(item, "fixturenames", ()))


def pytest_collection_finish(session):
    """Starts the rehearsal before the first test: it mostly waits, two minutes, and other tests run meanwhile."""
    wanted = any("rehearsed" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly and _missing() is None:
        _rehearsal(session.config).start()


@pytest.fixture(scope="session")
def _terraform():
    if (reason := _missing()) is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def configuration(_terraform, tmp_path_factory):
    return Configuration(tmp_path_factory.mktemp("terraform") / "configuration")


@pytest.fixture(scope="session")
def rehearsed(_terraform, request):
    """The facts of the rehearsal."""
    return _rehearsal(request.config).facts()
