"""The schema: migrations equal the metadata, constraints hold, hot statements use the plans they were written for."""

from __future__ import annotations

import datetime as dt
from itertools import product

import psycopg
import pytest
from alembic import command
from psycopg import sql

from cli.migrations import alembic_config, migrate
from shared import (
    epoch_purges,
    epochs,
    erasure,
    events,
    final_ranks,
    ledger,
    ledger_check,
    outbox,
    outbox_review,
    overflows,
    sealing,
    seasons,
    setbacks,
    standings,
    window_minutes,
)
from shared.postgres import wait_for_schema
from shared.recounts import recounting
from shared.revision import REVISION, StaleSchemaError
from shared.scores import GAME_RULES, MAX_SCORE, PLAIN, Rules, Score


def test_the_migrations_lead_to_the_metadata(dsn):
    command.check(alembic_config(dsn))


def test_down_and_up_again(dsn):
    command.downgrade(alembic_config(dsn), "base")
    with psycopg.connect(dsn) as conn:
        tables = conn.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    assert tables == [("alembic_version",)]
    migrate(dsn)
    command.check(alembic_config(dsn))


async def test_another_revision_is_refused_with_the_command_that_mends_it(dsn):
    await wait_for_schema(dsn, 1)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("update alembic_version set version_num = '0000'")
        with pytest.raises(
            StaleSchemaError, match=f"at revision 0000, this build needs {REVISION}.*leaderboard migrate"
        ):
            await wait_for_schema(dsn, 1)
        # A later one is right: it was made so that this build can go on beside the next.
        conn.execute("update alembic_version set version_num = '9999'")
        await wait_for_schema(dsn, 1)
        conn.execute("drop table alembic_version")
        with pytest.raises(StaleSchemaError, match="at revision none"):
            await wait_for_schema(dsn, 1)


@pytest.mark.parametrize(
    "row",
    [
        ("s", "ann", MAX_SCORE + 1),
        ("s", "ann", -MAX_SCORE - 1),
        ("s", "", 1),
        ("s", "x" * 129, 1),
    ],
)
async def test_the_ledger_refuses_what_the_door_should_have_refused(pool, row):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        with pytest.raises(psycopg.IntegrityError):
            await ledger.append(conn, [Score(*row)])


MODERATED = """
insert into moderations (id, season_id, action, user_id, actor, reason)
select n, 's', 'erase', 'u' || n, '', '' from generate_series(1, 2000) as n
"""


@pytest.fixture
async def busy_outbox(pool):
    """An outbox as a worker finds it: a long tail of done events, a few pending ones."""
    async with pool.connection() as conn:
        await conn.execute("insert into seasons (season_id) values ('s')")
        await conn.execute(
            "insert into outbox (id, event_type, season_id, epoch, user_id, delta, status, processed_at)"
            " select n, 'score', 's', 1, 'u' || n, 1, case when n < 19000 then 'done' else 'pending' end, now()"
            " from generate_series(1, 20000) as n"
        )
        await conn.execute(
            "insert into score_events (season_id, epoch, user_id, delta)"
            " select 's', 5, 'u' || n, 1 from generate_series(1, 20000) as n"
        )
        await conn.execute("insert into standings select 's', 1, 'u' || n, n, 1 from generate_series(1, 20000) as n")
        await conn.execute(
            "insert into window_buckets (season_id, epoch, user_id, minute, score, reached_at, leaves_at)"
            " select 's', 5, 'u' || n, date_bin('1 minute', now(), 'epoch'), 1, now(), now() + n * interval '1 minute'"
            " from generate_series(-20, 20000) as n"
        )
        await conn.execute("vacuum analyze")
        yield conn


async def plan(conn, query, parameters):
    return "\n".join(row[0] for row in await (await conn.execute(f"explain {query}", parameters)).fetchall())


@pytest.fixture(params=["nothing", "all pending", "few pending"])
async def known_to_the_planner(request, pool):
    """What the statistics say, of an outbox with a backlog."""
    async with pool.connection() as conn:
        await conn.execute("alter table outbox set (autovacuum_enabled = off)")
        if request.param == "few pending":
            await conn.execute(_INSERT, ("done", 1, 20_000))
            await conn.execute("vacuum analyze outbox")
        await conn.execute(_INSERT, ("pending", 20_001, 40_000))
        if request.param == "all pending":
            await conn.execute("vacuum analyze outbox")
        yield conn


_INSERT = """
insert into outbox (id, event_type, season_id, epoch, user_id, delta, status)
select n, 'score', 's', 1, 'u' || n, 1, %s from generate_series(%s::int, %s::int) as n
"""


@pytest.mark.parametrize("kind", ["custom", "generic"])
async def test_the_claim_reads_the_index_of_pending_events_in_order(known_to_the_planner, kind):
    found = await plan_of_kind(
        known_to_the_planner,
        kind,
        outbox.CLAIM,
        {"floor bigint": "0", "paused text[]": "'{}'", "size bigint": "500", "again bigint": "500"},
    )
    assert "Index Scan using outbox_pending_idx" in found
    assert "Sort" not in found


@pytest.mark.parametrize("kind", ["custom", "generic"])
async def test_a_claim_of_a_share_does_so_too(known_to_the_planner, kind):
    found = await plan_of_kind(
        known_to_the_planner,
        kind,
        outbox.CLAIM_SHARE,
        {
            "shares int[]": "'{0,1}'",
            "again int[]": "'{0,1}'",
            "floor bigint": "0",
            "paused text[]": "'{}'",
            "floor_again bigint": "0",
            "paused_again text[]": "'{}'",
            "far bigint": "16000",
            "size bigint": "500",
        },
    )
    assert found.count("using outbox_pending_idx") == 2
    assert "Sort" not in found


async def plan_of_kind(conn, kind, query, parameters):
    """`parameters`: SQL of each value by name and type."""
    await conn.execute(f"set plan_cache_mode = force_{kind}_plan")
    types = sql.SQL(", ".join(name.split()[1] for name in parameters))
    numbered = sql.SQL(query.replace("%s", "{}")).format(*(sql.SQL(f"${n}") for n in range(1, len(parameters) + 1)))
    await conn.execute(sql.SQL("prepare asked ({}) as {}").format(types, numbered))
    explain = sql.SQL("explain execute asked ({})").format(sql.SQL(", ").join(map(sql.SQL, parameters.values())))
    found = "\n".join(row[0] for row in await (await conn.execute(explain)).fetchall())
    await conn.execute("deallocate asked")
    await conn.execute("reset plan_cache_mode")
    return found


async def test_the_sweep_reads_one_entry_of_an_index(busy_outbox):
    found = await plan(busy_outbox, outbox.LOWEST_PENDING, None)
    assert "outbox_pending_idx" in found
    assert "Seq Scan" not in found


@pytest.mark.parametrize("kind", ["custom", "generic"])
async def test_what_does_not_fit_is_found_by_keys(busy_outbox, kind):
    ids = f"'{{{','.join(map(str, range(19_000, 19_500)))}}}'"
    found = await plan_of_kind(busy_outbox, kind, overflows.OVERFLOWING, {"ids bigint[]": ids})
    assert not [table for table in ("outbox", "standings") if f"Seq Scan on {table}" in found], found


@pytest.mark.parametrize("table", ["standings", "window_buckets"])
async def test_the_purge_of_ended_epochs_walks_the_primary_key(busy_outbox, table):
    await busy_outbox.execute("update seasons set epoch = 5")
    await busy_outbox.execute("update standings set epoch = 5")
    await busy_outbox.execute("vacuum analyze")
    query = sql.SQL(seasons.PURGE).format(table=sql.Identifier(table)).as_string()
    found = await plan(busy_outbox, query, (2000, 2000))
    assert f"{table}_pkey" in found
    assert "Seq Scan on " + table not in found


@pytest.fixture
async def ended_epochs(busy_outbox):
    """Many of them, one of which is still to be purged; the other ones are archived."""
    await busy_outbox.execute("update seasons set epoch = 5001")
    await busy_outbox.execute("update score_events set epoch = case when id % 2 = 0 then 5 else id % 5000 + 1 end")
    await busy_outbox.execute(
        "insert into season_epochs (season_id, epoch, aggregation, sort_order, windows, tie_break, ended_at,"
        " next_began_at, reason, archived, sealed_at) select 's', n, 'sum', 'desc', false, 'member', now(), now(),"
        " 'reset', n <> 5, now() from generate_series(1, 5000) as n"
    )
    await busy_outbox.execute(
        "insert into final_ranks select 's', n % 2 * 4 + 1, n, 'u' || n, n from generate_series(1, 20000) as n"
    )
    await busy_outbox.execute("vacuum analyze")
    return busy_outbox


async def test_ledger_rows_and_final_ranks_are_purged_by_key(ended_epochs):
    """Whatever is archived beside them."""
    for table in ("score_events", "final_ranks"):
        found = await plan(ended_epochs, epoch_purges.purging(table).as_string(), (2000, 2000))
        assert "season_epochs_unpurged_idx" in found
        assert f"{table}_pkey" in found
        assert f"Seq Scan on {table}" not in found
    found = await plan(ended_epochs, epoch_purges.PURGE_UNNOTED, (2000, 2000, 2000))
    assert found.count("score_events_pkey") == 2
    assert "Seq Scan on score_events" not in found
    assert "Seq Scan on season_epochs" not in found
    found = await plan(ended_epochs, epoch_purges.NOTE, None)
    assert "Seq Scan" not in found


async def test_final_ranks_are_read_by_key(ended_epochs):
    found = await plan(ended_epochs, final_ranks.TOP, ("s", 1, 100, 1001))
    assert "Index Scan using final_ranks_pkey" in found
    assert "Sort" not in found
    for query, parameters in (
        (final_ranks.RANK, ("s", "u7", 1)),
        ("delete from final_ranks where season_id = %s and user_id = %s", ("s", "u7")),  # an erasure
    ):
        assert "final_ranks_season_id_user_id_epoch_idx" in await plan(ended_epochs, query, parameters)
    asked = {"season_id": "s", "epoch": 1, "user_id": "u8000", "size": 100}
    found = await plan(ended_epochs, final_ranks.AROUND, asked)
    assert "final_ranks_season_id_user_id_epoch_idx" in found
    assert "Index Scan Backward using final_ranks_pkey" in found
    assert "Index Scan using final_ranks_pkey" in found
    assert "Seq Scan" not in found
    found = await plan(ended_epochs, epochs.PAGE, ("s", 4000, 101))
    assert "season_epochs_pkey" in found
    assert "Sort" not in found


async def test_what_is_to_be_sealed_is_found_without_reading_what_is(ended_epochs):
    found = await plan(ended_epochs, sealing.UNSEALED_EPOCHS, None)
    assert "season_epochs_unsealed_idx" in found
    await ended_epochs.execute(ledger_check.NO_NESTED_LOOPS.replace("local ", ""))
    found = await plan(ended_epochs, sealing.QUIET, (["s"] * 100, list(range(100))))
    assert "outbox_pending_idx" in found
    assert "Seq Scan on outbox" not in found
    for aggregation in ("sum", "best", "latest"):
        claimed = sealing.Claimed("s", 5, Rules(aggregation), dt.datetime.now(dt.UTC), 0)
        found = await plan(ended_epochs, sealing.ranking(claimed).as_string(), None)
        assert "outbox_pending_idx" in found
        assert "outbox_failed_idx" in found
        assert "Seq Scan on outbox" not in found
        assert "Nested Loop" not in found
    await ended_epochs.execute("reset enable_nestloop")


async def test_the_purge_of_the_outbox_looks_at_no_more_than_its_limit(busy_outbox):
    found = await plan(busy_outbox, outbox.PURGE, (24, 0, 2000))
    assert "Limit" in found
    assert "Seq Scan" not in found


async def test_what_is_traced_is_found_by_key(busy_outbox):
    found = await plan(busy_outbox, outbox.TRACEPARENTS, (list(range(19_000, 19_500)), 20))
    assert "outbox_pkey" in found
    assert "Seq Scan" not in found


async def test_a_comparison_with_the_ledger_reads_no_more_of_the_outbox_than_what_does_not_count(busy_outbox):
    """Whatever the statistics say: here that nothing is pending, while a thousand events are."""
    await busy_outbox.execute("update outbox set status = 'done'")
    await busy_outbox.execute("vacuum analyze")
    await busy_outbox.execute("update outbox set status = 'pending' where id >= 19000")
    await busy_outbox.execute(ledger_check.NO_NESTED_LOOPS.replace("local ", ""))
    statements = (ledger_check.comparison, ledger_check.repair)
    for statement, aggregation, windows in product(statements, ("sum", "best", "latest"), (False, True)):
        fence = seasons.Fence("s", 5, 0, 1, Rules(aggregation, windows=windows))
        found = await plan(busy_outbox, statement(fence).as_string(), None)
        assert "outbox_pending_idx" in found
        assert "outbox_failed_idx" in found
        assert "Seq Scan on outbox" not in found
        assert "Nested Loop" not in found
    await busy_outbox.execute("reset enable_nestloop")


async def test_a_comparison_with_the_board_reads_standings_by_key(busy_outbox):
    found = await plan(busy_outbox, standings.page_of(PLAIN), ("s", "s", "u5", 100))
    assert "Index Scan using standings_pkey" in found
    assert "Sort" not in found
    found = await plan(busy_outbox, standings.players_of(PLAIN), ("s", "s", [f"u{number}" for number in range(100)]))
    assert "standings_pkey" in found
    assert "Seq Scan on standings" not in found


async def test_a_players_seasons_are_looked_up_by_key(busy_outbox):
    """Also where a season is nearly all that there is."""
    found = await plan(busy_outbox, standings.SEASONS_OF, ("", 10_000, "u5", 101))
    assert "Index Scan using standings_pkey" in found or "Index Only Scan using standings_pkey" in found
    assert "Seq Scan on standings" not in found


@pytest.mark.parametrize("kind", ["custom", "generic"])
async def test_what_became_of_events_is_found_by_key(busy_outbox, kind):
    """Also in a season of many epochs, and where it is nearly all that there is."""
    await busy_outbox.execute(
        "insert into score_events (season_id, epoch, user_id, delta)"
        " select 's', 6 + n, 'u' || m, 1 from generate_series(1, 20) as n, generate_series(1, 20) as m"
    )
    await busy_outbox.execute("vacuum analyze score_events")
    one, some = "'{100}'", f"'{{{','.join(map(str, range(100, 1100)))}}}'"
    many_seasons = f"'{chr(31).join(['s'] * 1000)}'"
    for query, parameters, tables in (
        (events.STATUSES, {"ids bigint[]": some}, ["outbox"]),
        (events.STATUSES, {"ids bigint[]": one}, ["outbox"]),
        (events.FIND_SCORE, {"sids text": "'s'", "ids bigint[]": one}, ["score_events", "outbox", "standings"]),
        (events.FIND_MODERATION, {"id bigint": "100", "sid text": "'s'"}, ["outbox"]),
        (events.KNOWN, {"sids text": many_seasons, "ids bigint[]": some}, ["score_events"]),
        (events.KNOWN, {"sids text": "'s'", "ids bigint[]": one}, ["score_events"]),
    ):
        found = await plan_of_kind(busy_outbox, kind, query, parameters)
        assert not [table for table in tables if f"Seq Scan on {table}" in found], found


@pytest.mark.parametrize("kind", ["custom", "generic"])
async def test_what_concerns_one_player_is_found_by_an_index(busy_outbox, kind):
    await busy_outbox.execute(MODERATED)
    await busy_outbox.execute("vacuum analyze moderations")
    await busy_outbox.execute("set enable_bitmapscan = on")  # as the API's sessions have it, and moderation
    last = str(2**63 - 1)
    for query, parameters in (
        (events.HISTORY, {"sid text": "'s'", "uid text": "'u5'", "before bigint": last, "size bigint": "50"}),
        *((query, {"uid text": "'u5'", "sid text": "'s'"}) for query in recounting(PLAIN) if query),
        *((query, {"uid text": "'u5'", "sid text": "'s'"}) for query in recounting(GAME_RULES)),
    ):
        found = await plan_of_kind(busy_outbox, kind, query, parameters)
        assert "Bitmap Index Scan on score_events_player_idx" in found
        assert not [table for table in ("score_events", "outbox", "standings") if f"Seq Scan on {table}" in found], (
            found
        )
        assert ("moderations_season_id_user_id_id_idx" in found) == (query == events.HISTORY)
    await busy_outbox.execute("reset enable_bitmapscan")


@pytest.mark.parametrize("query", [erasure.EVENTS, erasure.REMAIN])
async def test_of_a_large_history_a_part_is_found_by_the_index_wherever_it_is(busy_outbox, query):
    await busy_outbox.execute(
        "insert into score_events (season_id, epoch, user_id, delta)"
        " select 's', 5, case when n % 20 = 0 then 'much' else 'u' || n end, 1 from generate_series(1, 60000) as n"
    )
    await busy_outbox.execute("vacuum analyze score_events")
    await busy_outbox.execute("set enable_bitmapscan = on")  # as moderation has it
    asked = {"season_id": "s", "user_id": "much", "before": 2**62, "most": 5}
    found = await plan(busy_outbox, query, asked)
    await busy_outbox.execute("reset enable_bitmapscan")
    assert "Bitmap Index Scan on score_events_player_idx" in found
    assert "Seq Scan on score_events" not in found


async def test_what_operators_ask_of_pending_and_failed_events_comes_from_their_indexes(busy_outbox):
    await busy_outbox.execute("update outbox set status = 'failed', last_error = 'no' where id % 1000 = 1")
    await busy_outbox.execute(MODERATED)
    await busy_outbox.execute("vacuum analyze")
    for query, parameters in (
        (outbox.PENDING_PLAYERS, ("s", ["u1"])),
        (outbox_review.WAITING, None),
        (outbox_review.REASONS, (10,)),
        (outbox_review.FAILED, (None, None, 20)),
        (outbox_review.FAILED, ("s", "s", 20)),
        (setbacks.LOCK_FAILED, ("s", 500)),
        (setbacks.DISCARD_ENTRIES, ([1, 2, 3],)),
    ):
        assert "Seq Scan" not in await plan(busy_outbox, query, parameters), query


async def test_the_one_liner_of_the_operators(busy_outbox):
    rows = await (await busy_outbox.execute("select status, count(*) from outbox group by status")).fetchall()
    assert sorted(rows) == [("done", 18_999), ("pending", 1001)]


async def test_what_leaves_windows_is_found_by_when_it_does(busy_outbox):
    found = await plan(busy_outbox, window_minutes.DUE_SEASONS, ([], 1000))
    assert "window_buckets_leaves_at_idx" in found
    found = await plan(busy_outbox, window_minutes.CLAIM, (["s"], 1000))
    assert "window_buckets_leaves_at_idx" in found
    assert "Seq Scan on window_buckets" not in found
    assert "Seq Scan on standings" not in found
    found = await plan(busy_outbox, window_minutes.renewing(Rules("best", windows=True)), ("s", "u1"))
    assert "Index Scan using window_buckets_pkey" in found
    assert "Seq Scan on standings" not in found
