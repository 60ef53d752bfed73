"""`make bench` on the smallest boards: it measures everything it is told to, and a wrong answer fails it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from redis import Redis
from redis.exceptions import RedisError

from acceptance.conftest import ended
from cli.embedded.memory import remembered
from cli.embedded.valkey import embedded_url
from shared import keys

_SMALLEST = ["--rounds", "1", "--seconds", "0.2", "--players", "300", "--sizes", "10"]
_RATES = ["post", "batch", "drain"]


@pytest.fixture
def folder(scratch, tmp_path_factory):
    """Where a run keeps what it deletes in the end; the servers' user can pass through."""
    folder = scratch / tmp_path_factory.mktemp("bench").name
    folder.mkdir()
    folder.chmod(0o711)
    return folder


def test_measures_and_checks_what_it_is_told_to(program, folder, tmp_path):
    only = ",".join([*_RATES, "freshness", "sizes"])
    done = program("bench", *_SMALLEST, "--only", only, "--out", tmp_path, "--json", TMPDIR=folder)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "bench.json").read_text())
    assert [figure["name"] for figure in found["figures"]] == _RATES
    assert all(figure["rate"]["median"] > 0 and figure["ratio"]["median"] > 0 for figure in found["figures"])
    assert [level["share"] for level in found["freshness"]] == [0, 0.2, 0.5, 0.8]
    assert all(level["probes"] > 0 for level in found["freshness"])
    assert {(size["question"], size["size"]) for size in found["sizes"]} == {
        ("rank", 10),
        ("around", 10),
        ("top100", 10),
    }
    assert found["checks"]["ledger_rows"] > 300
    assert found["checks"]["answers"] > 0
    assert list(folder.iterdir()) == []


def test_a_wrong_answer_fails_it(start_program, folder, tmp_path, until):
    settings = {"TMPDIR": folder, "SCRUB_PLAYERS_PER_SECOND": 0}  # a worker would put it right before it is noticed
    run = start_program("bench", *_SMALLEST, "--only", "sizes", "--out", tmp_path, **settings)
    board = keys.board("size:10")

    def falsified():
        """One player gets a point that the ledger does not know of."""
        for data_dir in folder.iterdir():
            memory = remembered(data_dir)
            if memory is not None:
                url = embedded_url(memory.valkey_port, memory.valkey_password)
                with suppress(RedisError), Redis.from_url(url) as redis:
                    return redis.zadd(board, {"p00000003": 1}, xx=True, incr=True)
        return None

    until(falsified, "a board to falsify")

    done = ended(run)
    assert done.returncode == 1, done.stderr
    assert "p00000003" in done.stderr
    assert not (tmp_path / "bench.json").exists()


def test_a_scenario_that_does_not_exist_is_refused(program):
    done = program("bench", "--only", "top10,nonsense")

    assert done.returncode == 2
    assert "nonsense" in done.stderr
