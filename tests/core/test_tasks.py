"""TaskScope: no task outlives it, no exception is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.core.tasks import TaskScope


def scenario(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine as a test, and check that it leaves no task."""

    def run() -> None:
        async def main() -> None:
            async with asyncio.timeout(60):
                await test()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


async def fail(message: str = "failed", after: "asyncio.Event | None" = None) -> None:
    """Raise a ValueError."""
    if after is not None:
        await after.wait()
    raise ValueError(message)


async def forever(ended: list[str] | None = None) -> None:
    """Wait to be cancelled, and say so."""
    try:
        await asyncio.Event().wait()
    finally:
        # Ending may take a few turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)
        if ended is not None:
            ended.append("ended")


async def give(value: int) -> int:
    """Return a value after one turn."""
    await asyncio.sleep(0)
    return value


@scenario
async def test_leaving_waits_for_the_tasks() -> None:
    async with TaskScope("scope") as scope:
        tasks = [scope.spawn(give(number), name="give") for number in range(3)]
        assert len(scope) == 3

    assert [task.result() for task in tasks] == [0, 1, 2]
    assert len(scope) == 0


@scenario
async def test_tasks_are_named_after_their_scope() -> None:
    async with TaskScope("node-1") as scope:
        task = scope.spawn(give(1), name="sequencer")

        assert task.get_name() == "node-1/sequencer"


@scenario
async def test_failing_body_cancels_the_tasks_and_waits_for_them() -> None:
    ended: list[str] = []

    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(forever(ended), name="forever")
            await asyncio.sleep(0)
            raise KeyError

    with pytest.raises(KeyError):
        await owner()

    assert ended == ["ended"]


@scenario
async def test_failing_task_cancels_its_siblings_and_the_body() -> None:
    ended: list[str] = []

    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(forever(ended), name="forever")
            scope.spawn(fail(), name="fail")
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("body")

    with pytest.raises(ValueError, match="failed"):
        await owner()

    assert ended == ["body", "ended"]
    # The body's task itself is not cancelled any more.
    await asyncio.sleep(0)


@scenario
async def test_failure_while_leaving_is_raised() -> None:
    failing = asyncio.Event()

    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(forever(), name="forever")
            scope.spawn(fail(after=failing), name="fail")
            asyncio.get_running_loop().call_soon(failing.set)

    with pytest.raises(ValueError, match="failed"):
        await owner()


@scenario
async def test_first_failure_wins() -> None:
    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(fail("first"), name="first")
            scope.spawn(fail("second"), name="second")

    with pytest.raises(ValueError, match="first"):
        await owner()


@scenario
async def test_failing_body_names_the_task_that_failed_before() -> None:
    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(fail(), name="fail")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError from None

    with pytest.raises(KeyError) as failed:
        await owner()

    assert isinstance(failed.value.__cause__, ValueError)


@scenario
async def test_reported_failures_disturb_nobody() -> None:
    failures: list[BaseException] = []
    async with TaskScope("scope", on_failure=failures.append) as scope:
        scope.spawn(fail("first"), name="first")
        scope.spawn(fail("second"), name="second")
        task = scope.spawn(give(7), name="give")

    assert [str(failure) for failure in failures] == ["first", "second"]
    assert task.result() == 7


@scenario
async def test_cancelled_task_is_no_failure() -> None:
    failures: list[BaseException] = []
    for on_failure in (None, failures.append):
        async with TaskScope("scope", on_failure=on_failure) as scope:
            scope.spawn(forever(), name="forever")
            await asyncio.sleep(0)
            scope.cancel()

    assert failures == []


@scenario
async def test_cancelling_the_owner_ends_the_tasks_first() -> None:
    ended: list[str] = []

    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(forever(ended), name="forever")

    for turns in (1, 2, 3):
        task = asyncio.create_task(owner())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


@scenario
async def test_owner_that_is_cancelled_twice_still_waits_for_the_tasks() -> None:
    ended: list[str] = []

    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(slow_to_end(), name="slow")
            await asyncio.Event().wait()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("ended")

    task = asyncio.create_task(owner())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert ended == ["ended"]


@scenario
async def test_cancellation_from_outside_wins_over_a_failure() -> None:
    async def owner() -> None:
        async with TaskScope("scope") as scope:
            scope.spawn(fail(), name="fail")
            await asyncio.Event().wait()

    task = asyncio.create_task(owner())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The failure has just cancelled the body; now somebody else does, too.
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


@scenario
async def test_close_ends_a_scope_without_a_body() -> None:
    ended: list[str] = []
    scope = TaskScope("scope")
    scope.spawn(forever(ended), name="forever")
    await asyncio.sleep(0)
    await scope.close()
    await scope.close()

    assert ended == ["ended"]


@scenario
async def test_close_raises_the_first_failure_once() -> None:
    scope = TaskScope("scope")
    scope.spawn(fail(), name="fail")
    await scope.wait(30)
    with pytest.raises(ValueError, match="failed"):
        await scope.close()
    await scope.close()


@scenario
async def test_task_may_close_its_own_scope() -> None:
    ended: list[str] = []
    scope = TaskScope("scope")

    async def closer() -> None:
        await asyncio.sleep(0)
        await scope.close()
        ended.append("closer")

    scope.spawn(forever(ended), name="forever")
    await scope.spawn(closer(), name="closer")

    assert ended == ["ended", "closer"]


@scenario
async def test_wait_tells_whether_all_have_ended() -> None:
    scope = TaskScope("scope")
    assert await scope.wait(30)
    scope.spawn(give(1), name="give")
    assert await scope.wait(30)
    scope.spawn(forever(), name="forever")
    assert not await scope.wait(0.001)
    await scope.close()


@scenario
async def test_ended_scope_takes_no_task() -> None:
    async def unused() -> Any:
        raise AssertionError

    async with TaskScope("scope") as scope:
        pass
    # The coroutine is closed: it would warn otherwise that nobody awaited it.
    with pytest.raises(AssertionError, match="has ended"):
        scope.spawn(unused(), name="late")
