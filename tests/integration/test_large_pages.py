"""Boards lie on large pages, where the kernel gives them to who asks."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PARTS = 32


def large_pages_kb(process_id):
    told = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    return int(re.search(r"AnonHugePages: +([0-9]+) kB", told)[1])


def reason_for_none():
    if platform.libc_ver()[0] != "glibc":
        return "not glibc: its malloc does not ask for large pages"
    if not ENABLED.exists() or "[never]" in ENABLED.read_text():
        return "this kernel gives large pages to nobody"
    return None


@pytest.mark.skipif(reason_for_none() is not None, reason=reason_for_none() or "")
async def test_a_board_lies_on_large_pages(own_valkey):
    async with Redis.from_url(own_valkey.url()) as redis:
        for part in range(PARTS):
            await redis.zadd("lb:{large}", {f"player-{part}-{n}": n for n in range(10_000)})
        used_kb = await redis.memory_usage("lb:{large}") / 1024
    assert large_pages_kb(own_valkey.running.pid) > used_kb / 2
