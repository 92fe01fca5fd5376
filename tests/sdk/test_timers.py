"""Timers of plain asyncio: durable sleeps, sent only once a handler is blocked."""

import asyncio
import math
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.core.protocol.session import Open
from perdure.sdk import Context, Service, app

from .fake_node import (
    Frame,
    InlineHost,
    Journal,
    attempt_of,
    error_of,
    frames_of,
    handler_of,
    input_frame,
    note,
    output_of,
    parsed,
    run_completion,
    start_frame,
    types_of,
)
from .fake_session import World

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]
SECOND = 1_000_000_000
START = 5 * SECOND


def begun(handler: Any, node_time_ns: int = 0) -> tuple[Any, list[Frame]]:
    """An attempt whose Input was recorded 5 seconds after 1970, and what it has sent."""
    host = InlineHost()
    host.time_ns = node_time_ns
    attempt, _ = attempt_of(handler_of(handler), "it", host)
    return attempt, frames_of(attempt.feed(Journal().opening(), START))


def woken(attempt: Any, completion_id: int, time_ns: int) -> list[Frame]:
    """What an attempt sends when a sleep of it is over."""
    return frames_of(attempt.feed(note(messages.SLEEP_COMPLETION, completion_id), time_ns))


def test_asyncio_sleep_is_a_durable_one() -> None:
    """It wakes by the time of the newest record, or by the node's clock when that shows more."""

    async def it(ctx: Context) -> float:
        await asyncio.sleep(1.5)
        return asyncio.get_running_loop().time()

    attempt, sent = begun(it)
    late, sent_late = begun(it, 100 * SECOND)

    assert parsed(sent[0]).wake_up_time == 6500
    assert parsed(sent_late[0]).wake_up_time == 101_500
    answer = woken(attempt, 1, 7 * SECOND)
    assert types_of(answer) == OUTPUT_END
    assert parsed(answer[0]).value.content == b"7.0"
    assert not late.ended


def test_sleep_is_counted_by_the_time_that_its_node_tells() -> None:
    """Whatever the greeting told, and what has passed here since is added."""

    async def it(ctx: Context) -> None:
        await asyncio.sleep(1.5)

    host = InlineHost()
    host.time_ns = 7200 * SECOND
    attempt, _ = attempt_of(handler_of(it), "it", host)
    attempt.told_time(10 * SECOND)
    host.time_ns += SECOND
    (sleep,) = frames_of(attempt.feed(Journal().opening(), START))
    assert parsed(sleep).wake_up_time == 12_500


def test_sleep_of_no_length_only_yields() -> None:
    """Nothing is recorded."""

    async def it(ctx: Context) -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.sleep(-1)
        return 1

    _attempt, sent = begun(it)

    assert types_of(sent) == OUTPUT_END


def test_timer_cancelled_before_the_handler_blocks_is_never_sent() -> None:
    """Most timeouts around local work are."""

    async def it(ctx: Context) -> int:
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(5, print).cancel()
        await ctx.run("step", lambda: 1)
        return 1

    _attempt, sent = begun(it)

    assert types_of(sent) == [messages.RUN_COMMAND]


def test_timeout_ends_what_takes_too_long() -> None:
    """By the sleep's completion; one that comes in time leaves the sleep behind."""

    async def it(ctx: Context) -> str:
        try:
            async with asyncio.timeout(2):
                await ctx.run("step", lambda: 1)
        except TimeoutError:
            return "late"
        await ctx.run("other", lambda: 1)
        return "in time"

    attempt, sent = begun(it)
    assert types_of(sent) == [messages.RUN_COMMAND, messages.SLEEP_COMMAND]
    assert parsed(sent[1]).wake_up_time == 7000
    assert parsed(woken(attempt, 2, 7 * SECOND)[0]).value.content == b'"late"'

    attempt, _ = begun(it)
    attempt.feed(run_completion(1, b"1"), 6 * SECOND)
    assert woken(attempt, 2, 7 * SECOND) == []
    answer = frames_of(attempt.feed(run_completion(3, b"1"), 8 * SECOND))
    assert parsed(answer[0]).value.content == b'"in time"'


@pytest.mark.parametrize("late", [True, False])
def test_wait_for_and_wait_take_timeouts(late: bool) -> None:
    """Both ways to an end."""

    async def it(ctx: Context) -> list[Any]:
        slow = asyncio.create_task(asyncio.sleep(10, "slow"))
        done, pending = await asyncio.wait([slow], timeout=1)
        found: list[Any] = [len(done), len(pending)]
        try:
            found.append(await asyncio.wait_for(asyncio.shield(slow), 2))
        except TimeoutError:
            found.append("late")
        return found

    attempt, sent = begun(it)
    wakes = [parsed(each).wake_up_time for each in sent]
    assert wakes == [6000, 15000]
    sent = woken(attempt, 1, 6 * SECOND)
    assert [parsed(each).wake_up_time for each in sent] == [8000]
    answer = woken(attempt, 3 if late else 2, 8 * SECOND)

    assert parsed(answer[0]).value.content == (b'[0,1,"late"]' if late else b'[0,1,"slow"]')


def test_timers_of_one_turn_share_one_clock_reading() -> None:
    """So that what is due together is due together."""

    async def it(ctx: Context) -> None:
        await asyncio.gather(*(asyncio.sleep(seconds) for seconds in (3, 1, 3)))

    _attempt, sent = begun(it)

    assert [parsed(each).wake_up_time for each in sent] == [8000, 6000, 8000]


def test_time_is_that_of_the_newest_record() -> None:
    """Not the machine's, and it never goes back."""

    async def it(ctx: Context) -> list[float]:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        for number in range(2):
            await ctx.run(f"s{number}", lambda: 0)
            times.append(loop.time())
        return times

    attempt, _ = begun(it, 100 * SECOND)
    attempt.feed(run_completion(1, b"0"), 9 * SECOND)
    answer = frames_of(attempt.feed(run_completion(2, b"0"), 8 * SECOND))

    assert parsed(answer[0]).value.content == b"[5.0,9.0,9.0]"


def test_timer_that_never_fires_is_none() -> None:
    """Infinity waits for nothing; what is no number is refused."""

    async def waits(ctx: Context) -> None:
        await asyncio.sleep(math.inf)

    async def it(ctx: Context) -> str:
        asyncio.get_running_loop().call_later(math.inf, print)
        with pytest.raises(ValueError, match="nan"):
            asyncio.get_running_loop().call_later(math.nan, print)
        return "ok"

    assert "deadlocked" in error_of(waits)
    assert output_of(it) == b'"ok"'


def test_as_completed_of_tasks_takes_a_timeout() -> None:
    """Tasks have an order; coroutines, which have none, are refused as ever."""

    async def it(ctx: Context) -> list[Any]:
        slow = asyncio.create_task(asyncio.sleep(9, 9))
        fast = asyncio.create_task(asyncio.sleep(1, 1))
        found: list[Any] = []
        try:
            for each in asyncio.as_completed([slow, fast], timeout=5):
                found.append(await each)  # noqa: PERF401 - it may be cut short
        except TimeoutError:
            found.append("late")
        return found

    attempt, sent = begun(it)
    wakes = [parsed(each).wake_up_time for each in sent]
    woken(attempt, wakes.index(6000) + 1, 6 * SECOND)
    answer = woken(attempt, wakes.index(10_000) + 1, 10 * SECOND)

    assert parsed(answer[0]).value.content == b'[1,"late"]'


def test_negative_and_huge_sleeps_have_a_time() -> None:
    """Now, and as far as a timedelta goes."""

    async def it(ctx: Context) -> None:
        ctx.sleep(timedelta(days=-1))
        ctx.sleep(timedelta.max)
        with pytest.raises(TypeError, match="timedelta"):
            ctx.sleep(5)  # type: ignore[arg-type]

    _attempt, sent = begun(it)

    assert parsed(sent[0]).wake_up_time == 5000
    assert parsed(sent[1]).wake_up_time > 10**16


def test_session_corrects_the_clock_by_the_greeting() -> None:
    """The node of these tests lives in 1970."""
    service = Service("Service")

    @service.handler("it")
    async def it(ctx: Context) -> None:
        await asyncio.sleep(1)

    async def main() -> Any:
        world = World(app([service]))
        listener = await world.listen("node:1")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1", drain_seconds=0))
            node = await world.node()
            await node.until(lambda: node.hello)
            opened = frame(messages.OPEN, msgspec.msgpack.encode(Open("Service", "it", 1, 1)))
            node.send((1, opened + start_frame(1) + input_frame(b"")))
            sent = await node.answer(1, 1)
            world.stop.set()
        await listener.close()
        return parsed(sent[0])

    assert 1000 < asyncio.run(main()).wake_up_time < 30_000
