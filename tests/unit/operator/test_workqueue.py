"""The work queue, on the event loop's own clock."""

import asyncio

from ragtenancy_operator.workqueue import RETRY, WorkQueue


async def test_a_key_that_waits_is_there_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.wake("a", cause="test")
    queue.wake("a", cause="test")
    assert await queue.take() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_a_key_woken_while_it_runs_runs_again_after_and_not_beside() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.wake("a", cause="test")
    assert await queue.take() == "a"
    queue.wake("a", cause="test")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.take() == "a"


async def test_the_earlier_of_two_delays_holds() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.wake("a", after=30, cause="test")
    queue.wake("a", after=0.01, cause="test")
    async with asyncio.timeout(5):
        assert await queue.take() == "a"
    queue.done("a")
    assert len(queue) == 0
    assert queue._promote() is None


async def test_waking_at_once_overtakes_a_delay() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.wake("a", after=30, cause="test")
    queue.wake("a", cause="test")
    assert await queue.take() == "a"
    queue.done("a")
    assert queue._promote() is None


async def test_backoff_grows_per_key_and_is_bounded() -> None:
    queue: WorkQueue[str] = WorkQueue(base_seconds=1, longest_seconds=8)
    delays = [queue.fail("a") for _ in range(10)]
    assert all(
        0.8 * want <= got <= 1.2 * want for got, want in zip(delays, [1, 2, 4, 8], strict=False)
    )
    assert max(delays) <= 8 * 1.2
    assert queue.fail("b") <= 1.2
    queue.succeed("a")
    assert queue.fail("a") <= 1.2


async def test_what_woke_a_key_is_kept_for_its_pass_each_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for cause in ("resync", "event", "event", "another"):
        queue.wake("a", cause=cause)
    assert queue.state("a").waiting == ("resync", "event", "another")
    await queue.take()
    assert queue.causes("a") == ("resync", "event", "another")
    queue.wake("a", cause="meanwhile")
    state = queue.state("a")
    assert (state.running, state.waiting) == (queue.causes("a"), ("meanwhile",))


async def test_causes_that_are_remembered_are_bounded() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number in range(1000):
        queue.wake("a", cause=f"event {number}")
    assert queue.state("a").waiting == tuple(f"event {number}" for number in range(8))


async def test_a_delayed_key_keeps_its_cause_and_says_when_it_is_due() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.fail("a")
    state = queue.state("a")
    assert state.failures == 1
    assert state.due is not None and 0 < state.due <= 0.12
    async with asyncio.timeout(5):
        await queue.take()
    assert queue.causes("a") == (RETRY,)
