"""Handlers that ask for what they cannot have get a sentence that says so, never a hang."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.protocol import messages
from perdure.sdk import (
    Context,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowSharedContext,
    durable_loop,
)

from .fake_node import (
    Journal,
    attempt_of,
    error_of,
    frames_of,
    handler_of,
    parsed,
    run_completion,
    to_the_end,
    types_of,
)

Any_ = Any
thing = VirtualObject("Thing")
flow = Workflow("Flow")
plain = Service("Plain")
HOUR = timedelta(hours=1)


@thing.handler()
async def add(ctx: Any_, amount: int) -> int:
    return amount


@plain.handler()
async def greet(ctx: Context, name: str) -> str:
    return name


@thing.handler(kind="shared")
async def writes(ctx: ObjectSharedContext) -> None:
    ctx.set("a", 1)  # type: ignore[attr-defined]


@thing.handler(kind="shared")
async def promises(ctx: ObjectSharedContext) -> None:
    await ctx.promise("p")  # type: ignore[attr-defined]


@flow.handler()
async def clears(ctx: WorkflowSharedContext) -> None:
    ctx.clear_all()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("service", "name", "words"),
    [
        (thing, "writes", ["ctx.set is not in ObjectSharedContext", "exclusive handlers"]),
        (thing, "promises", ["ctx.promise is not in", "workflow"]),
        (flow, "clears", ["ctx.clear_all is not in WorkflowSharedContext", "main handler"]),
    ],
)
def test_methods_of_other_kinds_of_handlers_say_where_they_are(
    service: Any, name: str, words: list[str]
) -> None:
    """The attempt fails before anything was issued."""
    sent = to_the_end(service, name, Journal())

    assert types_of(sent) == [messages.ERROR]
    assert all(word in parsed(sent[0]).message for word in words)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda ctx: ctx.get("a"), "state belongs to virtual objects"),
        (lambda ctx: ctx.key(), "only virtual objects and workflows have a key"),
        (lambda ctx: ctx.promise("p"), "promises belong to the handlers of workflows"),
        (lambda ctx: ctx.no_such_thing(), "'Context' object has no attribute 'no_such_thing'"),
        (lambda ctx: ctx.scope("s"), "PD0706"),
        (lambda ctx: ctx.generic_call("S", "h", b"", limit_key="l"), "version 7"),
        (lambda ctx: ctx.generic_send("S", "h", b"", scope="l"), "version 7"),
        (lambda ctx: ctx.generic_call("S", "h", "text"), "expected bytes, got str"),
        (lambda ctx: ctx.service_call(add, 1), "use ctx.object_call or ctx.object_send"),
        (lambda ctx: ctx.object_send(greet, "k", "n"), "use ctx.service_call or ctx.service_send"),
        (lambda ctx: ctx.object_call(add, 5, 1), "key must be a text, got int"),
        (lambda ctx: ctx.service_call(print, 1), "PD0720"),
        (lambda ctx: ctx.service_call(greet, "n", idempotency_key=""), "at least one character"),
        (lambda ctx: ctx.service_call(greet, "n", headers={"a": 1}), "must be a text, got int"),
        (lambda ctx: ctx.service_call(greet, object()), "PD0713"),
        (lambda ctx: ctx.signal(5), "name must be a text, got int"),
        (lambda ctx: ctx.cancel_invocation(None), "the id of an invocation is a text"),
    ],
)
def test_wrong_use_fails_the_attempt_with_a_sentence(act: Callable[[Any], Any], words: str) -> None:
    """Programs that are wrong are tried again once they are mended."""

    async def it(ctx: Context) -> None:
        act(ctx)

    assert words in error_of(it)


def test_a_handler_that_never_comes_to_wait_fails_and_names_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would take its worker from everybody, and nothing could end it."""
    monkeypatch.setattr(durable_loop, "CALLBACKS_MAX", 1000)

    async def it(ctx: Context) -> None:
        while True:
            await asyncio.sleep(0)

    message = error_of(it)

    assert message.startswith("[PD0709] handler went on for 1000 callbacks")
    assert "test_bad_handlers.py:" in message


@pytest.mark.parametrize(
    "act",
    [
        lambda ctx: ctx.cancel_invocation("inv_1"),
        lambda ctx: ctx.attach_invocation("sign_1abc"),
        lambda ctx: ctx.get_invocation_output(""),
        lambda ctx: ctx.resolve_signal("inv_x", "n", 1),
        lambda ctx: ctx.reject_signal("inv_x", "n", "m"),
        lambda ctx: ctx.resolve_awakeable("inv_1", 1),
        lambda ctx: ctx.reject_awakeable("sign_1!!", "m"),
        lambda ctx: ctx.resolve_awakeable("sign_1" + "A" * 40, 1),
    ],
)
def test_malformed_ids_fail_for_good(act: Callable[[Any], Any]) -> None:
    """They come with requests; trying again would not mend them."""

    async def it(ctx: Context) -> None:
        act(ctx)

    sent = to_the_end(handler_of(it), "it", Journal())

    assert types_of(sent) == [messages.OUTPUT_COMMAND, messages.END]
    failure = parsed(sent[0]).failure
    assert failure.code == 400
    assert "PD0401" in failure.message


@pytest.mark.parametrize(
    "act",
    [
        lambda ctx, big: ctx.generic_call("S", "h", big),
        lambda ctx, big: ctx.generic_send("S", "h", big),
        lambda ctx, big: ctx.resolve_signal("inv_1" + "0" * 33, "n", big),
        lambda ctx, big: ctx.resolve_awakeable("sign_1" + "A" * 38, big),
    ],
)
def test_values_over_the_limit_are_refused_where_they_are_given(
    act: Callable[[Any, bytes], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 413, before anything was issued."""
    monkeypatch.setattr(messages, "ENTRY_BYTES_MAX", 1000)

    async def it(ctx: Context) -> int:
        with pytest.raises(TerminalError, match="over the limit of 1000 bytes") as caught:
            act(ctx, bytes(1001))
        return caught.value.status_code

    sent = to_the_end(handler_of(it), "it", Journal())

    assert parsed(sent[0]).value.content == b"413"


def test_what_was_never_awaited_is_named_with_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """When the handler has returned; what has lost a race is no such thing."""

    async def it(ctx: Context) -> None:
        ctx.sleep(HOUR)
        ctx.service_call(greet, "n")
        ctx.awakeable()
        ctx.run("forgotten", print)
        ctx.service_send(greet, "n")
        await asyncio.wait(
            [ctx.sleep(HOUR), asyncio.create_task(asyncio.sleep(0))],
            return_when=asyncio.FIRST_COMPLETED,
        )

    attempt, host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())

    assert attempt.ended
    assert host.steps == []
    line = it.__code__.co_firstlineno
    for what, offset in (("the sleep", 1), ("the call of Plain/greet", 2), ("awakeable", 3)):
        assert f"{what}" in caplog.text
        assert f"test_bad_handlers.py:{line + offset}" in caplog.text
    assert "step 'forgotten'" in caplog.text
    assert f":{line + 6}" not in caplog.text


def test_handler_that_awaits_everything_gets_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does one that failed."""

    async def it(ctx: Context) -> None:
        await asyncio.gather(ctx.run("a", int), ctx.sleep(HOUR))

    async def fails(ctx: Context) -> None:
        ctx.sleep(HOUR)
        raise TerminalError("no")

    attempt, host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())
    host.run_steps()
    attempt.feed(run_completion(1, b"0"))
    done = frames_of(attempt.feed(bytes.fromhex("800c00000000000408022200")))
    failed, _ = attempt_of(handler_of(fails), "it")
    failed.feed(Journal().opening())

    assert types_of(done) == [messages.OUTPUT_COMMAND, messages.END]
    assert failed.ended
    assert caplog.text == ""


def test_error_of_the_handlers_program_is_not_swallowed_by_a_pending_cancellation() -> None:
    """A handler that answers a cancellation with a mistake fails its attempt."""

    async def it(ctx: Context) -> None:
        try:
            await ctx.sleep(HOUR)
        except TerminalError:
            raise ValueError("a mistake") from None

    attempt, _ = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())
    sent = frames_of(attempt.feed(bytes.fromhex("fbff00000000000410012200")))

    assert types_of(sent) == [messages.ERROR]
    assert "a mistake" in parsed(sent[0]).message
