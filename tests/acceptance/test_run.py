"""`leaderboard run` on a bare machine: what it prints, that it heals itself, and that its end leaves nothing behind.

The tests share one stack and its data; where one ended it, the next starts it again.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal

import pytest

PARTS = {"postgres": 1, "valkey": 1, "worker": 1, "api": 1, "api child": 2}


def test_one_ready_line_and_all_parts_run(stack):
    (line,) = stack.out.splitlines()
    assert line.startswith(f"ready: {stack.url} ")
    assert {name: len(stack.parts(name)) for name in PARTS} == PARTS
    answer = stack.ask("GET", "/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "redis": "ok", "postgres": "ok", "schema": "ok"}


def test_a_score_that_is_posted_stands_on_the_board(stack, until):
    answer = stack.ask("POST", "/v1/seasons/first/scores", json={"userId": "ann", "delta": 5})
    told = {"seasonId": "first", "userId": "ann", "eventId": "2", "queued": True}
    assert (answer.status_code, answer.json()) == (202, told)
    until(lambda: stack.board("first") == {"ann": 5}, "ann on the board")
    rank = stack.ask("GET", "/v1/seasons/first/leaderboard/rank?userId=ann")
    assert rank.json() == {
        "seasonId": "first",
        "userId": "ann",
        "rank": 1,
        "score": 5,
        "percentile": 100.0,
        "totalPlayers": 1,
    }


def test_passwords_are_for_their_owner_alone(stack):
    memory = stack.data_dir / "stack.json"
    assert memory.stat().st_mode & 0o777 == 0o600
    passwords = [value for name, value in json.loads(memory.read_text()).items() if name.endswith("password")]
    assert len(passwords) == 2
    told = stack.out + stack.err + " ".join(word for one in stack.processes() for word in one.argv)
    assert not [password for password in passwords if password in told]


def test_psql_shows_the_outbox(stack, program, until):
    stack.until_on_board("psql", stack.stored("psql", "ann"))
    query = "select status, count(*) > 0 from outbox where season_id = 'psql' group by status"

    def shown():
        return program("cli", "psql", "-X", "-A", "-t", "-c", query, DATA_DIR=stack.data_dir)

    until(lambda: shown().stdout == "done|t\n", "the score is done")
    assert shown().returncode == 0


def test_demo_replays_a_file_and_prints_its_sums(stack, program, tmp_path):
    rows = [("1999", f"u{n % 7}", n % 5 + 1, "1999-01-01T00:00:00Z") for n in range(300)]
    rows += [("2000", "ann", 3, "2000-01-01T00:00:00Z"), ("2000", "ann", -5, "2000-01-02T00:00:00Z")]
    file = tmp_path / "events.csv.gz"
    with gzip.open(file, "wt", newline="") as lines:
        csv.writer(lines).writerows([("season", "user_id", "delta", "occurred_at"), *rows])
    done = program("cli", "demo", "--base-url", stack.url, "--file", str(file), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["events"] == len(rows)
    sums = {name: sum(row[2] for row in rows if row[:2] == ("1999", name)) for name in {f"u{n}" for n in range(7)}}
    assert {row["userId"]: row["score"] for row in told["boards"]["1999"]} == sums
    assert told["boards"]["2000"] == [{"rank": 1, "userId": "ann", "score": -2}]


def test_a_second_run_on_the_same_data_is_refused(stack, make_run):
    before = {name: stack.parts(name) for name in PARTS}
    second = make_run(data_dir=stack.data_dir).start()
    assert second.until_refused() == 1
    assert "another `make run` uses" in second.err
    assert str(stack.data_dir) in second.err
    assert "Traceback" not in second.err
    assert {name: stack.parts(name) for name in PARTS} == before
    second.clean_up = lambda: None  # what there is of the data directory is the first one's
    assert stack.ready()


def test_a_run_on_the_port_of_another_is_refused(stack, make_run, dsn, servers):
    """The other one answers on that port, and says that it is ready."""
    second = make_run(API_PORT=stack.settings["API_PORT"], POSTGRES_DSN=dsn, REDIS_URL=servers.redis_url).start()
    assert second.until_refused() == 1
    assert str(stack.settings["API_PORT"]) in second.err
    second.until_nothing_is_left()
    assert stack.ready()


@pytest.mark.parametrize("victim", PARTS)
def test_a_part_that_is_killed_comes_back(stack, until, victim):
    before = stack.stored("killed", f"before-{victim}")
    old, *_ = all_old = sorted(stack.parts(victim))
    gone = {old} | (stack.parts("api child") if victim == "api" else set())
    os.kill(old, signal.SIGKILL)
    until(lambda: len(stack.parts(victim)) == len(all_old) and old not in stack.parts(victim), f"a new {victim}")
    until(stack.ready, "ready again")
    until(lambda: {name: len(stack.parts(name)) for name in PARTS} == PARTS, "all parts run")
    after = stack.stored("killed", f"after-{victim}")
    stack.until_on_board("killed", before, after)
    assert stack.process.poll() is None
    until(lambda: not gone & {one.pid for one in stack.processes()}, "the old ones are gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_stopped_it_leaves_no_process_behind_and_loses_nothing(stack, number):
    shown = stack.stored("stopped", "shown")
    stack.until_on_board("stopped", shown)
    stored = stack.stored("stopped", "stored")
    before = {**stack.board("stopped"), stored: 1}
    assert stack.end(number) == 0
    assert stack.processes() == []
    assert stack.out.splitlines()[1:] == ["stopped"]
    assert "Traceback" not in stack.err
    stack.start().until_ready()
    stack.until_on_board("stopped", *before, stack.stored("stopped", "after"))


def test_killed_it_takes_its_parts_along_and_the_next_run_has_the_same_boards(stack, until):
    """Started again at once, while the parts of the one before are still on their way out."""
    shown = stack.stored("killed-whole", "shown")
    stack.until_on_board("killed-whole", shown)
    stored = stack.stored("killed-whole", "stored")
    old = {one.pid for one in stack.processes()}
    assert stack.end(signal.SIGKILL) == -signal.SIGKILL
    stack.start().until_ready()
    stack.until_on_board("killed-whole", shown, stored, stack.stored("killed-whole", "after"))
    until(lambda: not old & {one.pid for one in stack.processes()}, "the old ones are gone")


def test_killed_and_left_alone_nothing_of_it_runs_on(stack):
    stack.end(signal.SIGKILL)
    stack.until_nothing_is_left()


def test_an_impatient_second_signal_leaves_nothing_behind_either(stack):
    assert stack.end(signal.SIGINT, times=2) == 0
    stack.until_nothing_is_left()
