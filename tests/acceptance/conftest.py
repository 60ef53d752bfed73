"""`leaderboard run` and its parts as the processes that an operator starts; nothing is looked at from inside.

What is awaited is polled for, with a deadline far beyond what it takes; nothing else measures time.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import httpx2
import psycopg
import pytest
from ports import free_port

from cli.migrations import ROOT
from shared.settings import Settings

_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.03


def until(probe, what, seconds=_PATIENCE_SECONDS):
    """What `probe` returns as soon as it is true; fails when that takes longer than `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() >= give_up_at:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(_POLL_SECONDS)
    return found


def environment(settings):
    """This process's, with no settings but the given ones, whatever the developer's shell or .env says of servers."""
    ours = {name.upper() for name in Settings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    return {**kept, "POSTGRES_DSN": "", "REDIS_URL": "", **{name: str(value) for name, value in settings.items()}}


class Process(SimpleNamespace):
    """One of /proc."""

    @classmethod
    def all(cls):
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    yield cls(
                        pid=int(folder.name),
                        parent=int((folder / "stat").read_text().rpartition(")")[2].split()[1]),
                        argv=(folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1],
                        cwd=str((folder / "cwd").readlink()),
                        environ=(folder / "environ").read_bytes().split(b"\0"),
                    )
                except OSError:
                    continue  # it ended, or is somebody else's


class Run:
    """`leaderboard run` on one data directory and one pair of ports; can be started again after its end."""

    def __init__(self, scratch, data_dir=None, **settings):
        self.data_dir = data_dir or scratch / f"run-{next(_numbers)}"
        self.settings = {
            "DATA_DIR": self.data_dir,
            "API_PORT": free_port(),
            "API_WORKERS": 2,
            "WORKER_HEALTH_PORT": free_port(),
            "LOG_FORMAT": "json",
            **settings,
        }
        self.url = f"http://127.0.0.1:{self.settings['API_PORT']}"
        self.process = None
        self._worker_url = f"http://127.0.0.1:{self.settings['WORKER_HEALTH_PORT']}"
        self._out, self._err = (Path(tempfile.mkstemp(dir=scratch, suffix=end)[1]) for end in (".out", ".err"))

    def start(self):
        """Start it; does not wait for anything."""
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", "run"],
                cwd=ROOT,
                env=environment(self.settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self

    def until_ready(self):
        """Return once it says on its standard output that it is ready."""
        until(lambda: "\n" in self.out or self.process.poll() is not None, "a ready line")
        assert self.process.poll() is None, self.err
        return self

    @property
    def out(self):
        return self._out.read_text()

    @property
    def err(self):
        return self._err.read_text()

    def processes(self):
        """All that belong to this data directory, by their environment, or, as PostgreSQL overwrites that, by where
        they work."""
        mark = f"DATA_DIR={self.data_dir}".encode()
        folders = tuple(str((self.data_dir / name).resolve()) for name in ("postgres", "valkey"))
        return [one for one in Process.all() if mark in one.environ or one.cwd.startswith(folders)]

    def parts(self, name):
        """Process ids of a part: postgres, valkey, worker, api, or api child."""
        found = self.processes()
        apis = [one.pid for one in found if one.parent == self.process.pid and one.argv[-2:] == ["-m", "api"]]
        if name == "api":
            return set(apis)
        if name == "api child":
            return {one.pid for one in found if one.parent in apis and "spawn_main" in " ".join(one.argv)}
        if name == "worker":
            return {one.pid for one in found if one.argv[-2:] == ["-m", "worker"]}
        program = {"postgres": "postgres", "valkey": "valkey-server"}[name]
        ours = [one for one in found if one.parent == self.process.pid and one.argv]
        return {one.pid for one in ours if Path(one.argv[0]).name.split()[0] == program}

    def end(self, number, times=1):
        """Send the signal, once or several times; returns the exit code."""
        for _ in range(times):
            self.process.send_signal(number)
        return self.process.wait(_PATIENCE_SECONDS)

    def until_refused(self):
        """The exit code of one that must not become ready."""
        until(lambda: self.process.poll() is not None or self.out, "an end")
        assert self.out == ""
        return self.process.wait(_PATIENCE_SECONDS)

    def until_nothing_is_left(self):
        until(lambda: not self.processes(), f"no process left of {self.data_dir}", seconds=15)

    def clean_up(self):
        """Whatever happened: no process, and no data that the servers keep elsewhere for root."""
        if self.process is not None:
            self.process.kill()  # first, or it would start the others again
            self.process.wait()
        for one in self.processes():
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        self.until_nothing_is_left()
        for name in ("postgres", "valkey"):
            link = self.data_dir / name
            if link.is_symlink():
                shutil.rmtree(link.resolve())

    def ask(self, method, path, **options):
        """The answer, None where the connection broke."""
        try:
            return httpx2.request(method, f"{self.url}{path}", trust_env=False, timeout=10, **options)
        except httpx2.TransportError:
            return None

    def ready(self):
        """Whether api and worker both say so."""
        try:
            answers = [httpx2.get(f"{url}/readyz", trust_env=False, timeout=10) for url in (self.url, self._worker_url)]
        except httpx2.TransportError:
            return False
        return [answer.status_code for answer in answers] == [200, 200]

    def stored(self, season, prefix):
        """Post one point for a player of a new name until it is taken; returns the name.

        A new name each time, because a score without a 202 may be stored all the same.
        """

        def name_taken():
            name = f"{prefix}-{next(_numbers)}"
            answer = self.ask("POST", f"/v1/seasons/{season}/scores", json={"userId": name, "delta": 1})
            return name if answer is not None and answer.status_code == 202 else None

        return until(name_taken, "a score is taken")

    def board(self, season):
        answer = self.ask("GET", f"/v1/seasons/{season}/leaderboard/top?limit=1000")
        if answer is None or answer.status_code != 200:
            return {}
        return {item["userId"]: item["score"] for item in answer.json()["items"]}

    def until_on_board(self, season, *names):
        """Return once each of the players stands there with one point."""
        until(lambda: dict.fromkeys(names, 1).items() <= self.board(season).items(), f"{names} on board {season}")


_numbers = itertools.count(1)


@contextmanager
def _cleaned_up(run):
    try:
        yield run
    finally:
        run.clean_up()


@pytest.fixture(scope="session", name="until")
def until_fixture():
    return until


@pytest.fixture
def make_run(scratch):
    """Make a Run with settings of its own, not yet started; what is left of it in the end is cleaned up."""
    with ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(_cleaned_up(Run(scratch, *args, **settings)))


@pytest.fixture(scope="module")
def _shared_run(scratch):
    with _cleaned_up(Run(scratch)) as run:
        yield run


@pytest.fixture
def stack(_shared_run):
    """A running stack that the tests of a module share; a test may end it or kill parts of it."""
    if _shared_run.process is None or _shared_run.process.poll() is not None:
        _shared_run.start()
    return _shared_run.until_ready()


@pytest.fixture
def start_program():
    """Start a Python module with arguments and settings; one that still runs in the end is killed."""
    with ExitStack() as stack:

        def start(*argv, **settings):
            process = subprocess.Popen(
                [sys.executable, "-m", *argv],
                cwd=ROOT,
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def program(start_program):
    """Run a Python module with arguments and settings to its end."""
    return lambda *argv, **settings: ended(start_program(*argv, **settings))


def ended(process):
    """The process with its output, once it ended."""
    out, err = process.communicate(timeout=_PATIENCE_SECONDS)
    return SimpleNamespace(name=process.args[-1], returncode=process.returncode, stdout=out, stderr=err)


@pytest.fixture
def at_once(start_program):
    """Run several programs with the same settings, beside each other, to their ends."""
    return lambda *argvs, **settings: [ended(one) for one in [start_program(*argv, **settings) for argv in argvs]]


@pytest.fixture
def api_and_worker(at_once):
    return lambda **settings: at_once(["api"], ["worker"], **settings)


@pytest.fixture
def empty_dsn(servers):
    """A database without any schema."""
    name = f"empty_{next(_numbers)}"
    with psycopg.connect(servers.dsn("postgres"), autocommit=True) as conn:
        conn.execute(f"create database {name}")
        yield servers.dsn(name)
        conn.execute(f"drop database {name} with (force)")
