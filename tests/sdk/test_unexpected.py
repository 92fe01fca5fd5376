"""What nobody expects to be raised: it ends the attempt it belongs to, aloud, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.core.protocol.session import Open
from perdure.sdk import Context, RetryableError, RunOptions, Service, TerminalError, app
from perdure.sdk.attempt import Attempt
from perdure.sdk.session import MESSAGES_PER_TURN_MAX
from perdure.sdk.texts import clean_text

from .fake_node import (
    Frame,
    Journal,
    attempt_of,
    frames_of,
    handler_of,
    input_frame,
    parsed,
    start_frame,
    to_the_end,
    types_of,
)
from .fake_session import World

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]
BAD = "bad file \udcff"
CLEAN = "bad file \\udcff"
NO_TEXT: Any = [1]


class Unspeakable(Exception):
    """Raises when it is shown."""

    def __repr__(self) -> str:
        raise KeyError("no words")

    __str__ = __repr__


def raising(error: BaseException) -> Service:
    """A service whose handler raises."""

    async def it(ctx: Context) -> None:
        raise error

    return handler_of(it)


def step_raising(error: BaseException, name: str = "step", **options: Any) -> Service:
    """A service whose handler's step raises."""

    def fails() -> None:
        raise error

    async def it(ctx: Context) -> None:
        await ctx.run_typed(name, fails, RunOptions(**options))

    return handler_of(it)


def last_of(service: Service) -> list[Frame]:
    """What the attempt of the service's handler sends, first to last."""
    return to_the_end(service, "it", Journal())


def test_lone_surrogates_become_escapes() -> None:
    """Text that UTF-8 has a form for stays as it is."""
    assert clean_text(BAD) == CLEAN
    assert clean_text("Grüße 🙂") == "Grüße 🙂"
    assert clean_text(5) == "5"


@pytest.mark.parametrize("make", [raising, step_raising])
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError(BAD), 500, "udcff"),
        (RetryableError(BAD, 503), 503, CLEAN),
        (RetryableError("x", -1), 500, "x"),
        (RetryableError("x", 2**32), 500, "x"),
        (RetryableError(NO_TEXT, 503), 503, "[1]"),
        (Unspeakable(), 500, "Unspeakable (showing it raises KeyError)"),
    ],
)
def test_any_words_and_code_fail_the_attempt(
    make: Callable[[BaseException], Service], error: BaseException, code: int, words: str
) -> None:
    """A lone surrogate in the text and the stack trace, a code that has no place in 32 bits."""
    sent = last_of(make(error))

    assert types_of(sent)[-1] == messages.ERROR
    failed = parsed(sent[-1])
    assert failed.code == code
    assert words in failed.message
    assert "test_unexpected.py" in failed.stacktrace


@pytest.mark.parametrize("make", [raising, step_raising])
@pytest.mark.parametrize("code", [-1, 2**32, "404", None])
def test_any_words_and_code_fail_for_good(
    make: Callable[[BaseException], Service], code: Any
) -> None:
    """Terminal errors reach the caller, message and metadata included."""
    sent = last_of(make(TerminalError(BAD, code, {BAD: BAD})))

    assert types_of(sent)[-2:] == OUTPUT_END
    failure = parsed(sent[-2]).failure
    assert (failure.code, failure.message) == (500, CLEAN)
    if make is raising:
        assert [(pair.key, pair.value) for pair in failure.metadata] == [(CLEAN, CLEAN)]


def test_codes_at_the_border_stay() -> None:
    """32 bits without a sign."""
    for code in (0, 2**32 - 1):
        assert parsed(last_of(raising(TerminalError("x", code)))[0]).failure.code == code


def test_names_of_steps_may_be_anything() -> None:
    """In the command, and in the error that names it."""
    sent = last_of(step_raising(ValueError("x"), BAD))

    assert parsed(sent[0]).name == CLEAN
    assert parsed(sent[1]).related_command_name == CLEAN


def test_exhausted_step_may_be_unspeakable() -> None:
    """Its last failure is proposed, not lost."""
    sent = last_of(step_raising(Unspeakable(), max_attempts=1))

    assert "Unspeakable" in parsed(sent[1]).failure.message


def test_end_of_a_step_that_cannot_be_told_fails_the_attempt() -> None:
    """Instead of leaving its handler waiting for ever."""
    sent = last_of(step_raising(TerminalError("x", metadata=NO_TEXT)))

    assert types_of(sent) == [messages.RUN_COMMAND, messages.ERROR]
    error = parsed(sent[1])
    assert (error.code, error.related_command_name) == (500, "step")


def test_handler_that_cannot_be_unwound_ends_all_the_same() -> None:
    """What it raises on its way out does not leave its attempt."""

    async def it(ctx: Context) -> None:
        try:
            await ctx.run("step", lambda: 1)
        finally:
            raise SystemExit

    attempt, host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())

    assert attempt.feed(frame(messages.ABORT, b"")) == b""
    assert attempt.ended
    assert len(host.cancelled) == 1
    assert asyncio._get_running_loop() is None


def test_mistake_of_the_sdk_fails_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception where none can be, outside of the handler."""

    def broken(_attempt: Attempt) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Attempt, "_start_steps", broken)
    attempt, _host = attempt_of(step_raising(ValueError()), "it")
    sent = frames_of(attempt.feed(Journal().opening()))

    assert types_of(sent) == [messages.RUN_COMMAND, messages.ERROR]
    assert parsed(sent[1]).message == "RuntimeError('a mistake')"
    assert attempt.ended


# On a session: the rest of the turn goes on

service = Service("Service")


@service.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@service.handler()
async def bad(ctx: Context) -> None:
    raise ValueError(BAD)


@service.handler()
async def bad_step(ctx: Context) -> None:
    def fails() -> None:
        raise TerminalError(BAD, -1, {"file": BAD})

    await ctx.run("bad", fails)


def play(scenario: Callable[[World], Awaitable[None]]) -> None:
    """Run a scenario against a worker of one node, then stop the worker."""

    async def main() -> None:
        world = World(app([service]))
        listener = await world.listen("node:1")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1", drain_seconds=0.01))
            await scenario(world)
            world.stop.set()
        await listener.close()

    asyncio.run(main())


def opening(handler: str, number: int) -> bytes:
    """OPEN, Start and Input of an invocation of its own."""
    opened = msgspec.msgpack.encode(Open("Service", handler, 1, 1))
    start = start_frame(1).replace(bytes(range(24)), number.to_bytes(24, "big"))
    body = b'"Ann"' if handler == "greet" else b""
    return frame(messages.OPEN, opened) + start + input_frame(body)


def test_rest_of_the_turn_is_answered() -> None:
    """Before the bad one, behind it in its message, and in messages behind that."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, opening("greet", 1)), (2, opening("bad", 2)), (3, opening("greet", 3)))
        node.send((4, opening("bad_step", 4)), (5, opening("greet", 5)))

        for stream in (1, 3, 5):
            assert types_of(await node.answer(stream, 2)) == OUTPUT_END
        assert types_of(await node.answer(2, 1)) == [messages.ERROR]
        _run, proposal = await node.answer(4, 2)
        assert parsed(proposal).failure.code == 500
        assert len(world.nodes) == 1

    play(scenario)


@pytest.mark.parametrize("mistaken", [False, True])
def test_session_reads_on_after_a_full_turn(
    mistaken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many messages in one turn, the first of them bad, in whatever way."""
    feed = Attempt.feed

    def broken(attempt: Attempt, *arguments: Any) -> bytes:
        if attempt.stream == 1:
            raise RuntimeError("a mistake")
        return feed(attempt, *arguments)

    if mistaken:
        monkeypatch.setattr(Attempt, "feed", broken)

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        count = 2 * MESSAGES_PER_TURN_MAX
        node.send((1, opening("bad", 1)))
        for stream in range(2, count):
            node.send((stream, opening("greet", stream)))
        for stream in range(2, count):
            assert types_of(await node.answer(stream, 2)) == OUTPUT_END
        error = parsed((await node.answer(1, 1))[0])
        assert error.code == 500
        assert ("a mistake" if mistaken else "udcff") in error.message
        assert len(world.nodes) == 1

    play(scenario)


def test_frames_that_begin_nothing_fail_their_stream() -> None:
    """Too short for the header of a frame."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, b"\x00\x00"), (2, opening("greet", 2)))

        assert parsed((await node.answer(1, 1))[0]).code == 500
        assert types_of(await node.answer(2, 2)) == OUTPUT_END

    play(scenario)
