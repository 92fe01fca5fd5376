"""What a handler may not do, and what may not be done to it, is refused with file and line."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.protocol import messages
from perdure.sdk import Context, ObjectContext, VirtualObject

from .fake_node import Journal, error_of, is_command, to_the_end


def executor() -> Any:
    return asyncio.get_running_loop().run_in_executor(None, int)


FORBIDDEN: list[tuple[str, Callable[[], Any], str]] = [
    ("run_in_executor", executor, "ctx.run"),
    ("to_thread", lambda: asyncio.to_thread(int), "ctx.run"),
    ("open_connection", lambda: asyncio.open_connection("127.0.0.1", 1), "ctx.run"),
    ("subprocess", lambda: asyncio.create_subprocess_exec("true"), "ctx.run"),
    (
        "call_soon_threadsafe",
        lambda: asyncio.get_running_loop().call_soon_threadsafe(print),
        "ctx.run",
    ),
    ("add_reader", lambda: asyncio.get_running_loop().add_reader(0, print), "ctx.run"),
    ("signals", lambda: asyncio.get_running_loop().add_signal_handler(2, print), "signals"),
    ("stop", lambda: asyncio.get_running_loop().stop(), "worker"),
]


@pytest.mark.parametrize(("name", "act", "words"), FORBIDDEN)
def test_forbidden_calls_name_the_line(name: str, act: Callable[[], Any], words: str) -> None:
    """The user's own file and line, and what to do instead."""

    async def it(ctx: Context) -> None:
        result = act()
        if asyncio.iscoroutine(result):
            await result

    message = error_of(it)

    assert message.startswith("[PD0707] "), name
    assert "test_forbidden.py:" in message
    assert words in message


def test_stdlib_as_completed_names_its_replacement() -> None:
    """Its set of coroutines has the order of addresses."""

    async def it(ctx: Context) -> None:
        async def one() -> None:
            pass

        work = [one(), one()]
        try:
            for each in asyncio.as_completed(work):
                await each
        finally:
            for coroutine in work:
                coroutine.close()

    assert "perdure.sdk.as_completed" in error_of(it)


def test_steps_and_threads_cannot_reach_into_the_handler() -> None:
    """The context, the handler's events and its tasks are the handler's alone."""
    errors: list[str] = []

    def attempted(action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            errors.append(type(error).__name__)

    async def it(ctx: ObjectContext) -> int:
        event = asyncio.Event()
        loop = asyncio.get_running_loop()
        waiter = asyncio.create_task(event.wait())
        await asyncio.sleep(0)

        async def nothing() -> None:
            pass

        def outside() -> None:
            attempted(lambda: ctx.set("a", 1))
            attempted(lambda: ctx.run("b", int))
            attempted(event.set)
            coroutine = nothing()
            attempted(lambda: loop.create_task(coroutine))
            coroutine.close()

        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
        await ctx.run("step", outside)
        waiter.cancel()
        return 1

    thing = VirtualObject("Thing")
    thing.handler("it")(it)
    sent = to_the_end(thing, "it", Journal(state={}))

    # The event counts as set after the first try, so that the second one touches nobody.
    assert errors == ["OutsideHandlerError"] * 7
    assert [kind for kind, _ in sent if is_command(kind)] == [
        messages.RUN_COMMAND,
        messages.OUTPUT_COMMAND,
    ]
