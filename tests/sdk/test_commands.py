"""Every command that a handler can issue: its frame, what answers it, and the same in a replay."""

from datetime import timedelta
from typing import Any

import pytest

from perdure.core.ids import InvocationId, awakeable_id_text, invocation_id_text
from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.proto.generated import service_protocol_pb2 as pb
from perdure.sdk import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)

from .fake_node import (
    INVOCATION_ID,
    Frame,
    InlineHost,
    Journal,
    attempt_of,
    frames_of,
    handler_of,
    note,
    parsed,
    signal,
    types_of,
)

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]
CHILD = invocation_id_text(InvocationId(bytes(reversed(range(24)))))
NOW_NS = 1_000_000_000_000_000_000

greeter = Service("Greeter")
counter = VirtualObject("Counter")
flow = Workflow("Flow")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    return amount


@flow.main()
async def run_flow(ctx: WorkflowContext, request: dict[str, int]) -> str:
    return "done"


def exchange(
    service: Any, name: str, *notes: bytes, journal: Journal | None = None
) -> tuple[list[Frame], Any]:
    """What a handler sends, given notifications one after the other; and its answer, read.

    Then the same is replayed from the journal, at once, and must end in the same answer.
    """
    journal = Journal() if journal is None else journal
    host = InlineHost()
    host.time_ns = NOW_NS
    attempt, _ = attempt_of(service, name, host)
    answer = attempt.feed(journal.opening())
    journal.take(answer)
    sent = frames_of(answer)
    for each in notes:
        journal.entries.append(each)
        answer = attempt.feed(each)
        journal.take(answer)
        sent += frames_of(answer)
    assert types_of(sent)[-2:] == OUTPUT_END, [(kind, parsed((kind, body))) for kind, body in sent]
    journal.entries.pop()

    again, _ = attempt_of(service, name, host)
    assert frames_of(again.feed(journal.opening())) == sent[-2:]
    return sent[:-2], parsed(sent[-2])


def only(sent: list[Frame], kind: int) -> Any:
    """The one command that was sent, read."""
    assert types_of(sent) == [kind]
    return parsed(sent[0])


def test_call_takes_two_completions_and_the_callees_serialization() -> None:
    """The frame of the public transcript, and an answer read as the callee writes it."""

    async def it(ctx: Context) -> str:
        future = ctx.service_call(greet, "Bob")
        return f"{await future.invocation_id()} {await future}"

    sent, answer = exchange(
        handler_of(it),
        "it",
        note(messages.CALL_INVOCATION_ID, 1, invocation_id=CHILD),
        note(messages.CALL_COMPLETION, 2, value=b'"Hello Bob"'),
    )

    call = "0a0747726565746572120567726565741a0522426f622250015802"
    assert sent == [(messages.CALL_COMMAND, bytes.fromhex(call))]
    assert answer.value.content.decode() == f'"{CHILD} Hello Bob"'


def test_calls_carry_key_headers_and_idempotency_key() -> None:
    """To objects and workflows by function, to anything by name."""

    async def it(ctx: Context) -> list[Any]:
        options: dict[str, Any] = {"idempotency_key": "once", "headers": {"a": "b"}}
        futures = [
            ctx.object_call(add, "k", 2, **options),
            ctx.workflow_call(run_flow, "w", {"x": 1}, **options),
        ]
        raw = ctx.generic_call("Other", "thing", b"\x00", "key", **options)
        return [await future for future in futures] + [len(await raw)]

    sent, answer = exchange(
        handler_of(it),
        "it",
        note(messages.CALL_COMPLETION, 6, value=b"abc"),
        note(messages.CALL_COMPLETION, 4, value=b'"done"'),
        note(messages.CALL_COMPLETION, 2, value=b"7"),
    )

    targets = [
        (call.service_name, call.handler_name, call.key, call.parameter)
        for call in map(parsed, sent)
    ]
    assert targets == [
        ("Counter", "add", "k", b"2"),
        ("Flow", "run_flow", "w", b'{"x":1}'),
        ("Other", "thing", "key", b"\x00"),
    ]
    for call in map(parsed, sent):
        assert call.idempotency_key == "once"
        assert [(header.key, header.value) for header in call.headers] == [("a", "b")]
    assert answer.value.content == b'[7,"done",3]'


def test_failed_call_raises_its_terminal_error() -> None:
    """With code and message of the callee."""

    async def it(ctx: Context) -> str:
        with pytest.raises(TerminalError, match="no such name") as caught:
            await ctx.service_call(greet, "?")
        return f"{caught.value.status_code}"

    _sent, answer = exchange(
        handler_of(it), "it", note(messages.CALL_COMPLETION, 2, failure=(422, "no such name"))
    )

    assert answer.value.content == b'"422"'


def test_sends_are_answered_by_an_invocation_id_only() -> None:
    """At once, or at a time by the node's clock."""

    async def it(ctx: Context) -> str:
        ctx.object_send(add, "k", 1)
        later = ctx.service_send(greet, "Bob", send_delay=timedelta(seconds=5))
        ctx.workflow_send(run_flow, "w", {})
        ctx.generic_send("Other", "thing", b"x", send_delay=timedelta(0))
        return await later.invocation_id()

    sent, answer = exchange(
        handler_of(it), "it", note(messages.CALL_INVOCATION_ID, 2, invocation_id=CHILD)
    )

    assert types_of(sent) == [messages.ONE_WAY_CALL_COMMAND] * 4
    times = [parsed(each).invoke_time for each in sent]
    assert times == [0, NOW_NS // 1_000_000 + 5000, 0, 0]
    ids = [parsed(each).invocation_id_notification_idx for each in sent]
    assert ids == [1, 2, 3, 4]
    assert answer.value.content.decode() == f'"{CHILD}"'


def test_cancelling_a_child_sends_it_the_signal() -> None:
    """By its future, its handle, or its id."""

    async def it(ctx: Context) -> None:
        await ctx.service_call(greet, "Bob").cancel_invocation()
        await ctx.service_send(greet, "Bob").cancel_invocation()
        ctx.cancel_invocation(CHILD)

    sent, _answer = exchange(
        handler_of(it),
        "it",
        note(messages.CALL_INVOCATION_ID, 1, invocation_id=CHILD),
        note(messages.CALL_INVOCATION_ID, 3, invocation_id=CHILD),
    )

    signals = [parsed(each) for each in sent if each[0] == messages.SEND_SIGNAL_COMMAND]
    assert [(one.target_invocation_id, one.idx) for one in signals] == [(CHILD, 1)] * 3
    assert all(one.HasField("void") for one in signals)


def test_sleep_wakes_by_the_nodes_clock() -> None:
    """Whole milliseconds, rounded up; a record younger than the clock counts more."""

    async def it(ctx: Context) -> None:
        await ctx.sleep(timedelta(microseconds=1500), "nap")

    sent, _answer = exchange(handler_of(it), "it", note(messages.SLEEP_COMPLETION, 1))

    sleep = only(sent, messages.SLEEP_COMMAND)
    assert (sleep.wake_up_time, sleep.name) == (NOW_NS // 1_000_000 + 2, "nap")


def test_awakeable_is_a_signal_of_its_own_invocation() -> None:
    """Numbers from 17 on; the id is for anybody to complete it by."""

    async def it(ctx: Context) -> list[Any]:
        first, one = ctx.awakeable(type_hint=int)
        second, two = ctx.awakeable()
        return [first, await one, second, await two]

    sent, answer = exchange(
        handler_of(it), "it", signal(18, value=b'{"a":1}'), signal(17, value=b"5")
    )

    raw = InvocationId(INVOCATION_ID)
    first, second = awakeable_id_text(raw, 17), awakeable_id_text(raw, 18)
    assert sent == []
    assert answer.value.content.decode() == f'["{first}",5,"{second}",{{"a":1}}]'


def test_awakeables_are_completed_by_their_id() -> None:
    """With a value or a failure."""
    awakeable = awakeable_id_text(InvocationId(INVOCATION_ID), 17)

    async def it(ctx: Context) -> None:
        ctx.resolve_awakeable(awakeable, {"a": 1})
        ctx.resolve_awakeable(awakeable, b"\xff")
        ctx.reject_awakeable(awakeable, "too late", 410)

    sent, _answer = exchange(handler_of(it), "it")

    done = [parsed(each) for each in sent]
    assert [each.awakeable_id for each in done] == [awakeable] * 3
    assert [each.value.content for each in done] == [b'{"a":1}', b"\xff", b""]
    assert (done[2].failure.code, done[2].failure.message) == (410, "too late")


def test_each_wait_takes_the_next_signal_of_its_name() -> None:
    """Waited for before or after it comes, and in the order in which they come."""

    async def it(ctx: Context) -> list[Any]:
        first = await ctx.signal("steer", type_hint=str)
        second = await ctx.signal("steer", type_hint=str)
        with pytest.raises(TerminalError, match="nope"):
            await ctx.signal("bad")
        return [first, second, await ctx.signal("steer", type_hint=str)]

    sent, answer = exchange(
        handler_of(it),
        "it",
        signal("bad", failure=(500, "nope")),
        signal("steer", value=b'"x"'),
        signal("steer", value=b'"y"'),
        signal("steer", value=b'"z"'),
    )

    assert sent == []
    assert answer.value.content == b'["x","y","z"]'


def test_signals_are_sent_to_invocations() -> None:
    """With a value or a failure."""

    async def it(ctx: Context) -> None:
        ctx.resolve_signal(CHILD, "go", 5)
        ctx.reject_signal(CHILD, "go", "stop", 418)

    sent, _answer = exchange(handler_of(it), "it")

    resolved, rejected = (parsed(each) for each in sent)
    assert (resolved.target_invocation_id, resolved.name) == (CHILD, "go")
    assert resolved.value.content == b"5"
    assert (rejected.failure.code, rejected.failure.message) == (418, "stop")


def test_invocations_are_attached_to_and_looked_at() -> None:
    """`attach_invocation` waits; `get_invocation_output` gives None for one that runs."""

    async def it(ctx: Context) -> list[Any]:
        attached = ctx.attach_invocation(CHILD, type_hint=int)
        looked = ctx.get_invocation_output(CHILD)
        return [await looked, await attached]

    sent, answer = exchange(
        handler_of(it),
        "it",
        note(messages.GET_INVOCATION_OUTPUT_COMPLETION, 2),
        note(messages.ATTACH_INVOCATION_COMPLETION, 1, value=b"3"),
    )

    assert [parsed(each).invocation_id for each in sent] == [CHILD, CHILD]
    assert answer.value.content == b"[null,3]"


# State


def test_state_keys_and_clear_all_are_eager_where_state_is() -> None:
    """Sorted names, own writes included."""
    thing = VirtualObject("Thing")

    @thing.handler()
    async def it(ctx: ObjectContext) -> list[Any]:
        ctx.set("b", 1)
        before = await ctx.state_keys()
        ctx.clear_all()
        return [before, await ctx.state_keys(), await ctx.get("a")]

    sent, answer = exchange(thing, "it", journal=Journal(state={"c": b"1", "a": b"2"}))

    assert types_of(sent) == [
        messages.SET_STATE_COMMAND,
        messages.GET_EAGER_STATE_KEYS_COMMAND,
        messages.CLEAR_ALL_STATE_COMMAND,
        messages.GET_EAGER_STATE_KEYS_COMMAND,
        messages.GET_EAGER_STATE_COMMAND,
    ]
    assert answer.value.content == b'[["a","b","c"],[],null]'


def test_state_keys_are_lazy_where_state_is() -> None:
    """The node brings them."""
    thing = VirtualObject("Thing")

    @thing.handler(kind="shared")
    async def it(ctx: ObjectSharedContext) -> list[str]:
        return await ctx.state_keys()

    sent, answer = exchange(
        thing, "it", note(messages.GET_LAZY_STATE_KEYS_COMPLETION, 1, state_keys=[b"x", b"y"])
    )

    assert only(sent, messages.GET_LAZY_STATE_KEYS_COMMAND).result_completion_id == 1
    assert answer.value.content == b'["x","y"]'


# Promises


def test_promises_are_waited_for_looked_at_and_completed() -> None:
    """By the handlers of a workflow."""
    work = Workflow("Work")

    @work.main()
    async def run(ctx: WorkflowContext) -> list[Any]:
        promise = ctx.promise("paid", type_hint=int)
        before = await promise.peek()
        await promise.resolve(5)
        with pytest.raises(TerminalError, match="already") as caught:
            await promise.reject("no")
        return [before, caught.value.status_code, await promise, await promise.value()]

    sent, answer = exchange(
        work,
        "run",
        note(messages.PEEK_PROMISE_COMPLETION, 1),
        note(messages.COMPLETE_PROMISE_COMPLETION, 2),
        note(messages.COMPLETE_PROMISE_COMPLETION, 3, failure=(409, "already completed")),
        note(messages.GET_PROMISE_COMPLETION, 4, value=b"5"),
        note(messages.GET_PROMISE_COMPLETION, 5, value=b"5"),
    )

    assert types_of(sent) == [
        messages.PEEK_PROMISE_COMMAND,
        messages.COMPLETE_PROMISE_COMMAND,
        messages.COMPLETE_PROMISE_COMMAND,
        messages.GET_PROMISE_COMMAND,
        messages.GET_PROMISE_COMMAND,
    ]
    assert all(parsed(each).key == "paid" for each in sent)
    assert parsed(sent[1]).completion_value.content == b"5"
    assert parsed(sent[2]).completion_failure.message == "no"
    assert answer.value.content == b"[null,409,5,5]"


def test_shared_handlers_of_workflows_have_promises_too() -> None:
    """They are how others speak to the run."""
    work = Workflow("Work")

    @work.handler()
    async def pay(ctx: WorkflowSharedContext, amount: int) -> None:
        await ctx.promise("paid").resolve(amount)

    sent, _answer = exchange(
        work, "pay", note(messages.COMPLETE_PROMISE_COMPLETION, 1), journal=Journal(b"7")
    )

    assert only(sent, messages.COMPLETE_PROMISE_COMMAND).completion_value.content == b"7"


# Replays of the same in other bytes


def test_time_of_waking_and_names_for_people_may_differ_in_a_replay() -> None:
    """The rest of a command may not."""

    async def it(ctx: Context) -> None:
        ctx.service_send(greet, "Bob", send_delay=timedelta(seconds=1))
        await ctx.sleep(timedelta(seconds=1), "nap")

    send = pb.OneWayCallCommand(
        service_name="Greeter",
        handler_name="greet",
        parameter=b'"Bob"',
        invoke_time=5,
        invocation_id_notification_idx=1,
        name="for people",
    )
    sleep = pb.SleepCommand(wake_up_time=7, result_completion_id=2, name="nap")
    entries = [
        frame(messages.ONE_WAY_CALL_COMMAND, send.SerializeToString()),
        frame(messages.SLEEP_COMMAND, sleep.SerializeToString()),
    ]
    attempt, _ = attempt_of(handler_of(it), "it")
    assert attempt.feed(Journal(b"", entries).opening()) == b""

    send.key = "k"
    entries[0] = frame(messages.ONE_WAY_CALL_COMMAND, send.SerializeToString())
    other, _ = attempt_of(handler_of(it), "it")
    error = parsed(frames_of(other.feed(Journal(b"", entries).opening()))[0])
    assert error.code == 570
    assert "key 'k'" in error.message
