"""Group commit: who shares a flush, what each item gets back, who is refused and who is never flushed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import batcher as batcher_module
from shared.batcher import Batcher
from shared.errors import DeadlineError, OverloadedError

FOREVER = 60.0


class Gate:
    """A flush that tells when it began and goes on when it is opened; results are the items in upper case."""

    def __init__(self):
        self.batches = []
        self.open = asyncio.Event()
        self._began = asyncio.Queue()

    async def flush(self, items):
        self.batches.append(items)
        self._began.put_nowait(items)
        await self.open.wait()
        return [item.upper() for item in items]

    async def began(self):
        return await self._began.get()


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
async def let_pass(monkeypatch):
    """The loop's clock stands still, but for the seconds that the test lets pass: however slow the machine is."""
    loop = asyncio.get_running_loop()
    now = loop.time()

    def go_on(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(loop, "time", lambda: now)
    return go_on


def batcher_of(flush, *, max_batch=100, concurrency=1, max_waiting=100, deadline_seconds=FOREVER, **more):
    return Batcher(
        flush,
        max_batch=max_batch,
        concurrency=concurrency,
        max_waiting=max_waiting,
        deadline_seconds=deadline_seconds,
        **more,
    )


async def begun(batcher, items):
    """The items submitted, and their turn of the loop over."""
    tasks = [batcher.submit(item) for item in items]
    await one_turn()
    return tasks


async def one_turn():
    """Everything that can run now has run once."""
    await asyncio.sleep(0)


@given(st.lists(st.integers(), max_size=40), st.integers(1, 7), st.integers(1, 3), st.integers(0, 3))
def test_each_item_is_flushed_once_in_order_and_gets_its_own_result(items, max_batch, concurrency, turns):
    batches, under_way, most_under_way = [], 0, 0

    async def flush(batch):
        nonlocal under_way, most_under_way
        batches.append(batch)
        under_way += 1
        most_under_way = max(most_under_way, under_way)
        for _ in range(turns + len(batch) % 2):
            await one_turn()
        under_way -= 1
        return [("result of", item) for item in batch]

    async def scenario():
        batcher = batcher_of(flush, max_batch=max_batch, concurrency=concurrency)
        results = await asyncio.gather(*(batcher.submit(item) for item in items))
        await batcher.drain()
        return results

    assert asyncio.run(scenario()) == [("result of", item) for item in items]
    assert [item for batch in batches for item in batch] == items
    assert all(1 <= len(batch) <= max_batch for batch in batches)
    assert most_under_way <= concurrency


async def test_what_one_turn_of_the_loop_brings_shares_a_flush(gate):
    gate.open.set()
    batcher = batcher_of(gate.flush)
    assert await asyncio.gather(*(batcher.submit(item) for item in "abc")) == ["A", "B", "C"]
    assert gate.batches == [["a", "b", "c"]]


async def test_what_arrives_during_a_flush_shares_the_next(gate):
    batcher = batcher_of(gate.flush)
    first = await begun(batcher, "a")
    assert await gate.began() == ["a"]
    later = [task for item in "bcd" for task in await begun(batcher, item)]
    gate.open.set()
    assert await asyncio.gather(*first, *later) == ["A", "B", "C", "D"]
    assert gate.batches == [["a"], ["b", "c", "d"]]


async def test_flushes_run_beside_each_other_up_to_the_concurrency(gate):
    batcher = batcher_of(gate.flush, max_batch=2, concurrency=2)
    tasks = await begun(batcher, "abcdef")
    assert [await gate.began(), await gate.began()] == [["a", "b"], ["c", "d"]]
    await one_turn()
    assert len(gate.batches) == 2
    gate.open.set()
    assert await asyncio.gather(*tasks) == list("ABCDEF")


@pytest.mark.usefixtures("let_pass")
async def test_a_few_wait_for_the_flush_under_way_even_where_another_were_allowed(gate):
    batcher = batcher_of(gate.flush, concurrency=2)
    first = await begun(batcher, "a")
    await gate.began()
    later = await begun(batcher, "bc")
    for _ in range(20):
        await one_turn()
    assert gate.batches == [["a"]]
    gate.open.set()
    assert await asyncio.gather(*first, *later) == ["A", "B", "C"]
    assert gate.batches == [["a"], ["b", "c"]]


async def test_a_flush_that_is_slow_keeps_those_who_wait_no_longer(gate, let_pass):
    batcher = batcher_of(gate.flush, concurrency=2)
    first = await begun(batcher, "a")
    await gate.began()
    later = await begun(batcher, "bc")
    let_pass(batcher_module._PATIENCE_SECONDS)
    assert await gate.began() == ["b", "c"]
    gate.open.set()
    assert await asyncio.gather(*first, *later) == ["A", "B", "C"]


async def test_who_comes_back_within_a_few_turns_of_the_loop_shares_the_next_flush(gate):
    batcher = batcher_of(gate.flush)

    async def twice(item):
        first = await batcher.submit(item)
        for _ in range(3):  # its client hears of it, and answers
            await one_turn()
        return [first, await batcher.submit(item)]

    first = asyncio.create_task(twice("a"))
    await gate.began()
    second = await begun(batcher, "b")
    gate.open.set()
    assert await asyncio.gather(first, *second) == [["A", "A"], "B"]
    assert gate.batches == [["a"], ["b", "a"]]
    await batcher.drain()
    assert await batcher.submit("c") == "C"


LINGER = FOREVER / 4


async def settled():
    """As many turns of the loop as a flush that is to begin takes, and more."""
    for _ in range(20):
        await one_turn()


@pytest.mark.usefixtures("let_pass")
async def test_who_asks_alone_never_lingers(gate):
    batcher = batcher_of(gate.flush, linger_seconds=LINGER)
    gate.open.set()
    assert [await batcher.submit(item) for item in "abc"] == ["A", "B", "C"]
    await batcher.drain()


async def test_behind_a_flush_who_comes_lingers_for_as_many_as_came_together_lately(gate, let_pass):
    batcher = batcher_of(gate.flush, linger_seconds=LINGER)
    first = await begun(batcher, "a")
    await gate.began()
    lingering = await begun(batcher, "bc")
    gate.open.set()
    await asyncio.wait(first)
    await settled()
    assert gate.batches == [["a"]]
    lingering += await begun(batcher, "d")
    await asyncio.gather(*lingering)
    assert gate.batches == [["a"], ["b", "c", "d"]]
    late = await begun(batcher, "e")
    await settled()
    assert len(gate.batches) == 2
    let_pass(LINGER)
    assert await asyncio.gather(*late) == ["E"]
    await batcher.drain()


async def test_nobody_lingers_once_enough_wait(gate, let_pass):
    batcher = batcher_of(gate.flush, linger_seconds=LINGER)
    gate.open.set()
    await asyncio.gather(*await begun(batcher, "a" * 40))
    lingering = await begun(batcher, "b" * (batcher_module._ENOUGH - 1))
    await settled()
    assert len(gate.batches) == 1
    lingering += await begun(batcher, "c")
    await asyncio.gather(*lingering)
    let_pass(LINGER)
    await batcher.drain()


async def test_those_who_came_together_are_waited_for_no_longer_when_they_stay_away(gate, let_pass):
    batcher = batcher_of(gate.flush, linger_seconds=LINGER)
    gate.open.set()
    await asyncio.gather(*await begun(batcher, "ab"))
    for _ in range(batcher_module._LAST):
        alone = await begun(batcher, "c")
        await settled()
        assert not alone[0].done()
        let_pass(LINGER)
        await asyncio.gather(*alone)
    assert await batcher.submit("d") == "D"


async def test_the_end_of_the_process_waits_for_who_lingers_and_for_nobody_else(gate, let_pass):
    batcher = batcher_of(gate.flush, linger_seconds=LINGER)
    gate.open.set()
    await asyncio.gather(*await begun(batcher, "ab"))
    await batcher.drain()  # the clock stands still: what lingers now would do so for ever
    (late,) = await begun(batcher, "c")
    draining = asyncio.ensure_future(batcher.drain())
    await settled()
    assert not draining.done()
    let_pass(LINGER)
    await draining
    assert late.done()


async def test_each_item_has_a_deadline_of_its_own(gate, let_pass):
    batcher = batcher_of(gate.flush, clock=lambda: 0.0)
    first = await begun(batcher, "a")
    let_pass(FOREVER / 2)
    second = await begun(batcher, "b")
    let_pass(FOREVER / 2)
    await asyncio.wait(first)
    assert not second[0].done()
    let_pass(FOREVER / 2)
    await asyncio.wait(second)
    assert [type(task.exception()) for task in (*first, *second)] == [DeadlineError] * 2
    gate.open.set()
    await batcher.drain()
    assert await batcher.submit("c") == "C"


async def test_an_error_of_one_item_is_its_own():
    async def flush(items):
        return [ValueError(item) if item == "bad" else item for item in items]

    batcher = batcher_of(flush)
    results = await asyncio.gather(*map(batcher.submit, ["a", "bad", "b"]), return_exceptions=True)
    assert [results[0], results[2]] == ["a", "b"]
    assert isinstance(results[1], ValueError)
    assert results[1].args == ("bad",)


async def test_what_the_flush_raises_goes_to_all_of_its_items_and_to_no_other():
    async def flush(items):
        if "bad" in items:
            raise OSError("down")
        return items

    batcher = batcher_of(flush, max_batch=2)
    results = await asyncio.gather(*map(batcher.submit, ["a", "bad", "b"]), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError, str]
    assert await batcher.submit("again") == "again"


async def test_beyond_the_bound_an_item_is_refused_at_once(gate):
    batcher = batcher_of(gate.flush, max_waiting=2)
    tasks = await begun(batcher, "a")
    await gate.began()
    tasks += await begun(batcher, "bc")
    with pytest.raises(OverloadedError) as caught:
        await batcher.submit("d")
    assert (caught.value.status, caught.value.code, caught.value.retry_after_seconds) == (503, "overloaded", 1)
    gate.open.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert gate.batches == [["a"], ["b", "c"]]
    assert await batcher.submit("d") == "D"


async def test_an_item_whose_deadline_passed_before_its_flush_is_never_flushed(gate, let_pass):
    batcher = batcher_of(gate.flush, clock=lambda: 0.0)
    first = await begun(batcher, "a")
    await gate.began()
    late = await begun(batcher, "bc")
    let_pass(FOREVER)
    results = await asyncio.gather(*first, *late, return_exceptions=True)
    assert [type(result) for result in results] == [DeadlineError] * 3
    assert (results[0].status, results[0].code, results[0].retry_after_seconds) == (503, "deadline_exceeded", 1)
    gate.open.set()
    await batcher.drain()
    assert gate.batches == [["a"]]


async def test_who_gave_up_waiting_takes_no_place_in_the_queue(gate, let_pass):
    batcher = batcher_of(gate.flush, max_waiting=2, clock=lambda: 0.0)
    first = await begun(batcher, "a")
    await gate.began()
    late = await begun(batcher, "bc")
    let_pass(FOREVER)
    await asyncio.gather(*first, *late, return_exceptions=True)
    waiting = await begun(batcher, "de")
    gate.open.set()
    assert await asyncio.gather(*waiting, return_exceptions=True) == ["D", "E"]
    assert gate.batches == [["a"], ["d", "e"]]


async def test_a_cancelled_submitter_is_not_flushed_and_disturbs_nobody(gate):
    batcher = batcher_of(gate.flush)
    first = await begun(batcher, "a")
    await gate.began()
    cancelled, waiting = await begun(batcher, "bc")
    cancelled.cancel()
    await one_turn()
    gate.open.set()
    assert await asyncio.gather(*first, waiting) == ["A", "C"]
    assert gate.batches == [["a"], ["c"]]
    assert cancelled.cancelled()


async def test_a_submitter_cancelled_during_its_flush_does_not_take_the_others_along(gate):
    batcher = batcher_of(gate.flush)
    cancelled, waiting = await begun(batcher, "ab")
    await gate.began()
    cancelled.cancel()
    await one_turn()
    gate.open.set()
    assert await waiting == "B"
    assert cancelled.cancelled()


async def test_a_batch_of_which_nobody_waits_any_more_is_no_flush(gate):
    batcher = batcher_of(gate.flush)
    first = await begun(batcher, "a")
    await gate.began()
    cancelled = await begun(batcher, "bc")
    for task in cancelled:
        task.cancel()
    await one_turn()
    gate.open.set()
    await asyncio.gather(*first)
    await batcher.drain()
    assert gate.batches == [["a"]]
    assert await batcher.submit("d") == "D"


async def test_drain_waits_for_what_is_under_way_and_for_what_waits(gate):
    batcher = batcher_of(gate.flush, max_batch=1)
    tasks = await begun(batcher, "abc")
    await gate.began()
    draining = asyncio.create_task(batcher.drain())
    await one_turn()
    assert not draining.done()
    gate.open.set()
    await draining
    assert gate.batches == [["a"], ["b"], ["c"]]
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_drain_waits_for_a_flush_that_has_yet_to_begin(gate):
    gate.open.set()
    batcher = batcher_of(gate.flush)
    submitting = batcher.submit("a")
    draining = asyncio.create_task(batcher.drain())
    await draining
    assert gate.batches == [["a"]]
    assert await submitting == "A"


async def test_an_error_leaves_nothing_for_the_collector():
    async def flush(items):
        raise OSError(items)

    class Item:
        pass

    batcher = batcher_of(flush)
    item = Item()
    gone = weakref.ref(item)
    gc.disable()
    try:
        for submitted in (item, "the next one"):
            with contextlib.suppress(OSError):
                await batcher.submit(submitted)
        await batcher.drain()
        del item, submitted
        assert gone() is None
    finally:
        gc.enable()


async def test_drain_of_nothing_returns():
    async def flush(items):
        return items

    await batcher_of(flush).drain()


async def test_what_would_wait_for_half_its_deadline_is_refused_at_once_and_never_flushed(gate):
    now = 0.0
    batcher = batcher_of(gate.flush, max_batch=1, clock=lambda: now)
    (first,) = await begun(batcher, ["a"])
    await gate.began()
    now = FOREVER / 2 - 1
    (second,) = await begun(batcher, ["b"])
    now = FOREVER / 2
    with pytest.raises(OverloadedError, match="before this request's turn"):
        await batcher.submit("c")
    gate.open.set()
    assert await asyncio.gather(first, second) == ["A", "B"]
    # The flush that hung has ended: a free one takes whatever comes.
    assert await batcher.submit("d") == "D"
    assert gate.batches == [["a"], ["b"], ["d"]]
