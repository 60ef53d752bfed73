"""(q) the disk of PostgreSQL or of Valkey is full: clear errors, nothing lost, and work goes on once there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import contextmanager

import pytest

from cli.embedded.account import server_account
from faults.load import get


@contextmanager
def small_disk(folder, megabytes):
    """A file system of that size at `folder`, from memory; where that is not allowed the test is skipped."""
    folder.mkdir(mode=0o711)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    try:
        account = server_account()
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """Take all the room there is; returns the file to delete."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024 * 1024))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


async def test_q_postgres_without_room(run):
    with small_disk(run.folder / "postgres", 400):
        async with run.under_load(postgres={"max_wal_size": "64MB", "min_wal_size": "32MB"}) as (stack, load):
            for _ in run.rounds(1, 6):
                await load.more(run.acks(300, 2000))
                filler = fill(run.folder / "postgres")
                before = load.unavailable
                while load.unavailable < before + 50:
                    await asyncio.sleep(0.01)
                # Reads need only Redis.
                status, _ = await get(stack.ports()[0], "/v1/seasons/s0/leaderboard/top")
                assert status == 200
                filler.unlink()
                await stack.until(asyncio.ensure_future(load.more(run.acks(300, 2000))))


async def test_q_valkey_without_room(run):
    with small_disk(run.folder / "valkey", 64):
        async with run.under_load() as (stack, load):
            for _ in run.rounds(1, 6):
                await load.more(run.acks(300, 2000))
                stack.workers[0].new_log()
                filler = fill(run.folder / "valkey")
                await stack.until_said(stack.workers[0], "MISCONF", "No space left")
                await load.more(run.acks(300, 2000))
                status, _ = await get(stack.ports()[0], "/v1/seasons/s0/leaderboard/top")
                assert status == 200
                assert await stack.ask("select count(*) from outbox where status = 'failed'") == 0
                filler.unlink()
                await stack.caught_up()
