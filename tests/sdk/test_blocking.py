"""Handlers that are a `def`: the same commands and replays, in a thread of a bounded pool."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.core.protocol.session import Open
from perdure.sdk import Context, ObjectContext, Service, TerminalError, VirtualObject, app
from perdure.sdk.attempt import Attempt
from perdure.sdk.blocking import BlockingContext
from perdure.sdk.extensions import current_context

from .fake_node import (
    CANCEL,
    INVOCATION_ID,
    SUSPEND,
    Frame,
    Journal,
    input_frame,
    note,
    parsed,
    signal,
    start_frame,
    types_of,
)
from .fake_session import World
from .thread_host import Host, handler_of, with_host

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]
HOUR = timedelta(hours=1)
callee = Service("Callee")


@callee.handler()
async def greet(ctx: Context, name: str) -> str:
    return name


def test_methods_of_the_context_wait_themselves() -> None:
    """State, steps, sleeps, calls, sends, awakeables: in the order of the program."""
    thing = VirtualObject("Thing")

    @thing.handler()
    def it(ctx: BlockingContext, amount: int) -> list[Any]:
        assert threading.current_thread() is not threading.main_thread()
        ctx.set("c", ctx.get("c") + amount)
        doubled = ctx.run("double", lambda: amount * 2)
        ctx.sleep(timedelta(seconds=1))
        answer = ctx.service_call(greet, "Bob")
        handle = ctx.service_send(greet, "Ann")
        sent_to = handle.invocation_id()
        _id, awakeable = ctx.awakeable()
        return [ctx.key(), doubled, answer, sent_to, awakeable.result(), ctx.fence]

    async def main(host: Host) -> tuple[list[Frame], list[Frame]]:
        journal = Journal(b"2", state={"c": b"5"})
        opening = journal.opening()
        attempt = Attempt(thing.handlers["it"], host)
        host.feed(attempt, opening)
        answers = {
            4: note(messages.RUN_COMPLETION, 2, value=b"4"),
            5: note(messages.SLEEP_COMPLETION, 3),
            6: note(messages.CALL_COMPLETION, 5, value=b'"Hello Bob"'),
            7: note(messages.CALL_INVOCATION_ID, 6, invocation_id="inv_x"),
        }
        for count, answer in answers.items():
            await host.frames(attempt, count)
            host.feed(attempt, answer)
        await host.until(lambda: attempt.blocking is not None and not attempt.blocking.busy)
        host.feed(attempt, signal(17, value=b'"done"'))
        live = await host.frames(attempt, 9)

        order = [0, 1, 2, "n4", 4, "n5", 5, "n6", 6, "n7"]
        for each in order:
            part = answers[int(each[1:])] if isinstance(each, str) else frame(*live[each])
            journal.entries.append(part)
        journal.entries.append(signal(17, value=b'"done"'))
        again = host.begin(thing.handlers["it"], journal)
        return live, await host.frames(again, 2)

    live, replayed = with_host(main)

    assert types_of(live) == [
        messages.GET_EAGER_STATE_COMMAND,
        messages.SET_STATE_COMMAND,
        messages.RUN_COMMAND,
        messages.PROPOSE_RUN_COMPLETION,
        messages.SLEEP_COMMAND,
        messages.CALL_COMMAND,
        messages.ONE_WAY_CALL_COMMAND,
        *OUTPUT_END,
    ]
    assert parsed(live[-2]).value.content == b'["",4,"Hello Bob","inv_x","done",[0,0]]'
    assert replayed == live[-2:]


def test_handler_without_commands_and_one_that_fails() -> None:
    """Results, terminal errors, mistakes and malformed input are as in an `async def`."""

    def adds(ctx: BlockingContext, amount: int) -> int:
        context = current_context()
        assert context is not None
        return amount + 1

    def fails(ctx: BlockingContext, amount: int) -> int:
        raise TerminalError("no", 418)

    def errs(ctx: BlockingContext, amount: int) -> int:
        raise ValueError("a mistake")

    async def main(host: Host) -> list[Any]:
        found = []
        for function, body in ((adds, b"1"), (fails, b"1"), (adds, b'"x"'), (errs, b"1")):
            attempt = host.begin(handler_of(function), Journal(body))
            found.append(parsed((await host.frames(attempt, 1))[0]))
        return found

    added, failed, malformed, error = with_host(main)

    assert added.value.content == b"2"
    assert failed.failure.code == 418
    assert malformed.failure.code == 400
    assert "a mistake" in error.message
    assert "test_blocking.py" in error.stacktrace


def test_cancellation_comes_out_of_the_call_that_waits() -> None:
    """And the handler may compensate."""

    def it(ctx: BlockingContext) -> str:
        try:
            ctx.sleep(HOUR)
        except TerminalError as error:
            ctx.run("compensate", lambda: None)
            return f"{error.status_code}"
        return "slept"

    async def main(host: Host) -> list[Frame]:
        attempt = host.begin(handler_of(it))
        await host.frames(attempt, 1)
        host.feed(attempt, CANCEL)
        await host.frames(attempt, 3)
        host.feed(attempt, note(messages.RUN_COMPLETION, 2, value=b""))
        return await host.frames(attempt, 5)

    sent = with_host(main)

    assert types_of(sent)[-2:] == OUTPUT_END
    assert parsed(sent[-2]).value.content == b'"409"'


def test_suspension_unwinds_the_thread() -> None:
    """By an exception that `except Exception` lets by; clean-up runs, commands are refused."""
    seen: list[str] = []

    def it(ctx: BlockingContext) -> None:
        try:
            ctx.sleep(HOUR)
        except Exception:
            seen.append("swallowed")
            raise
        finally:
            try:
                ctx.service_send(greet, "x")
            except BaseException as error:
                seen.append(type(error).__name__)

    async def main(host: Host) -> list[Frame]:
        attempt = host.begin(handler_of(it))
        await host.frames(attempt, 1)
        host.feed(attempt, SUSPEND)
        sent = await host.frames(attempt, 2)
        async with asyncio.timeout(60):
            while not seen:
                await asyncio.sleep(0.001)
        return sent

    sent = with_host(main)

    assert types_of(sent) == [messages.SLEEP_COMMAND, messages.SUSPENSION]
    assert list(parsed(sent[1]).waiting_completions) == [1]
    assert seen == ["AttemptEnded"]


def test_waiting_handlers_make_room_for_others() -> None:
    """With one thread: the one that waits suspends, the next one runs in its place."""

    def waits(ctx: BlockingContext) -> None:
        ctx.sleep(HOUR)

    def answers(ctx: BlockingContext) -> int:
        return 1

    async def main(host: Host) -> tuple[list[int], list[int], int]:
        first = host.begin(handler_of(waits))
        await host.frames(first, 1)
        second = host.begin(handler_of(answers))
        answered = types_of(await host.frames(second, 2))
        return types_of(await host.frames(first, 2)), answered, host.pool.threads

    suspended, answered, threads = with_host(main, threads_max=1)

    assert suspended == [messages.SLEEP_COMMAND, messages.SUSPENSION]
    assert answered == OUTPUT_END
    assert threads == 1


def test_handler_that_computes_is_not_asked_to_make_room() -> None:
    """Nor one whose step runs, until that has ended."""
    go = threading.Event()
    gone = threading.Event()

    def computes(ctx: BlockingContext) -> int:
        ctx.run("step", lambda: go.wait(60) and None)
        gone.wait(60)
        return 1

    def answers(ctx: BlockingContext) -> int:
        return 2

    async def main(host: Host) -> tuple[list[int], list[int]]:
        first = host.begin(handler_of(computes))
        await host.frames(first, 1)
        second = host.begin(handler_of(answers))
        await asyncio.sleep(0.01)
        assert second not in host.sent or not host.sent[second]
        go.set()
        await host.frames(first, 2)
        host.feed(first, note(messages.RUN_COMPLETION, 1, value=b""))
        gone.set()
        one = types_of(await host.frames(first, 4))
        return one, types_of(await host.frames(second, 2))

    one, two = with_host(main, threads_max=1)

    assert one[-2:] == OUTPUT_END
    assert two == OUTPUT_END


def test_killed_handlers_thread_ends_at_its_next_call() -> None:
    """What it computed meanwhile goes nowhere."""
    begun, go = threading.Event(), threading.Event()
    ended: list[str] = []

    def it(ctx: BlockingContext) -> None:
        begun.set()
        go.wait(60)
        try:
            ctx.run("step", lambda: ended.append("ran"))
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    async def main(host: Host) -> bytes:
        attempt = host.begin(handler_of(it))
        await asyncio.to_thread(begun.wait, 10)
        host.feed(attempt, frame(messages.ABORT, b""))
        await host.until(lambda: attempt.ended)
        go.set()
        async with asyncio.timeout(60):
            while not ended:
                await asyncio.sleep(0.001)
        return host.sent[attempt]

    assert with_host(main) == b""
    assert ended == ["AttemptEnded"]


def test_handler_that_swallows_its_end_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Its thread is lost, and another one takes its place in the pool."""

    def stubborn(ctx: BlockingContext) -> None:
        errors: list[BaseException] = []
        while True:
            try:
                ctx.sleep(HOUR)
            except BaseException as error:
                errors.append(error)

    def answers(ctx: BlockingContext) -> int:
        return 2

    async def main(host: Host) -> list[int]:
        attempt = host.begin(handler_of(stubborn))
        await host.frames(attempt, 1)
        host.feed(attempt, SUSPEND)
        second = host.begin(handler_of(answers))
        return types_of(await host.frames(second, 2))

    assert with_host(main, threads_max=1) == OUTPUT_END
    assert "its thread is left behind" in caplog.text
    assert f"test_blocking.py:{stubborn_line(4)}" in caplog.text


def stubborn_line(offset: int) -> int:
    """A line of the handler in the test above."""
    code = test_handler_that_swallows_its_end_is_left_behind.__code__
    return code.co_firstlineno + 3 + offset


def test_context_is_of_its_thread_only() -> None:
    """A step's closure that uses it is refused as in an `async def`."""

    def it(ctx: BlockingContext) -> None:
        ctx.run("step", lambda: ctx.sleep(HOUR))

    async def main(host: Host) -> Any:
        attempt = host.begin(handler_of(it))
        return parsed((await host.frames(attempt, 2))[1])

    assert "[PD0708]" in with_host(main).message


def test_mismatch_names_the_line_in_the_thread() -> None:
    """As for every other handler."""

    def it(ctx: BlockingContext) -> None:
        ctx.sleep(HOUR)

    stored = frame(messages.RUN_COMMAND, bytes.fromhex("5801620161"))

    async def main(host: Host) -> Any:
        attempt = host.begin(handler_of(it), Journal(b"", [stored]))
        return parsed((await host.frames(attempt, 1))[0])

    error = with_host(main)

    assert error.code == 570
    assert f"test_blocking.py:{it.__code__.co_firstlineno + 1}" in error.message
    assert "Run (name 'a', completion 1)" in error.message


def test_missing_methods_and_private_names_are_refused() -> None:
    """With the sentence that the other contexts have."""

    def it(ctx: BlockingContext) -> None:
        ctx.promise("p")

    def looks(ctx: ObjectContext) -> None:
        ctx._attempt.end()  # type: ignore[attr-defined]

    async def main(host: Host) -> list[Any]:
        found = []
        for function in (it, looks):
            attempt = host.begin(handler_of(function))
            found.append(parsed((await host.frames(attempt, 1))[0]))
        return found

    promises, private = with_host(main)

    assert "promises belong to the handlers of workflows" in promises.message
    assert "has no _attempt" in private.message


def test_many_callers_that_wait_do_not_hold_up_their_callees() -> None:
    """Fifty that wait, two threads, and fifty that answer."""

    def waits(ctx: BlockingContext) -> None:
        ctx.service_call(greet, "x")

    def answers(ctx: BlockingContext) -> int:
        return 1

    async def main(host: Host) -> tuple[list[list[int]], list[list[int]]]:
        callers = [host.begin(handler_of(waits)) for _ in range(50)]
        callees = [host.begin(handler_of(answers)) for _ in range(50)]
        done = [types_of(await host.frames(each, 2)) for each in callees]
        return [types_of(await host.frames(each, 2)) for each in callers], done

    callers, callees = with_host(main, threads_max=2)

    assert callees == [OUTPUT_END] * 50
    assert callers == [[messages.CALL_COMMAND, messages.SUSPENSION]] * 50


def test_worker_runs_such_handlers_beside_the_others() -> None:
    """Over a session, and a lost session ends them."""
    service = Service("Service")
    unwound = threading.Event()

    @service.handler()
    def quick(ctx: BlockingContext, name: str) -> str:
        ctx.run("step", lambda: None)
        return f"Hello {name}"

    @service.handler()
    def slow(ctx: BlockingContext) -> None:
        try:
            ctx.sleep(HOUR)
        finally:
            unwound.set()

    async def main() -> list[Frame]:
        world = World(app([service]))
        listener = await world.listen("node:1")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1", drain_seconds=0))
            node = await world.node()
            await node.until(lambda: node.hello)
            opened = [
                frame(messages.OPEN, msgspec.msgpack.encode(Open("Service", name, 1, 1)))
                for name in ("quick", "slow")
            ]
            node.send((1, opened[0] + start_frame(1) + input_frame(b'"Ann"')))
            other = start_frame(1).replace(INVOCATION_ID, bytes(24))
            node.send((2, opened[1] + other + input_frame(b"")))
            await node.answer(2, 1)
            await node.answer(1, 2)
            node.send((1, note(messages.RUN_COMPLETION, 1, value=b"")))
            sent = await node.answer(1, 4)
            world.stop.set()
        await listener.close()
        return sent

    sent = asyncio.run(main())

    assert parsed(sent[-2]).value.content == b'"Hello Ann"'
    assert unwound.wait(60)
