"""Operations that may be asked for again are applied once."""

import msgspec
import pytest

from perdure.core.ids import InvocationId
from perdure.log.types import Record
from perdure.partition_processor import outcomes
from perdure.partition_processor.clients import Clients, InvokeOutcome, Proposed
from perdure.partition_processor.commands.once import ASKED_NS_MAX, KEPT_NS
from perdure.partition_processor.effects import Accepted, Answer, Done
from perdure.partition_processor.operations import Plain, cancel, decode_operation, keys_of
from perdure.partition_processor.records import (
    KINDS,
    ONCE,
    OPERATION_KINDS,
    Kill,
    Once,
    Pause,
    Resume,
    Signal,
    encode_command,
)
from perdure.partition_processor.tables import keys

from ..covering import covers
from .support import Partition, answer, greet, identity

ONE = identity(1)
START_NS = 10**18


def asked(number: int, time_ns: int = START_NS) -> bytes:
    """An operation's id."""
    return time_ns.to_bytes(8, "big") + number.to_bytes(8, "big")


def once(operation: Plain, number: int = 1, asked_ns: int = START_NS) -> Once:
    """An operation as another node sends it."""
    return Once(asked(number, asked_ns), KINDS[type(operation)], encode_command(operation))


def outcome_of(partition: Partition, command: Once, *, time_ns: int = START_NS) -> str:
    """What whoever asked is told."""
    record = Record(ONCE, encode_command(command), keys_of(command), 2, None, partition_number())
    done = [e for e in partition.apply_records([record], time_ns=time_ns) if isinstance(e, Done)]
    assert len(done) == 1
    return done[0].outcome


_numbers = iter(range(1, 10**6))


def partition_number() -> int:
    """The next number of a leader's record."""
    return next(_numbers)


@pytest.fixture(autouse=True)
def _from_one() -> None:
    global _numbers
    _numbers = iter(range(1, 10**6))


@covers("Once")
def test_a_named_signal_that_is_sent_again_comes_once() -> None:
    partition = Partition()
    partition.apply(greet(1))
    signal = Signal(ONE, 0, "go", b"1", None)
    first = outcome_of(partition, once(signal))
    partition.reopen()
    again = outcome_of(partition, once(signal))

    assert first == again == outcomes.DONE
    assert partition.invocation(ONE).signals == ("go",)
    assert outcome_of(partition, once(signal, 2)) == outcomes.DONE
    assert partition.invocation(ONE).entries == 3


@covers("Once")
def test_what_was_done_first_is_told_again_whatever_has_happened_since() -> None:
    partition = Partition()
    partition.apply(greet(1))
    assert outcome_of(partition, once(Pause(ONE))) == outcomes.DONE
    assert outcome_of(partition, once(Resume(ONE), 2)) == outcomes.DONE
    assert outcome_of(partition, once(Pause(ONE))) == outcomes.DONE
    assert partition.status(ONE) == "running"
    assert outcome_of(partition, once(Kill(ONE), 3)) == outcomes.DONE
    assert outcome_of(partition, once(Kill(ONE), 3)) == outcomes.DONE
    assert outcome_of(partition, once(Kill(ONE), 4)) == outcomes.COMPLETED


@covers("Once")
def test_an_operation_that_comes_too_late_is_refused_unless_it_is_known() -> None:
    partition = Partition()
    partition.apply(greet(1))
    known, late = once(cancel(ONE)), once(Kill(ONE), 2)
    assert outcome_of(partition, known) == outcomes.DONE
    after = START_NS + ASKED_NS_MAX + 1
    assert outcome_of(partition, late, time_ns=after) == outcomes.EXPIRED
    assert outcome_of(partition, known, time_ns=after) == outcomes.DONE
    assert partition.status(ONE) == "running"


@covers("Once")
def test_outcomes_are_forgotten_when_nobody_can_ask_for_them_any_more() -> None:
    partition = Partition()
    partition.apply(greet(1))
    for number in range(10):
        outcome_of(partition, once(cancel(ONE), number))
    assert len(partition.rows(keys.OPERATIONS)) == 10
    after = START_NS + KEPT_NS + 1
    for number in range(20, 30):
        outcome_of(partition, once(cancel(ONE), number, after), time_ns=after)
    assert len(partition.rows(keys.OPERATIONS)) == 10


def test_an_operation_keeps_the_keys_that_it_has_by_itself() -> None:
    for operation in (Kill(ONE), cancel(ONE)):
        assert keys_of(once(operation)) == keys_of(operation)
        assert decode_operation(KINDS[type(operation)], encode_command(operation)) == operation
    assert all(KINDS[type(item)] in OPERATION_KINDS for item in (Kill(ONE), Pause(ONE)))


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("completed", [True, False])
def test_a_request_that_comes_again_finds_what_it_made_itself(wait: bool, completed: bool) -> None:
    partition = Partition()
    partition.apply(msgspec.structs.replace(greet(1), request_id=b"12345678"))
    if completed:
        partition.apply(answer(ONE))
    known = msgspec.structs.replace(
        partition.invocation(ONE),
        target_kind=3,  # a workflow's run, which is refused to everybody else
    )
    target = (known.service, known.handler, known.key)
    for request_id, own in ((b"12345678", True), (b"87654321", False), (None, False)):
        told: list[InvokeOutcome] = []
        clients = Clients()
        clients.proposed(Proposed(told.append, wait, InvocationId(ONE), target, request_id), 1)
        clients.accepted(Accepted(1, 1, ONE, known))
        if not own:
            assert len(told) == 1
            assert wait == isinstance(told[0], Exception)
        elif not wait:
            assert told == [Accepted(1, 1, ONE, None)]
        elif completed:
            assert isinstance(told[0], Answer)
        else:
            assert told == []
            assert clients.waiting_for(ONE) == 1
