"""`make bench` on the smallest boards: it measures everything it is told to, and a wrong answer fails it."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext, suppress
from dataclasses import replace

import pytest
from redis import Redis
from redis.exceptions import RedisError

from acceptance.conftest import ended
from bench.checks import Checker
from bench.population import Board
from bench.wrong import BrokenError
from cli.embedded.memory import remembered
from cli.embedded.valkey import embedded_url
from shared import keys

_SMALLEST = ["--rounds", "1", "--seconds", "0.2", "--players", "300", "--sizes", "10"]
_RATES = ["post", "batch", "drain"]
_MORE = ["freshness", "sizes"] if shutil.which("wrk") else ["freshness"]  # k6 takes two seconds for a fifth of one


@pytest.fixture
def folder(scratch, tmp_path_factory):
    """Where a run keeps what it deletes in the end; the servers' user can pass through."""
    folder = scratch / tmp_path_factory.mktemp("bench").name
    folder.mkdir()
    folder.chmod(0o711)
    return folder


def test_measures_and_checks_what_it_is_told_to(program, folder, tmp_path):
    only = ",".join([*_RATES, *_MORE])
    done = program("bench", *_SMALLEST, "--only", only, "--out", tmp_path, "--json", TMPDIR=folder)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "bench.json").read_text())
    assert [figure["name"] for figure in found["figures"]] == _RATES
    assert all(figure["rate"]["median"] > 0 and figure["ratio"]["median"] > 0 for figure in found["figures"])
    assert [level["share"] for level in found["freshness"]] == [0, 0.2, 0.5, 0.8]
    assert all(level["probes"] > 0 for level in found["freshness"])
    sizes = {(size["question"], size["size"]) for size in found["sizes"]}
    assert sizes == ({("rank", 10), ("around", 10), ("top100", 10)} if "sizes" in _MORE else set())
    assert found["checks"]["ledger_rows"] > 300
    assert found["checks"]["answers"] > 0
    assert list(folder.iterdir()) == []


def test_a_wrong_answer_fails_it(start_program, folder, tmp_path, until):
    settings = {"TMPDIR": folder, "SCRUB_PLAYERS_PER_SECOND": 0}  # a worker would put it right before it is noticed
    run = start_program("bench", *_SMALLEST, "--only", "drain", "--out", tmp_path, **settings)
    board = keys.board("board")

    def falsified():
        """One player gets a point that the ledger does not know of."""
        for data_dir in folder.iterdir():
            memory = remembered(data_dir)
            if memory is not None:
                url = embedded_url(memory.valkey_port, memory.valkey_password)
                with suppress(RedisError), Redis.from_url(url) as redis:
                    return redis.zadd(board, {"p00000003": 1}, xx=True, incr=True)
        return None

    until(lambda: falsified() or run.poll() is not None, "a board to falsify")

    done = ended(run)
    assert done.returncode == 1, done.stderr
    assert "p00000003" in done.stderr
    assert not (tmp_path / "bench.json").exists()


def _off_by_one(answer):
    answer["items"][2]["score"] += 1


def _swapped(answer):
    answer["items"][0], answer["items"][1] = answer["items"][1], answer["items"][0]


def _one_missing(answer):
    del answer["items"][3]


def _of_another_season(answer):
    answer["seasonId"] = "other"


class _Told:
    """A service of five players that answers every top with what `change` makes of the right answer."""

    board = Board("five", 5)

    def __init__(self, change):
        players = map(self.board.at_rank, range(1, 6))
        items = [{"userId": self.board.user_id(number), "score": self.board.score(number)} for number in players]
        self.answer = {"seasonId": "five", "items": items}
        change(self.answer)

    async def get(self, path):
        assert path.startswith("/v1/seasons/five/leaderboard/top?")
        return self.answer


@pytest.mark.parametrize("change", [_off_by_one, _swapped, _one_missing, _of_another_season])
async def test_sees_what_is_wrong_in_an_answer(change):
    with pytest.raises(BrokenError):
        await Checker(_Told(change)).top(_Told.board, 10)


@pytest.mark.parametrize(("written", "wrong"), [(False, True), (True, False)])
async def test_takes_a_few_more_points_for_right_only_where_points_were_added(written, wrong):
    board = replace(_Told.board, written=written)
    with pytest.raises(BrokenError) if wrong else nullcontext():
        await Checker(_Told(_off_by_one)).top(board, 10)


def test_a_scenario_that_does_not_exist_is_refused(program):
    done = program("bench", "--only", "top10,nonsense")

    assert done.returncode == 2
    assert "nonsense" in done.stderr
