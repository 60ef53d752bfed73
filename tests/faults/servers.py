"""What is done to the two servers of a scenario: killed, restarted, cut short, replaced by a replica that lags."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress

from ports import free_port
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from cli.embedded import process
from cli.embedded.account import server_account
from cli.embedded.valkey import EmbeddedValkey
from faults.proxy import Proxy

PASSWORD = "test"  # on loopback, for the length of a scenario


class Servers:
    """The half of a `Stack` that is about its servers: `postgres`, `valkey` and a client of it, `redis`."""

    async def kill_postgres(self):
        self.postgres.running.kill()
        await self.postgres.running.wait()

    async def start_postgres(self):
        self.postgres.running = await self.postgres.start()

    async def until(self, task):
        """What the task returns; PostgreSQL is started again where it gives up meanwhile, as its supervisor would."""
        while not task.done():
            if self.postgres.running.returncode is not None:
                await self.start_postgres()
            await asyncio.wait([task], timeout=0.1)
        return task.result()

    async def restart_postgres(self):
        """As an operator does: sessions are ended, a checkpoint is written."""
        await process.stop(self.postgres.program, self.postgres.running, 30)
        await self.start_postgres()

    async def kill_backend(self, rng):
        """One of the service's sessions; PostgreSQL then ends all others and recovers from its log."""
        pids = await self.rows("select pid from pg_stat_activity where application_name ~ 'leaderboard-(api|worker)'")
        with suppress(ProcessLookupError):
            os.kill(rng.choice(pids)[0], signal.SIGKILL)

    async def kill_valkey(self):
        self.valkey.running.kill()
        await self.valkey.running.wait()
        await self.redis.connection_pool.disconnect()

    async def start_valkey(self):
        self.valkey.running = await self.valkey.start()

    async def pad_valkey(self):
        """More to load, once: it looks up every 1,024 commands only."""
        if await self.redis.exists("padding:0"):
            return
        async with self.redis.pipeline(transaction=False) as pipe:
            for number in range(20_000):
                pipe.set(f"padding:{number}", number)
            await pipe.execute()

    async def start_loading_valkey(self):
        """Start it so that it takes its time to load; returns the task that ends when it is through."""
        # Microseconds per command: a big data set without its gigabytes.
        self.valkey._settings["key-load-delay"] = "200"
        loading = asyncio.ensure_future(self.valkey.start())

        busy = False
        while not busy:
            assert not loading.done(), "it was through before anybody could see it load"
            with suppress(RedisConnectionError):
                try:
                    await self.redis.ping()
                except BusyLoadingError:
                    busy = True

        async def loaded():
            self.valkey.running = await loading
            del self.valkey._settings["key-load-delay"]

        return asyncio.ensure_future(loaded())

    async def start_replica(self):
        """A second Valkey that follows ours, in step with it by now, and the proxy that it follows through."""
        folder = self.folder / f"replica-{free_port()}"
        folder.mkdir(mode=0o711)
        link = await self._exits.enter_async_context(Proxy(("127.0.0.1", self.valkey._port)))
        follow = {"replicaof": f"127.0.0.1 {link.port}", "masterauth": PASSWORD}
        replica = EmbeddedValkey(folder, free_port(), PASSWORD, server_account(), follow)
        replica.running = await replica.start()
        self._exits.push_async_callback(process.stop, replica.program, replica.running, 10)
        while (await self.redis.info("replication")).get("slave0", {}).get("state") != "online":
            await asyncio.sleep(0.01)  # Valkey has no event for this
        return replica, link

    async def promote(self, replica):
        """The replica is ours from now on, with what it has."""
        await self.redis.aclose()
        self.valkey = replica
        self.redis = Redis.from_url(replica.url(), decode_responses=True, protocol=3, socket_timeout=5)
        self._exits.push_async_callback(self.redis.aclose)
        await self.redis.execute_command("REPLICAOF", "NO", "ONE")

    def append_only_files(self):
        return sorted((self.valkey.program.cwd / "appendonlydir").glob("*.incr.aof"))

    def lose_append_only_file(self):
        shutil.rmtree(self.valkey.program.cwd / "appendonlydir")

    def truncate_append_only_file(self, size):
        """Cut up to `size` bytes off its end, as a kernel that lost power would have."""
        *_, newest = self.append_only_files()
        os.truncate(newest, max(0, newest.stat().st_size - size))
