"""Rows and records of earlier releases: fewer fields, which read as what they meant then."""

import msgspec
import pytest

from perdure.partition_processor.context import WHOLE
from perdure.partition_processor.effects import Answer, StartAttempt
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.records import (
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    INVOKE,
    KINDS,
    encode_command,
)
from perdure.partition_processor.tables import keys
from perdure.partition_processor.tables.inbox import decode_item
from perdure.partition_processor.tables.invocations import (
    RETENTION_NS_BEFORE,
    STATUS_RUNNING,
    decode_invocation,
)
from perdure.partition_processor.tables.progress import Progress, decode_progress

from .support import END, OUTPUT_OK, Partition, Record, answer, frames, greet, identity

pack = msgspec.msgpack.encode
ONE = identity(1)


def test_a_progress_row_with_four_counts_gets_the_others_as_none() -> None:
    old = pack([41, 3, b"d" * 16, [1, 2, 3, 4]])
    assert decode_progress(old) == Progress(41, 3, b"d" * 16, (1, 2, 3, 4), -1)

    partition = Partition()
    partition.store.write([(partition.progress_row, old)])
    partition.reopen()
    assert partition.machine.progress().counts == (1, 2, 3, 4, 0, 0, 0)
    assert partition.machine.progress().applied_lsn == 41
    partition.apply(greet(1), epoch=3)
    assert partition.machine.progress().counts == (1, 3, 3, 4, 0, 0, 0)


def old_row(*more: object) -> bytes:
    """A running invocation of a plain service, as the first release wrote it, and some fields."""
    partition = Partition()
    partition.apply(greet(1))
    head = list(partition.invocation(ONE).head)
    return pack([STATUS_RUNNING, "Greeter", "greet", None, 0, 1, 1_000, 1, head, *more])


@pytest.mark.parametrize("more", [(), (0,), (0, None, None, "dp-1", 2, 1, 900, 0, "[500] boom")])
def test_an_invocation_of_an_earlier_release_goes_on(more: tuple[object, ...]) -> None:
    partition = Partition()
    counts = pack([5, 1, bytes(16), [0, 1, 0, 0]])
    partition.store.write(
        [
            (keys.INVOCATIONS + ONE, old_row(*more)),
            (keys.ACTIVE + ONE, b""),
            (partition.progress_row, counts),
        ]
    )
    partition.reopen()
    (started,) = pending_effects(partition.transaction, WHOLE)
    assert isinstance(started, StartAttempt)
    invocation = started.invocation
    assert (invocation.service, invocation.sinks, invocation.inbox_number) == ("Greeter", (), -1)
    assert invocation.completion_retention_ns == RETENTION_NS_BEFORE

    answered = partition.apply(answer(ONE))[1]
    assert isinstance(answered, Answer)
    assert partition.counts() == {"completed": 1}
    assert len(partition.rows(b"x")) == 1


def test_an_invocation_of_a_later_release_is_read_without_what_is_new() -> None:
    partition = Partition()
    partition.apply(greet(1))
    row = msgspec.msgpack.decode(partition.content()[keys.INVOCATIONS + ONE])

    assert decode_invocation(pack([*row, "new"])) == partition.invocation(ONE)


def test_an_inbox_row_of_an_earlier_release_is_an_id() -> None:
    assert decode_item(bytes(ONE)).invocation_id == ONE


def test_commands_of_an_earlier_release_have_the_meaning_that_they_had() -> None:
    partition = Partition()
    call = greet(1)
    old_invoke = pack([ONE, "Greeter", "greet", None, 0, call.input_frames])
    old_failed = pack([ONE, 1, 500, "boom", None, True])
    partition.apply_records([Record(INVOKE, old_invoke, (), 1, None, 0)])
    assert partition.invocation(ONE).completion_retention_ns == RETENTION_NS_BEFORE
    partition.apply_records([Record(ATTEMPT_FAILED, old_failed, (), 1, None, 0)])
    assert partition.status(ONE) == "completed"

    two = identity(2)
    partition.apply(greet(2))
    old_chunk = pack([two, 1, "dp-1", frames(OUTPUT_OK, END)])
    partition.apply_records([Record(ATTEMPT_CHUNK, old_chunk, (), 1, None, 0)])
    assert partition.invocation(two).output == b'"ok"'


def test_every_command_is_written_as_an_array_in_the_order_of_its_fields() -> None:
    for command_type in KINDS:
        assert command_type.__struct_config__.array_like, command_type.__name__
        fields = command_type.__struct_fields__
        required = len(fields) - len(command_type.__struct_defaults__)
        assert required >= 1, command_type.__name__
    assert encode_command(greet(1)) == pack(greet(1))
