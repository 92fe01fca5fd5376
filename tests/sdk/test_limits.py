"""How long values, texts, turns and delays may be, and what becomes of longer ones."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure.core.protocol import messages
from perdure.core.protocol.messages import ENTRY_BYTES_MAX, frame
from perdure.core.protocol.session import Open
from perdure.sdk import (
    Context,
    ObjectContext,
    RetryableError,
    RunOptions,
    TerminalError,
    VirtualObject,
    app,
)
from perdure.sdk.steps import TryAgain, after_failure
from perdure.sdk.wire import SEGMENT_FRAMES_BYTES_MAX, segments

from .fake_node import (
    Journal,
    frames_of,
    handler_of,
    input_frame,
    parsed,
    start_frame,
    to_the_end,
    types_of,
)
from .fake_session import World

MEBIBYTE = 1024 * 1024
DAY = timedelta(days=1)
OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]

thing = VirtualObject("Thing")


@thing.handler()
async def fill(ctx: ObjectContext) -> str:
    for name in ("a", "b", "c"):
        ctx.set(name, name.encode() * (25 * MEBIBYTE))
    return "full"


@thing.handler()
async def set_one(ctx: ObjectContext, size: int) -> str:
    try:
        ctx.set("blob", bytes(size))
    except TerminalError as error:
        return f"{error.status_code} {error.message}"
    return "set"


@thing.handler()
async def clear_one(ctx: ObjectContext, size: int) -> str:
    try:
        ctx.clear("k" * size)
    except TerminalError as error:
        return f"{error.status_code} {error.message}"
    return "cleared"


def test_turn_longer_than_what_a_node_takes_at_once() -> None:
    """75 MiB of state in one turn; the session stays, and other attempts with it."""

    async def main() -> None:
        world = World(app([thing]))
        listener = await world.listen("node:1")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1"))
            node = await world.node()
            await node.until(lambda: node.hello)
            for stream, handler in enumerate(("fill", "clear_one"), 1):
                opened = frame(
                    messages.OPEN, msgspec.msgpack.encode(Open("Thing", handler, 1, stream))
                )
                start = start_frame(1, {}).replace(bytes(range(24)), bytes([stream]) * 24)
                node.send((stream, opened + start + input_frame(b"1" if stream > 1 else b"")))
            sent = await node.answer(1, 5)
            assert types_of(sent) == [messages.SET_STATE_COMMAND] * 3 + OUTPUT_END
            assert [len(body) // MEBIBYTE for _kind, body in sent[:3]] == [25] * 3
            assert types_of((await node.answer(2, 3))[1:]) == OUTPUT_END
            assert len(world.nodes) == 1
            world.stop.set()
        await listener.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([1], [1]),
        ([8, 8], [1, 1]),
        ([7, 7, 7], [2, 1]),
        ([17], [1]),
        ([1, 25, 1, 1], [1, 1, 2]),
        ([25, 25, 25], [1, 1, 1]),
    ],
)
def test_segments_hold_whole_frames(lengths: list[int], expected: list[int]) -> None:
    """Closed before 16 MiB are passed; a longer frame stands alone."""
    whole = b"".join(
        frame(messages.SET_STATE_COMMAND, bytes(length * MEBIBYTE)) for length in lengths
    )
    cut = list(segments(whole))

    assert b"".join(cut) == whole
    assert [len(frames_of(one)) for one in cut] == expected
    assert all(len(one) <= SEGMENT_FRAMES_BYTES_MAX or len(frames_of(one)) == 1 for one in cut)


def answer_of(
    handler: str, size: int, owner: Any = thing, body: bytes | None = None
) -> tuple[list[int], str]:
    """Types of what a handler sends, and its answer."""
    journal = Journal(str(size).encode() if body is None else body, state={})
    sent = to_the_end(owner, handler, journal)
    return types_of(sent), parsed(sent[-2]).value.content.decode()


def test_states_over_the_limit_are_refused() -> None:
    """In `ctx.set`, with the call and the limit; one of just the limit is taken."""
    assert answer_of("set_one", ENTRY_BYTES_MAX)[1] == '"set"'
    kinds, answer = answer_of("set_one", ENTRY_BYTES_MAX + 1)

    assert kinds == OUTPUT_END
    assert answer.startswith("\"413 ctx.set('blob'): ")
    assert "33554433 bytes is over the limit of 33554432 bytes (32 MiB)" in answer


def test_keys_over_the_limit_are_refused() -> None:
    """They would be as bad for the session as values."""
    kinds, answer = answer_of("clear_one", 2 * ENTRY_BYTES_MAX)

    assert kinds == OUTPUT_END
    assert answer.startswith('"413 ClearState with its key')


def blob_step(size: int) -> Callable[[Context], Coroutine[Any, Any, int]]:
    """A handler with a step that returns `size` bytes."""

    async def it(ctx: Context) -> int:
        return len(await ctx.run("blob", lambda: bytes(size), type_hint=bytes))

    return it


def blob_answer(size: int) -> Callable[[Context], Coroutine[Any, Any, bytes]]:
    """A handler that returns `size` bytes."""

    async def it(ctx: Context) -> bytes:
        return bytes(size)

    return it


@pytest.mark.parametrize(
    ("make", "call"),
    [(blob_step, "the result of ctx.run('blob')"), (blob_answer, "the answer of 'Service/it'")],
)
def test_results_over_the_limit_fail_for_good(make: Callable[[int], Any], call: str) -> None:
    """Another try would give the same; one of just the limit is taken."""
    sent = to_the_end(handler_of(make(ENTRY_BYTES_MAX)), "it", Journal())
    assert parsed(sent[-2]).HasField("value")

    sent = to_the_end(handler_of(make(ENTRY_BYTES_MAX + 1)), "it", Journal())
    assert types_of(sent)[-2:] == OUTPUT_END
    failure = parsed(sent[-2]).failure
    assert failure.code == 413
    assert failure.message.startswith(f"{call}: ")
    assert "33554432 bytes (32 MiB)" in failure.message


def raising(error: Exception) -> Any:
    """A service whose handler raises."""

    async def it(ctx: Context) -> None:
        raise error

    return handler_of(it)


@pytest.mark.parametrize("letter", ["x", "é", "\udcff"])
def test_long_texts_are_cut(letter: str) -> None:
    """By bytes, between characters: messages at their end, stack traces at their beginning."""
    text = letter * 100_000
    error = parsed(to_the_end(raising(ValueError(text)), "it", Journal())[-1])
    assert 8000 < len(error.message.encode()) <= 8 * 1024
    assert error.message.startswith("ValueError('")
    assert 65_000 < len(error.stacktrace.encode()) <= 64 * 1024

    failed = TerminalError(text, 400, {"short": "kept", "long": text, "late": ""})
    failure = parsed(to_the_end(raising(failed), "it", Journal())[-2]).failure
    assert 8000 < len(failure.message.encode()) <= 8 * 1024
    assert [pair.key for pair in failure.metadata] == ["short"]


DELAYS = [
    (timedelta.min, 0),
    (timedelta(seconds=-1), 0),
    (timedelta(), 0),
    (timedelta(seconds=1.5), 1500),
    (365 * DAY, 365 * 86_400_000),
    (367 * DAY, 366 * 86_400_000),
    (timedelta.max, 366 * 86_400_000),
]


@pytest.mark.parametrize(("delay", "milliseconds"), DELAYS)
def test_delays_fit_between_none_and_a_year(delay: timedelta, milliseconds: int) -> None:
    """Of an error in a handler, and of one in a step."""
    error = RetryableError("busy", retry_after=delay)

    async def it(ctx: Context) -> None:
        def fails() -> None:
            raise error

        await ctx.run("fails", fails)

    for service in (raising(error), handler_of(it)):
        sent = to_the_end(service, "it", Journal())
        assert parsed(sent[-1]).next_retry_delay == milliseconds


@pytest.mark.parametrize(
    ("options", "tries", "delay"),
    [
        (RunOptions(initial_retry_interval=-DAY), 1, timedelta()),
        (RunOptions(initial_retry_interval=-DAY), 5000, timedelta()),
        (RunOptions(max_retry_interval=-DAY), 1, timedelta()),
        (RunOptions(initial_retry_interval=DAY, max_retry_interval=timedelta.max), 3, 4 * DAY),
        (
            RunOptions(initial_retry_interval=timedelta.max, max_retry_interval=timedelta.max),
            1,
            366 * DAY,
        ),
        (RunOptions(max_retry_interval=timedelta.max), 5000, 366 * DAY),
        (RunOptions(retry_interval_factor=float("nan")), 2, timedelta()),
    ],
)
def test_intervals_of_options_fit_too(
    options: RunOptions[Any], tries: int, delay: timedelta
) -> None:
    """However the options are chosen, and however often a step has failed."""
    assert after_failure(options, ValueError("x"), tries, timedelta()) == TryAgain(delay)
