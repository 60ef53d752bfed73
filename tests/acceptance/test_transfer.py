"""`leaderboard export` and `import` as an operator starts them, and as machines end them."""

from __future__ import annotations

import csv
import gzip
import json
import signal

import psycopg
import pytest

from cli.score_files import CHUNK_LINES

PLAYERS = 20 * CHUNK_LINES

_FILL = """
insert into standings (season_id, epoch, user_id, score, token)
select 'board', 1, 'player-' || n, n, 1 from generate_series(1, 5000) as n
"""


@pytest.fixture
def ledger(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture
def servers_settings(dsn, servers, tmp_path):
    return {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url, "DATA_DIR": tmp_path / "data"}


@pytest.fixture
def leaderboard(program, servers_settings):
    """Run a command against this test's servers."""

    def run(*argv, code=0):
        done = program("cli", *map(str, argv), **servers_settings)
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done

    return run


def test_an_import_that_is_killed_goes_on_and_each_line_counts_once(
    start_program, servers_settings, ledger, leaderboard, tmp_path, until
):
    file = tmp_path / "scores.csv.gz"
    with gzip.open(file, "wt", newline="") as out:
        csv.writer(out).writerows([("userId", "score"), *((f"p{number}", 1) for number in range(PLAYERS))])
    command = ("import", str(file), "--season", "s")

    def until_it_waits():
        until(lambda: ledger.execute(_STOPPED).fetchone(), "it waits between the scores and how far it is")

    def started(chunks):
        """One of which so many chunks are committed, and of the next one no more than is before its progress."""
        process = start_program("cli", *command, "--aggregation", "sum", **servers_settings)
        for _ in range(chunks):
            until_it_waits()
            ledger.execute(_LET_ONE_CHUNK_BY)
        return process

    def counted():
        return ledger.execute("select lines, scores from imports").fetchone() + ledger.execute(_COUNTED).fetchone()

    ledger.execute(_STOP_BEFORE_PROGRESS_IS_NOTED)
    ledger.execute("select pg_advisory_lock(7)")
    waits = started(chunks=3)
    until_it_waits()
    waits.kill()
    waits.wait()
    ledger.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", (_SESSION,))
    until(lambda: not ledger.execute(_SESSIONS, (_SESSION,)).fetchone(), "its session is gone")
    lines, scores, in_ledger, in_outbox, players = counted()
    assert 2 * CHUNK_LINES < lines < PLAYERS
    assert lines - 1 == scores == in_ledger == in_outbox == players
    killed = started(chunks=1)  # with the next one at any point
    killed.kill()
    killed.wait()
    ledger.execute("select pg_advisory_unlock(7)")  # its session may wait there, and nobody is left to commit
    until(lambda: not ledger.execute(_SESSIONS, (_SESSION,)).fetchone(), "its session is gone")
    assert counted()[0] > lines
    lines, *_ = counted()
    ledger.execute("select pg_advisory_lock(7)")
    interrupted = started(chunks=1)
    until_it_waits()
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait() == 130
    ledger.execute("select pg_advisory_unlock(7)")
    done = json.loads(leaderboard(*command, "--json").stdout)
    assert lines < done["afterLine"] < PLAYERS
    assert (done["scores"], done["lines"], done["shown"]) == (PLAYERS - done["afterLine"] + 1, PLAYERS + 1, None)
    assert counted() == (PLAYERS + 1, *[PLAYERS] * 4)
    assert "nothing to do: scores.csv.gz is in season s" in leaderboard(*command).stdout
    assert counted() == (PLAYERS + 1, *[PLAYERS] * 4)


_COUNTED = """
select (select count(*) from score_events), (select count(*) from outbox), count(distinct user_id) from score_events
"""
_SESSION = "leaderboard-import"
_SESSIONS = "select 1 from pg_stat_activity where application_name = %s"
_STOPPED = "select 1 from pg_locks where locktype = 'advisory' and not granted"
# Locks are given in the order in which they were asked for: behind that chunk's, before the next one's.
_LET_ONE_CHUNK_BY = "select pg_advisory_unlock(7), pg_advisory_lock(7)"
_STOP_BEFORE_PROGRESS_IS_NOTED = """
create function stop() returns trigger language plpgsql set lock_timeout = 0 as $$ begin
  perform pg_advisory_xact_lock_shared(7);
  return new;
end $$;
create trigger stop before update on imports for each row execute function stop()
"""


def test_a_board_to_a_file_and_from_it(leaderboard, ledger, tmp_path, start_program, servers_settings, until):
    ledger.execute("insert into seasons (season_id) values ('board')")
    ledger.execute(_FILL)
    file = tmp_path / "board.ndjson.gz"
    assert f"{file}: 5,000 players" in leaderboard("export", "board", "--output", file).stdout
    about, *rows = map(json.loads, gzip.decompress(file.read_bytes()).splitlines())
    assert (about["seasonId"], about["players"], about["aggregation"]) == ("board", 5000, "sum")
    assert rows == [{"rank": 5001 - n, "userId": f"player-{n}", "score": n} for n in range(5000, 0, -1)]
    assert "exists; --force replaces it" in leaderboard("export", "board", "-o", file, code=2).stderr
    told = json.loads(leaderboard("export", "board", "-o", file, "--force", "--json").stdout)
    assert (told["players"], told["bytes"], told["file"]) == (5000, file.stat().st_size, str(file))
    table = leaderboard("export", "board", "--format", "csv").stdout
    assert table.splitlines()[:2] == ["rank,userId,score", "1,player-5000,5000"]
    assert "there is no season unknown" in leaderboard("export", "unknown", code=2).stderr
    assert "has no windows" in leaderboard("export", "board", "--window", "24h", code=1).stderr
    assert "--window must be one of" in leaderboard("export", "board", "--window", "1h", code=2).stderr
    done = leaderboard("import", file, "--season", "copy")
    assert "5,000 scores into season copy, epoch 1, which was made for it" in done.stdout
    assert ledger.execute("select sum(delta) from score_events where season_id = 'copy'").fetchone() == (12_502_500,)

    other = tmp_path / "other.csv"
    with ledger.transaction():
        ledger.execute("lock table hidden_players in access exclusive mode")
        waiting = start_program("cli", "export", "board", "-o", str(other), **servers_settings)
        until(lambda: ledger.execute(_WAITING).fetchone(), "it waits")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait() == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board.ndjson.gz"]


_WAITING = "select 1 from pg_locks where not granted"


def test_what_can_not_be_imported_is_told(leaderboard, tmp_path, ledger):
    file = tmp_path / "scores.csv"
    file.write_text("userId,score\nann,5\nbob,five\n")
    done = leaderboard("import", file, "--season", "s", "--aggregation", "best", code=1)
    assert "scores.csv: 1 line wrong, nothing was imported" in done.stderr
    assert "line 3: score must be a whole number within ±(2^53 - 1), not 'five'" in done.stderr
    assert ledger.execute("select count(*) from seasons").fetchone() == (0,)
    assert "there is no season s" in leaderboard("import", file, "--season", "s", "--skip-bad", code=2).stderr
    assert "season id must be" in leaderboard("import", file, "--season", "s/", code=2).stderr
    assert (
        "--order must be one of desc, asc"
        in leaderboard("import", file, "--season", "s", "--order", "up", code=2).stderr
    )
    assert "say --format ndjson or csv" in leaderboard("import", tmp_path / "x.txt", "--season", "s", code=2).stderr
    assert "can't read" in leaderboard("import", tmp_path / "x.csv", "--season", "s", code=2).stderr
    done = leaderboard("import", file, "--season", "s", "--aggregation", "best", "--skip-bad")
    assert "1 score into season s" in done.stdout
    assert "1 line left out" in done.stdout
    # An empty standard input.
    done = leaderboard("import", "-", "--format", "ndjson", "--season", "s")
    assert "standard input: 0 scores into season s" in done.stdout
