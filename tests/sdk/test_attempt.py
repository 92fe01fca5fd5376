"""One attempt: what it sends for what it is sent."""

import gc
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.proto.generated import service_protocol_pb2 as pb
from perdure.sdk import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RetryableError,
    Service,
    TerminalError,
    VirtualObject,
)

from .fake_node import (
    INVOCATION_ID,
    Journal,
    attempt_of,
    error_of,
    frames_of,
    input_frame,
    is_command,
    parsed,
    run_completion,
    run_failure,
    start_frame,
    to_the_end,
    types_of,
)

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]

service = Service("Service")
thing = VirtualObject("Thing")
calls: list[Any] = []


@service.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@service.handler()
async def one_step(ctx: Context) -> str:
    def effect() -> str:
        calls.append("effect")
        return "abc"

    return await ctx.run("my-side-effect", effect)


LINE_OF_THE_STEP = one_step.__code__.co_firstlineno + 6


@service.handler()
async def boom(ctx: Context) -> None:
    raise TerminalError("boom t", 418, {"why": "tea"})


@service.handler()
async def transient(ctx: Context) -> None:
    raise ValueError("transient r2")


@service.handler()
async def later(ctx: Context) -> None:
    raise RetryableError("busy", 503, retry_after=timedelta(seconds=1.5))


@service.handler()
async def looks(ctx: Context, body: bytes) -> bytes:
    request = ctx.request()
    return f"{request.id} {request.headers['a']} {len(request.body)}".encode()


@thing.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    value = (await ctx.get("c", type_hint=int) or 0) + amount
    ctx.set("c", value)
    return value


@thing.handler()
async def long(ctx: ObjectContext) -> list[Any]:
    before = await ctx.get("c")
    ctx.set("c", 1)
    first = await ctx.run("first", lambda: 10)
    middle = await ctx.get("c")
    ctx.clear("c")
    second = await ctx.run("second", lambda: 20)
    return [before, first, middle, second, await ctx.get("c"), ctx.key()]


@thing.handler(kind="shared")
async def peek(ctx: ObjectSharedContext) -> Any:
    return await ctx.get("c")


def test_greet_answers_with_output_and_end() -> None:
    """The bytes of the public transcript, in one answer."""
    attempt, _host = attempt_of(service, "greet")

    answer = attempt.feed(Journal(b'"Ann"').opening())

    assert answer.hex() == "040100000000000f720d0a0b2248656c6c6f20416e6e22" + "0003000000000000"
    assert attempt.ended


def test_start_of_the_transcript_is_understood() -> None:
    """A Start and an Input as another program wrote them."""
    start = bytes.fromhex(
        "00000000000000530a188c0d8e6908223ab7853f7c0fbccf1dfd74531a28611bc3c11226696e765f"
        "31664a6a71567a5663313634355443476d6c536e7556556d704f5932304865303362180128014001"
        "48a9d5c8adc0e688cce501"
    )
    attempt, _host = attempt_of(service, "greet")

    assert attempt.feed(start) == b""
    assert types_of(frames_of(attempt.feed(input_frame(b'"Ann"')))) == OUTPUT_END
    assert attempt.machine.invocation_id.hex() == "8c0d8e6908223ab7853f7c0fbccf1dfd74531a28611bc3c1"


def test_state_is_read_and_written_eagerly() -> None:
    """The bytes of the public transcript for a value and for none."""
    attempt, _host = attempt_of(thing, "add")
    answer = attempt.feed(Journal(b"1", state={"c": b"5"}).opening(key="k1"))

    assert answer.hex() == (
        "04070000000000080a016372030a0135"
        "04030000000000080a01631a030a0136"
        "040100000000000572030a0136"
        "0003000000000000"
    )

    attempt, _host = attempt_of(thing, "add")
    answer = attempt.feed(Journal(b"1", state={}).opening(key="k1"))

    assert answer.hex().startswith("04070000000000050a01636a00")


def test_partial_state_is_read_lazily_and_own_writes_eagerly() -> None:
    """An unknown key is asked for; what this attempt has set is known."""
    attempt, host = attempt_of(thing, "long")
    answer = frames_of(attempt.feed(Journal(state=None).opening(key="k")))
    assert types_of(answer) == [messages.GET_LAZY_STATE_COMMAND]

    note = pb.Notification(completion_id=1, value=pb.Value(content=b"7"))
    answer = frames_of(
        attempt.feed(frame(messages.GET_LAZY_STATE_COMPLETION, note.SerializeToString()))
    )
    assert types_of(answer) == [messages.SET_STATE_COMMAND, messages.RUN_COMMAND]

    host.run_steps()
    answer = frames_of(attempt.feed(run_completion(2, b"10")))
    assert types_of(answer) == [
        messages.GET_EAGER_STATE_COMMAND,
        messages.CLEAR_STATE_COMMAND,
        messages.RUN_COMMAND,
    ]
    assert parsed(answer[2]).result_completion_id == 4

    host.run_steps()
    answer = frames_of(attempt.feed(run_completion(4, b"20")))
    assert parsed(answer[-2]).value.content == b'[7,10,1,20,null,"k"]'


def test_shared_handler_reads() -> None:
    """A shared handler gets the state of the attempt's start."""
    attempt, _host = attempt_of(thing, "peek")
    answer = frames_of(attempt.feed(Journal(state={"c": b"[1]"}).opening()))

    assert parsed(answer[1]).value.content == b"[1]"


def test_step_runs_once_and_is_visible_only_after_its_completion() -> None:
    """The bytes of the public transcript; nothing moves before the notification."""
    calls.clear()
    attempt, host = attempt_of(service, "one_step")
    answer = attempt.feed(Journal().opening())
    assert answer.hex() == "04110000000000125801620e6d792d736964652d656666656374"

    assert host.run_steps().hex() == "0005000000000009080172052261626322"
    assert host.run_steps() == b""
    assert not attempt.ended

    answer = attempt.feed(bytes.fromhex("801100000000000b08012a070a052261626322"))
    assert types_of(frames_of(answer)) == OUTPUT_END
    assert calls == ["effect"]


def test_replay_from_every_prefix_sends_the_rest() -> None:
    """However much of the journal is stored, the commands that follow are the same."""
    journal = Journal(b"", state={"c": b"3"})
    whole = to_the_end(thing, "long", journal)
    kinds = [kind for kind, _ in whole if is_command(kind)]
    stored = list(journal.entries)
    assert len(stored) == 10

    for length in range(len(stored) + 1):
        partial = Journal(b"", stored[:length], state={"c": b"3"})
        sent = to_the_end(thing, "long", partial)
        known = [kind for kind, _ in frames_of(b"".join(stored[:length]))]
        again = [kind for kind in known if is_command(kind)]
        again += [kind for kind, _ in sent if is_command(kind)]

        assert again == kinds
        assert partial.entries == stored
        assert sent[-1] == (messages.END, b"")


def test_replay_runs_no_step_whose_result_is_stored() -> None:
    """With the result in the journal, the closure stays untouched."""
    calls.clear()
    journal = Journal()
    to_the_end(service, "one_step", journal)
    journal.entries.pop()

    sent = to_the_end(service, "one_step", journal)

    assert types_of(sent) == OUTPUT_END
    assert calls == ["effect"]


def test_entries_may_arrive_in_several_pieces() -> None:
    """The handler starts when everything that Start announced is there."""
    journal = Journal()
    to_the_end(service, "one_step", journal)
    attempt, host = attempt_of(service, "one_step")

    assert attempt.feed(start_frame(3)) == b""
    assert attempt.feed(input_frame(b"")) == b""
    assert attempt.feed(journal.entries[0]) == b""
    assert host.steps == []
    assert types_of(frames_of(attempt.feed(journal.entries[1]))) == OUTPUT_END


def stored_set(key: bytes, value: bytes) -> bytes:
    body = pb.SetStateCommand(key=key, value=pb.Value(content=value)).SerializeToString()
    return frame(messages.SET_STATE_COMMAND, body)


def stored_run(completion_id: int, name: str) -> bytes:
    body = pb.RunCommand(result_completion_id=completion_id, name=name).SerializeToString()
    return frame(messages.RUN_COMMAND, body)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (stored_set(b"c", b"9"), ["Run (name 'my-side-effect'", "SetState (key 'c', value '9')"]),
        (stored_run(1, "other"), ["name 'my-side-effect'", "name 'other'"]),
        (stored_run(2, "my-side-effect"), ["completion 1", "completion 2"]),
    ],
)
def test_mismatch_names_expected_and_found(stored: bytes, words: list[str]) -> None:
    """Code 570, the related command, and both sides in words."""
    attempt, host = attempt_of(service, "one_step")
    answer = frames_of(attempt.feed(Journal(b"", [stored]).opening()))

    assert types_of(answer) == [messages.ERROR]
    error = parsed(answer[0])
    assert error.code == 570
    assert error.related_command_index == 1
    assert error.related_command_type == messages.RUN_COMMAND
    assert error.message.startswith("[PD0710] ")
    assert all(word in error.message for word in words)
    assert f"test_attempt.py:{LINE_OF_THE_STEP}" in error.message
    assert attempt.ended
    assert host.steps == []


def test_a_failure_is_said_once_in_the_workers_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads the end of a handler that the machine has ended, and nothing is lost by it."""
    attempt, _host = attempt_of(service, "one_step")
    attempt.feed(Journal(b"", [stored_run(1, "other")]).opening())
    assert attempt.ended
    del attempt, _host
    gc.collect()

    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("handler Service/one_step failed: [570] [PD0710] journal mismatch")


def test_what_a_handler_raises_is_in_the_workers_log_with_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def it(ctx: Context) -> None:
        raise RuntimeError("the printer is on fire")

    error_of(it)

    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("handler Service/it failed: [500] RuntimeError('the printer is on ")
    assert "test_attempt.py" in message
    assert "raise RuntimeError" in message


def test_mismatch_when_the_journal_goes_on_while_the_code_waits() -> None:
    """A stored command behind an await that nothing stored can end."""
    journal = Journal()
    to_the_end(service, "one_step", journal)
    del journal.entries[1]
    attempt, _host = attempt_of(service, "one_step")
    error = parsed(frames_of(attempt.feed(journal.opening()))[0])

    assert error.code == 570
    assert "the code waits, the journal goes on with Output" in error.message


def test_mismatch_when_the_code_ends_too_early() -> None:
    """A stored step that the code does not have any more."""
    stored = [stored_run(1, "gone")]
    attempt, _host = attempt_of(service, "greet")
    answer = frames_of(attempt.feed(Journal(b'"Ann"', stored).opening()))

    assert types_of(answer) == [messages.ERROR]
    assert parsed(answer[0]).code == 570


def test_mismatch_when_a_completion_has_no_command() -> None:
    """A completion that the code has not asked for."""
    attempt, _host = attempt_of(service, "one_step")
    attempt.feed(Journal().opening())
    error = parsed(frames_of(attempt.feed(run_completion(5, b"1")))[0])

    assert error.code == 570
    assert "completion 5" in error.message


def test_second_completion_of_one_step_counts_for_nothing() -> None:
    """The first notification decides."""
    attempt, _host = attempt_of(thing, "long")
    attempt.feed(Journal(state={}).opening())
    attempt.feed(run_completion(2, b"10"))

    assert attempt.feed(run_completion(2, b"11")) == b""
    answer = frames_of(attempt.feed(run_completion(4, b"20")))
    assert b"[null,10," in parsed(answer[-2]).value.content


def test_stored_output_is_ended_again() -> None:
    """End was lost: nothing but End is sent."""
    journal = Journal(b'"Ann"')
    to_the_end(service, "greet", journal)

    assert types_of(to_the_end(service, "greet", journal)) == [messages.END]

    attempt, _host = attempt_of(service, "greet")
    stored = Journal(b'"Ann"', [frame(messages.OUTPUT_COMMAND, b"\x72\x03\x0a\x01x")])
    assert types_of(frames_of(attempt.feed(stored.opening()))) == [messages.END]


def test_terminal_error_is_the_output() -> None:
    """Code, message and metadata; then End."""
    sent = to_the_end(service, "boom", Journal())

    assert types_of(sent) == OUTPUT_END
    failure = parsed(sent[0]).failure
    assert (failure.code, failure.message) == (418, "boom t")
    assert {pair.key: pair.value for pair in failure.metadata} == {"why": "tea"}


def test_other_exceptions_fail_the_attempt() -> None:
    """Code 500, the exception's words and where it was raised."""
    attempt, _host = attempt_of(service, "transient")
    answer = frames_of(attempt.feed(Journal().opening()))

    assert types_of(answer) == [messages.ERROR]
    error = parsed(answer[0])
    assert (error.code, error.message) == (500, "ValueError('transient r2')")
    assert "test_attempt.py" in error.stacktrace
    assert not error.HasField("next_retry_delay")


def test_retryable_error_says_when() -> None:
    """Its code, message and delay."""
    attempt, _host = attempt_of(service, "later")
    error = parsed(frames_of(attempt.feed(Journal().opening()))[0])

    assert (error.code, error.message, error.next_retry_delay) == (503, "busy", 1500)


def test_failed_step_raises_terminal_error() -> None:
    """A stored failure comes out of the await as it went in."""
    attempt, _host = attempt_of(service, "one_step")
    attempt.feed(Journal().opening())
    answer = frames_of(attempt.feed(run_failure(1, 409, "taken")))

    assert types_of(answer) == OUTPUT_END
    assert parsed(answer[0]).failure.code == 409


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"5", "Expected `str`, got `int`"),
        (b'"Ann', "JSON"),
        (b"", "the body is empty"),
    ],
)
def test_malformed_input_is_terminal(body: bytes, words: str) -> None:
    """Code 400 and what was expected."""
    attempt, _host = attempt_of(service, "greet")
    answer = frames_of(attempt.feed(Journal(body).opening()))

    assert types_of(answer) == OUTPUT_END
    failure = parsed(answer[0]).failure
    assert failure.code == 400
    assert words in failure.message
    assert "Service/greet" in failure.message


def test_request_has_id_headers_and_body() -> None:
    """What ctx.request gives."""
    command = pb.InputCommand(
        value=pb.Value(content=b"xyz"), headers=[pb.Header(key="a", value="b")]
    )
    attempt, _host = attempt_of(service, "looks")
    answer = frames_of(
        attempt.feed(start_frame(1) + frame(messages.INPUT_COMMAND, command.SerializeToString()))
    )

    words = parsed(answer[0]).value.content.decode().split()
    assert words[0].startswith("inv_1")
    assert words[1:] == ["b", "3"]
    assert attempt.machine.invocation_id == INVOCATION_ID


@pytest.mark.parametrize(
    "frames",
    [
        frame(0x0444, b""),
        frame(messages.WELCOME, b""),
        b"\x00\x00",
        frame(messages.START, b"\xff"),
        frame(messages.START, b"") + frame(messages.START, b""),
        start_frame(0),
        input_frame(b""),
        start_frame(1) + run_completion(1, b""),
    ],
)
def test_nonsense_from_the_node_fails_the_attempt(frames: bytes) -> None:
    """Code 571; the session and other attempts go on."""
    attempt, _host = attempt_of(service, "greet")
    answer = frames_of(attempt.feed(frames))

    assert types_of(answer) == [messages.ERROR]
    assert parsed(answer[0]).code == 571
    assert attempt.feed(start_frame(1) + input_frame(b"")) == b""


def test_abort_ends_without_a_word() -> None:
    """A frame from the node, in the middle of a step."""
    attempt, host = attempt_of(service, "one_step")
    attempt.feed(Journal().opening())

    assert attempt.feed(frame(messages.ABORT, b"")) == b""
    assert attempt.ended
    assert len(host.cancelled) == 1
    assert host.run_steps() == b""
