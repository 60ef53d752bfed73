"""What examples/ and the README show, run as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from ports import free_port

from cli.migrations import ROOT


def walk(base_url):
    return subprocess.run(
        [ROOT / "examples" / "curl.sh"],
        env={**os.environ, "BASE_URL": base_url},
        capture_output=True,
        text=True,
        check=False,
    )


with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")


@with_curl
def test_the_walk_with_curl_shows_each_command_and_its_answer(stack):
    done = walk(stack.url)
    assert (done.returncode, done.stderr) == (0, "")
    commands = re.findall(r"^\$ curl .*\n.+", done.stdout, flags=re.MULTILINE)
    asked = re.findall(r"^(?:call|refused) ", (ROOT / "examples" / "curl.sh").read_text(), flags=re.MULTILINE)
    assert len(commands) == len(asked) > 20
    assert done.stdout.count("idempotent-replayed: true") == 1
    for code in ("invalid_delta", "not_on_board", "season_closed", "windows_off"):
        assert f'"code":"{code}"' in done.stdout
    answers = dict(re.findall(r"^\$ curl .*-arena/leaderboard/(\S+)'\n(.+)", done.stdout, flags=re.MULTILINE))
    recent = [{"rank": 1, "userId": "bob", "score": 700}, {"rank": 2, "userId": "cid", "score": 700}]
    assert json.loads(answers["top?window=24h"])["items"] == recent
    assert [player["userId"] for player in json.loads(answers["top?window=3d"])["items"]] == ["ann", "bob", "cid"]
    games = re.findall(r'^{"game_id":.*"leaders":(\[.*\]),', done.stdout, flags=re.MULTILINE)
    assert [[player["user_id"] for player in json.loads(leaders)] for leaders in games] == [[43, 42], [42]]
    assert done.stdout.endswith('"items":[],"totalPlayers":0,"nextCursor":null}\n')


@with_curl
def test_the_walk_stops_where_there_is_no_service():
    done = walk(f"http://127.0.0.1:{free_port()}")
    assert done.returncode != 0
    assert done.stdout.count("$ curl") == 1


def lines_of(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(("example", "page"), [("python", "README.md"), ("season_end", "docs/client.md")])
def test_a_python_example_runs_and_is_what_is_shown(stack, program, example, page):
    done = program(f"examples.{example}", stack.url)
    assert done.returncode == 0, done.stderr
    text = (ROOT / page).read_text(encoding="utf-8")
    ((shown, printed),) = re.findall(r"```python\n((?:(?!```).)*)```\n\n```\n(.*?)```", text, flags=re.DOTALL)
    assert done.stdout == printed
    code = lines_of((ROOT / "examples" / f"{example}.py").read_text(encoding="utf-8"))
    assert [line for line in lines_of(shown) if line not in code] == []
