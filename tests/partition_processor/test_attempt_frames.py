"""What an attempt is started with, and what its worker's answers come to before the log."""

from typing import Any, cast

import msgspec
import pytest

from perdure.core.protocol import messages
from perdure.core.protocol.session import Open
from perdure.partition_processor.invoker.attempt import Attempt
from perdure.partition_processor.invoker.attempt_frames import (
    MESSAGE_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    STACKTRACE_CHARACTERS_MAX,
    AttemptError,
    Behavior,
    Reply,
    journal_segments,
    read_reply,
    start_frames,
)
from perdure.partition_processor.invoker.start_segments import start_segments
from perdure.partition_processor.records import DELAY_NS_MAX, AttemptFailed, AttemptStarted
from perdure.partition_processor.tables.invocations import Failure
from perdure.partition_processor.tables.journal import Chunk
from perdure.proto.generated import service_protocol_pb2 as wire

from ..covering import covers
from .calls import called
from .frames import entry, read_frames, result
from .support import (
    END,
    OUTPUT_OK,
    RUN,
    RUN_DONE,
    Partition,
    add,
    frames,
    greet,
    identity,
    set_state,
)

ONE = identity(1)


def started(
    partition: Partition, number: int = 1, key: str | None = None, **fields: object
) -> tuple[Open, wire.Start]:
    """The OPEN and the START of an invocation's current attempt."""
    invocation_id = identity(number, key)
    arguments: dict[str, object] = {"epoch": 7, "state": {}, "now_ns": 9_000_000, **fields}
    sent = start_frames(
        invocation_id,
        partition.invocation(invocation_id),
        **arguments,  # type: ignore[arg-type]
    )
    (opening, start) = messages.split_frames(sent)
    assert (opening[0], start[0]) == (messages.OPEN, messages.START)
    return (
        msgspec.msgpack.decode(sent[opening[1] : opening[2]], type=Open),
        wire.Start.FromString(sent[start[1] : start[2]]),
    )


@covers("START", "OPEN")
def test_a_plain_service_is_started_without_key_and_state() -> None:
    partition = Partition()
    partition.apply(greet(1))
    partition.send(ONE, RUN, RUN_DONE)
    opening, start = started(partition)

    assert opening == Open("Greeter", "greet", 7, 1, 9_000_000)
    assert (start.id, start.known_entries, start.key) == (ONE, 3, "")
    assert (start.partial_state, len(start.state_map)) == (True, 0)
    assert start.random_seed == int.from_bytes(ONE[16:], "big")
    assert start.retry_count_since_last_stored_entry == 0


@covers("START")
def test_an_object_is_started_with_all_of_its_state_or_with_none_to_ask_for_it() -> None:
    partition = Partition()
    partition.apply(add(1))
    _, full = started(partition, key="k", state={b"a": b"1", b"b": b""})
    _, empty = started(partition, key="k", state={})
    _, lazy = started(partition, key="k", state=None)

    assert [(item.key, item.value) for item in full.state_map] == [(b"a", b"1"), (b"b", b"")]
    assert [start.partial_state for start in (full, empty, lazy)] == [False, False, True]
    assert [len(start.state_map) for start in (empty, lazy)] == [0, 0]
    assert full.key == lazy.key == "k"


@covers("START")
def test_a_start_tells_of_the_failures_since_the_last_stored_entry() -> None:
    partition = Partition()
    partition.apply(greet(1), time_ns=2_000_000)
    for attempt in (1, 2):
        partition.apply(AttemptFailed(ONE, attempt, 500, "boom", 0, False))
        partition.apply(AttemptStarted(ONE, attempt + 1))
    opening, start = started(partition)
    assert opening.attempt == 3
    assert start.retry_count_since_last_stored_entry == 2
    assert start.duration_since_last_stored_entry == 7
    _, behind = started(partition, now_ns=1)
    assert behind.duration_since_last_stored_entry == 0

    partition.send(ONE, RUN)
    _, start = started(partition)
    assert start.retry_count_since_last_stored_entry == 0
    assert start.duration_since_last_stored_entry == 0


@covers("START")
def test_a_restarted_invocation_starts_with_the_chance_of_the_old_one() -> None:
    partition = Partition()
    partition.apply(greet(1))
    seeded = msgspec.structs.replace(partition.invocation(ONE), seed=77)
    partition.transaction.put_invocation(ONE, seeded)

    assert started(partition)[1].random_seed == 77


def opened(partition: Partition, number: int, *, lazy: bool = False) -> list[tuple[int, bytes]]:
    """What opens the current attempt of an object's invocation on a worker."""
    invocation_id = identity(number, "k")
    invocation = partition.invocation(invocation_id)
    attempt = Attempt(cast(Any, None), invocation_id, invocation, cast(Any, None))
    segments = start_segments(partition.transaction, attempt, 7, 9, lazy_state=lazy)
    assert attempt.entries == (invocation.entries if segments else 0)
    return segments


@covers("START")
def test_an_attempt_opens_with_the_state_and_the_journal_as_they_are_stored() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    partition.send(identity(1, "k"), set_state(b"a", b"1"), time_ns=2_000)
    (first_ns, first), (second_ns, second) = opened(partition, 1)

    kinds = [kind for kind, _, _ in messages.split_frames(first)]
    assert kinds == [messages.OPEN, messages.START, messages.INPUT_COMMAND]
    assert (first_ns, second_ns, second) == (1_000, 2_000, frames(set_state(b"a", b"1")))
    ((_, start, end),) = list(messages.split_frames(first))[1:2]
    state = wire.Start.FromString(first[start:end]).state_map
    assert [(item.key, item.value) for item in state] == [(b"a", b"1")]
    lazily = opened(partition, 1, lazy=True)[0][1]
    ((_, start, end),) = list(messages.split_frames(lazily))[1:2]
    message = wire.Start.FromString(lazily[start:end])
    assert (message.partial_state, len(message.state_map)) == (True, 0)


def test_what_is_over_in_the_store_opens_with_nothing() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    assert opened(partition, 2) == []
    partition.send(identity(1, "k"), OUTPUT_OK, END)
    assert opened(partition, 1) == []
    assert opened(partition, 2) != []


def test_the_stored_journal_is_sent_in_order_with_its_times() -> None:
    chunks = [Chunk(time_ns, 1, 1, 1, data) for time_ns, data in ((1, b"a"), (1, b"b"), (2, b"c"))]

    assert journal_segments(chunks) == [(1, b"ab"), (2, b"c")]
    assert journal_segments([]) == []


def test_what_is_known_is_stored_as_it_came() -> None:
    for items, ended in (
        ((OUTPUT_OK, END), True),
        ((OUTPUT_OK,), False),
        ((entry("SUSPENSION", waiting_signals=[1]),), True),
        ((OUTPUT_OK, entry("SUSPENSION", waiting_signals=[1])), True),
        ((entry("SLEEP_COMMAND", result_completion_id=1),), False),
    ):
        sent = frames(*items)
        assert read_reply(sent) == Reply(sent, ended, None)
    assert read_reply(frames(RUN)) == Reply(frames(RUN), False, None, runs=1)
    call = frames(called(2).item)
    assert read_reply(call) == Reply(call, False, None, calls=True)


@covers("PROPOSE_RUN_COMPLETION", "RUN_COMPLETION")
def test_a_proposal_becomes_the_steps_completion_before_it_is_stored() -> None:
    proposals: list[tuple[dict[str, object], object]] = [
        ({"value": b"7"}, b"7"),
        ({"value": b""}, b""),
        ({"failure": {"code": 418, "message": "tea"}}, Failure(418, "tea")),
    ]
    for fields, expected in proposals:
        proposal = entry("PROPOSE_RUN_COMPLETION", result_completion_id=9, **fields)
        reply = read_reply(frames(RUN, proposal, OUTPUT_OK, END))
        names = [kind for kind, _, _ in messages.split_frames(reply.frames) if kind != messages.END]
        assert names == [messages.RUN_COMMAND, messages.RUN_COMPLETION, messages.OUTPUT_COMMAND]
        completion = read_frames(reply.frames[: -messages.FRAME_HEADER_BYTES])[1]
        assert (completion.message.completion_id, result(completion.message)) == (9, expected)
        assert (reply.ended, reply.error) == (True, None)


@covers("ERROR")
def test_an_error_ends_the_attempt_behind_what_came_before_it() -> None:
    error = entry(
        "ERROR",
        code=418,
        message="tea",
        stacktrace="Traceback",
        related_command_index=0,
        related_command_name="step",
        related_command_type=messages.RUN_COMMAND,
        next_retry_delay=300,
        behavior=wire.Error.PAUSE,
    )
    reply = read_reply(frames(RUN, error))

    assert (reply.frames, reply.ended) == (frames(RUN), False)
    assert reply.error == AttemptError(
        418,
        "tea (in 'step')",
        300_000_000,
        Behavior.PAUSE,
        0,
        "step",
        messages.RUN_COMMAND,
        "Traceback",
    )
    assert read_reply(frames(entry("ERROR"))).error == AttemptError(500, "")
    failing = read_reply(frames(entry("ERROR", behavior=wire.Error.FAIL))).error
    assert failing is not None
    assert failing.behavior is Behavior.FAIL


@covers("ERROR")
def test_an_errors_texts_and_delay_are_bounded() -> None:
    long = "x" * 100_000
    error = entry(
        "ERROR",
        message=long,
        stacktrace=long + "end",
        related_command_name=long,
        next_retry_delay=(1 << 64) - 1,
    )
    found = read_reply(frames(error)).error

    assert found is not None
    assert len(found.message) <= 2 * MESSAGE_CHARACTERS_MAX + 20
    assert len(found.related_name) == NAME_CHARACTERS_MAX
    assert len(found.stacktrace) == STACKTRACE_CHARACTERS_MAX
    assert found.stacktrace.endswith("end")
    assert found.delay_ns == DELAY_NS_MAX


@covers("COMMAND_ACK", "UNKNOWN", "INPUT_COMMAND", "START")
@pytest.mark.parametrize(
    "message_type",
    [
        messages.START,
        messages.COMMAND_ACK,
        0x0006,
        0x0007,
        messages.INPUT_COMMAND,
        0x040F,
        0x0777,
        messages.SLEEP_COMPLETION,
        messages.CALL_INVOCATION_ID,
        messages.SIGNAL,
        messages.HELLO,
        0xFFFF,
    ],
)
def test_what_code_may_not_send_fails_the_attempt(message_type: int) -> None:
    for items in (((message_type, b""),), (OUTPUT_OK, (message_type, b""), END)):
        reply = read_reply(frames(*items))
        assert reply.error is not None
        assert reply.error.code == 571
        assert not reply.ended


@pytest.mark.parametrize(
    "broken",
    [
        b"\x04",
        frames(OUTPUT_OK)[:-1],
        frames((messages.ERROR, b"\xff\xff")),
        frames((messages.PROPOSE_RUN_COMPLETION, b"\xff\xff")),
        frames(OUTPUT_OK, END, OUTPUT_OK),
        frames(OUTPUT_OK, entry("ERROR"), OUTPUT_OK),
    ],
)
def test_an_answer_that_does_not_parse_or_goes_on_behind_its_end_fails(broken: bytes) -> None:
    reply = read_reply(broken)

    assert reply.error is not None
    assert not reply.ended
