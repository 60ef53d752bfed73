"""The service of one scenario: its own PostgreSQL and Valkey, api and worker processes, each a real program that can be
killed, stopped and started again; where a scenario asks for it, with proxies between them.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import psycopg
from ports import free_port
from redis.asyncio import Redis
from window_calls import boards_in, let_pass

from cli.embedded import process
from cli.embedded.account import server_account
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.valkey import EmbeddedValkey
from cli.migrations import migrate
from faults.part import Part
from faults.proxy import Proxy
from faults.servers import PASSWORD, Servers
from shared.scores import Rules
from shared.windows import BOARDS


class Stack(Servers):
    def __init__(self, folder, *, apis=2, workers=2, settings=None, postgres=None, valkey=None, proxied=()):
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder, free_port(), PASSWORD, server_account(), postgres or {})
        self.valkey = EmbeddedValkey(folder, free_port(), PASSWORD, server_account(), valkey or {})
        self.apis, self.workers, self.proxies = [], [], {}
        self._counts = {"api": apis, "worker": workers}
        self._settings = settings or {}
        self._proxied = proxied
        self._environments = {}
        self._exits = AsyncExitStack()

    async def __aenter__(self):
        try:
            await self._open()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_):
        await self._exits.aclose()

    async def _open(self):
        self._exits.push_async_callback(self._end_servers)
        self.valkey.running, self.postgres.running = await asyncio.gather(self.valkey.start(), self.postgres.start())
        await asyncio.to_thread(migrate, self.postgres.dsn())
        self.conn = await self.connect()
        self._exits.push_async_callback(self._close_connection)
        # By port, so that a Valkey that takes over another's port is the same to it.
        self.redis = Redis.from_url(self.valkey.url(), decode_responses=True, protocol=3, socket_timeout=5)
        self._exits.push_async_callback(self.redis.aclose)
        for link in self._proxied:
            port = self.postgres._port if link.endswith("postgres") else self.valkey._port
            self.proxies[link] = await self._exits.enter_async_context(Proxy(("127.0.0.1", port)))
        self._exits.push_async_callback(self._end_parts)
        for module, parts in (("api", self.apis), ("worker", self.workers)):
            environment = self._environments[module] = {
                "POSTGRES_DSN": self._through(f"{module}-postgres", self.postgres._port, self.postgres.dsn()),
                "REDIS_URL": self._through(f"{module}-redis", self.valkey._port, self.valkey.url()),
                "API_WORKERS": 1,
                "LOG_LEVEL": "info",
                "LOG_FORMAT": "json",
                "AUDIT_INTERVAL_MS": 200,
                "OUTBOX_POLL_MS": 20,
                "SCRUB_PLAYERS_PER_SECOND": 0,  # or it would mend what the fence must not let happen
                **self._settings,
            }
            parts += [Part(self, module, number, environment) for number in range(self._counts[module])]
            await asyncio.gather(*(part.start() for part in parts))
        await asyncio.gather(*(part.until_serving() for part in (*self.apis, *self.workers)))

    def _through(self, link, port, url):
        return url.replace(f":{port}/", f":{self.proxies[link].port}/") if link in self.proxies else url

    async def _end_parts(self):
        await asyncio.gather(*(part.kill() for part in (*self.apis, *self.workers)))

    async def _end_servers(self):
        for server in (self.valkey, self.postgres):
            if getattr(server, "running", None) is not None:
                await process.stop(server.program, server.running, 10)

    async def _close_connection(self):
        await self.conn.close()

    async def connect(self):
        return await psycopg.AsyncConnection.connect(
            self.postgres.dsn(), autocommit=True, application_name="leaderboard-test"
        )

    def ports(self):
        """API processes that a client may try: a load balancer would have noticed those that are gone."""
        alive = [part.port for part in self.apis if part.running.returncode is None]
        return alive or [part.port for part in self.apis]

    async def ask(self, query, *parameters):
        """The first column of the first row."""
        found = await self.rows(query, *parameters)
        return found[0][0] if found else None

    async def rows(self, query, *parameters):
        """All rows; over a new connection as long as the server recovers from what was done to it."""
        while True:
            try:
                if self.conn.closed:
                    self.conn = await self.connect()
                return await (await self.conn.execute(query, parameters or None)).fetchall()
            except psycopg.OperationalError:
                await self.conn.close()
                await asyncio.sleep(0.02)  # the scenario's time limit bounds this

    async def drained(self):
        """Return once nothing is pending; the scenario's time limit bounds it."""
        while await self.ask("select exists (select from outbox where status = 'pending')"):
            await asyncio.sleep(0.01)  # PostgreSQL has no event for this

    async def boards(self):
        """What Redis shows: {(season, window): [(player, score), …]}, the best first; window None = of all time."""
        boards = {}
        query = "select season_id, aggregation, sort_order, windows, tie_break from seasons"
        for season_id, *rules in await self.rows(query):
            shown = await boards_in(self.redis, season_id, Rules(*rules))
            boards |= {(season_id, window): board for window, board in zip(BOARDS, shown, strict=False)}
        return boards

    async def judged(self, history, patience_seconds=30.0):
        """The verdict once everything is drained and audited; a board that is still wrong after the patience is wrong.

        What is due to leave a window by then must have left it. Neither audit nor sweep has an event that says that it
        went round, so the judge looks until it is content.
        """
        await self.drained()
        as_of = await self.ask("select clock_timestamp()")
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_seconds
        while True:
            verdict = await history.judge(self.rows, await self.boards(), as_of)
            if not verdict.notes or loop.time() > give_up_at:
                return verdict
            await asyncio.sleep(0.05)

    async def minutes_until_due(self, share):
        """How many minutes must pass until this share of what windows show is due to leave one."""
        query = """
        select coalesce(ceil(extract(epoch from percentile_disc(%s) within group (order by leaves_at) - now()) / 60), 0)
        from window_buckets join seasons using (season_id, epoch)
        """
        return max(1, int(await self.ask(query, share)))

    async def let_pass(self, load, minutes):
        """Let whole minutes pass for all that is stored, while nothing is sent and no batch or sweep is under way.

        No worker may be stopped in the middle of one.
        """
        async with load.paused(), await self.connect() as conn, conn.transaction():
            # In the order in which batches lock: those under way end first, those that begin wait.
            for table in ("outbox", "seasons"):
                await conn.execute(f"lock table {table} in exclusive mode")
            await let_pass(conn, self.redis, minutes)
            load.history.let_pass(minutes)

    async def minutes_due(self):
        """How many minutes of players are due to leave a window and have not left it."""
        return await self.ask("select count(*) from window_buckets where leaves_at <= now()")

    async def swept(self):
        """Return once nothing that is due is left; the scenario's time limit bounds it."""
        while await self.minutes_due():
            await asyncio.sleep(0.01)

    async def end_worker_sessions(self):
        query = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s"
        await self.ask(query, "leaderboard-worker")

    async def add_worker(self):
        """One more worker, serving."""
        part = Part(self, "worker", len(self.workers), self._environments["worker"])
        self.workers.append(part)
        await part.start()
        await part.until_serving()
        return part

    async def until_stopped(self, part):
        """Return once a fault point has stopped the process."""
        while part.state() != "T":
            assert part.running.returncode is None, part.log()
            await asyncio.sleep(0.005)  # the kernel tells nobody but the parent's wait, which asyncio does not ask

    async def until_said(self, part, *lines):
        """Return once the process has logged one of the lines since it was last started or looked at."""
        said = ""
        while not any(line in (said := said + part.new_log()) for line in lines):
            assert part.running.returncode is None, part.log()
            await asyncio.sleep(0.01)

    async def caught_up(self):
        """Return once everything accepted until now has been shown."""
        newest = await self.ask("select coalesce(max(id), 0) from outbox")
        while await self.ask("select exists (select from outbox where status = 'pending' and id <= %s)", newest):
            await asyncio.sleep(0.01)

    def logs(self):
        return "\n".join(f"--- {part.name}\n{part.log()}" for part in (*self.apis, *self.workers))
