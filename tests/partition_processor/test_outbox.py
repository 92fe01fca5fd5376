"""Messages between partitions: their order, copies, gaps, and those of a partition to itself."""

import msgspec
import pytest

from perdure.core.ids import InvocationId, invocation_id_text
from perdure.core.protocol import messages
from perdure.partition_processor import context
from perdure.partition_processor.effects import Delivered, Effect, EndAttempt, Ship, StartAttempt
from perdure.partition_processor.manager import partition_range
from perdure.partition_processor.operations import cancel
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.records import (
    COMMAND_TYPES,
    DELIVERED_KINDS,
    INVOKE,
    KILL,
    KIND_SERVICE,
    KINDS,
    RESPOND,
    CallTarget,
    Deliver,
    Invoke,
    Kill,
    Signal,
    TruncateOutbox,
)
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import DAY_NS, called, delivered, make, sent, told
from .frames import entry, result
from .support import Partition, add, answer, greet, identity

HERE = identity(1)
FAR, FAR_TOO = InvocationId(b"\xff" * 8 + bytes(16)), InvocationId(b"\xff" * 8 + bytes(15) + b"\1")


def two() -> tuple[Partition, Partition]:
    """Both partitions of a cluster that has two; the first runs an invocation."""
    first, second = Partition(own=partition_range(0, 2)), Partition(own=partition_range(1, 2))
    first.apply(greet(1))
    return first, second


def far_call(*ids: int, target: InvocationId = FAR) -> tuple[tuple[int, bytes], CallTarget]:
    """A call of an invocation in the second partition."""
    return called(2, ids=(ids[0], ids[1])).item, CallTarget(target, KIND_SERVICE, DAY_NS, DAY_NS)


def ships(effects: list[Effect]) -> list[Ship]:
    """What is to be carried to other partitions."""
    return [item for item in effects if isinstance(item, Ship)]


def carried(items: list[Ship], source: int) -> Deliver:
    """What the other partition gets."""
    return Deliver(source, items[0].number, tuple((item.kind, item.body) for item in items))


@covers("CALL_COMMAND", "Deliver", "TruncateOutbox")
def test_a_call_of_another_partition_goes_there_and_its_result_comes_back() -> None:
    first, second = two()
    item, target = far_call(1, 2)
    effects = first.send(HERE, item, calls=(target,))
    (identified,) = told(effects, HERE)
    assert result(identified.message) == invocation_id_text(FAR)
    (ship,) = ships(effects)
    assert (ship.destination, ship.number, ship.kind) == (1, 1, INVOKE)

    effects = second.apply(carried([ship], 0))
    assert Delivered(0, 1) in effects
    assert second.invocation(FAR).parent == HERE
    (back,) = ships(second.apply(answer(FAR)))
    assert (back.destination, back.number, back.kind) == (0, 1, RESPOND)
    (completed,) = told(first.apply(carried([back], 1)), HERE)
    assert result(completed.message) == b'"ok"'

    assert len(first.rows(b"o")) == len(second.rows(b"o")) == 1
    first.apply(TruncateOutbox(1, 1))
    assert first.rows(b"o") == []
    assert len(first.rows(b"u")) == 1


@covers("Deliver")
def test_messages_that_come_twice_or_overlap_are_taken_once() -> None:
    _, second = two()
    second.apply(delivered(greet_far(), source=0))
    before = second.digest
    assert second.apply(delivered(greet_far(), source=0)) == [Delivered(0, 1)]
    assert second.digest == before

    effects = second.apply(delivered(greet_far(), Signal(FAR, 17, "", b"1", None), source=0))
    assert effects[0] == Delivered(0, 2)
    assert len(told(effects, FAR)) == 1


def greet_far() -> Invoke:
    """An invocation in the second partition."""
    return msgspec.structs.replace(greet(1), invocation_id=FAR)


@covers("Deliver")
def test_after_a_gap_nothing_is_taken_until_what_is_missing_has_come() -> None:
    _, second = two()
    signal = Signal(FAR, 17, "", b"1", None)
    assert second.apply(delivered(signal, source=0, first=2)) == [Delivered(0, 0, gap=True)]
    assert second.rows(b"r") == []
    effects = second.apply(delivered(greet_far(), signal, source=0))

    assert effects[0] == Delivered(0, 2)
    assert second.invocation(FAR).signals == (17,)


@covers("Deliver")
def test_every_source_counts_for_itself_and_no_messages_are_no_gap() -> None:
    _, second = two()
    assert second.apply(Deliver(0, 1, ())) == [Delivered(0, 0)]
    second.apply(delivered(greet_far(), source=0))
    effects = second.apply(delivered(Signal(FAR, 17, "", b"1", None), source=5))

    assert effects[0] == Delivered(5, 1)
    assert second.invocation(FAR).signals == (17,)


@covers("Kill", "Deliver")
def test_a_kill_reaches_children_in_other_partitions_in_order() -> None:
    first, second = two()
    item, target = far_call(1, 2)
    other, other_target = far_call(3, 4, target=FAR_TOO)
    called_here = called(3, ids=(5, 6))
    effects = first.send(
        HERE, item, other, called_here.item, calls=(target, other_target, called_here.target)
    )
    second.apply(carried(ships(effects), 0))
    effects = first.apply(Kill(HERE))
    kills = ships(effects)

    assert [(ship.number, ship.kind) for ship in kills] == [(3, KILL), (4, KILL)]
    assert first.invocation(identity(3)).failure == Failure(409, "killed")
    effects = second.apply(carried(kills, 0))
    ended = [item.invocation_id for item in effects if isinstance(item, EndAttempt)]
    assert ended == [FAR, FAR_TOO]
    # What they answer finds nobody who waits.
    answers = ships(effects)
    assert [ship.kind for ship in answers] == [RESPOND, RESPOND]
    before = first.invocation(HERE)
    first.apply(carried(answers, 1))
    assert first.invocation(HERE) == before


@covers("ATTACH_INVOCATION_COMMAND", "SEND_SIGNAL_COMMAND", "Attach", "Deliver")
def test_attaching_and_cancelling_work_across_partitions() -> None:
    first, second = two()
    second.apply(greet_far())
    far = invocation_id_text(FAR)
    effects = first.send(
        HERE,
        entry("ATTACH_INVOCATION_COMMAND", invocation_id=far, result_completion_id=1),
        entry("GET_INVOCATION_OUTPUT_COMMAND", invocation_id=far, result_completion_id=2),
        entry("SEND_SIGNAL_COMMAND", target_invocation_id=far, idx=1),
    )
    effects = second.apply(carried(ships(effects), 0))
    (signal,) = told(effects, FAR)
    assert signal.message.signal_index == messages.SIGNAL_CANCEL
    output = ships(effects)
    (not_yet,) = told(first.apply(carried(output, 1)), HERE)
    assert (not_yet.name, result(not_yet.message)) == ("GET_INVOCATION_OUTPUT_COMPLETION", None)

    effects = second.apply(answer(FAR))
    (completed,) = told(first.apply(carried(ships(effects), 1)), HERE)
    assert (completed.name, result(completed.message)) == ("ATTACH_INVOCATION_COMPLETION", b'"ok"')


@covers("TruncateOutbox")
def test_the_outbox_forgets_what_was_taken_and_goes_on_counting() -> None:
    first, _ = two()
    item, target = far_call(1, 2)
    other, other_target = far_call(3, 4, target=FAR_TOO)
    first.send(HERE, item, other, calls=(target, other_target))
    pending = ships(pending_effects(first.transaction, first.own))
    assert [ship.number for ship in pending] == [1, 2]
    first.apply(TruncateOutbox(1, 1))
    first.reopen()
    assert [ship.number for ship in ships(pending_effects(first.transaction, first.own))] == [2]
    first.apply(TruncateOutbox(1, 1), TruncateOutbox(0, 99), TruncateOutbox(7, 99))
    first.apply(TruncateOutbox(1, 2))

    item, target = far_call(5, 6, target=InvocationId(b"\xff" * 24))
    (ship,) = ships(first.send(HERE, item, calls=(target,)))
    assert ship.number == 3


@covers("Deliver")
def test_more_than_one_record_may_have_for_its_own_partition_goes_by_the_outbox_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("perdure.partition_processor.machine.LOCAL_DELIVERIES_MAX", 3)
    partition = Partition()
    partition.apply(greet(1))
    calls = [sent(number, id_index=number) for number in range(2, 9)]
    effects = make(partition, HERE, *calls)
    started = [item.invocation_id for item in effects if isinstance(item, StartAttempt)]
    assert started == [identity(number) for number in (2, 3, 4)]
    shipped = ships(effects)
    assert [(ship.destination, ship.number) for ship in shipped] == [(0, n) for n in (1, 2, 3, 4)]

    # What comes later must not overtake what is under way.
    partition.reopen()
    late = entry("SEND_SIGNAL_COMMAND", target_invocation_id=invocation_id_text(identity(8)), idx=1)
    late_ships = ships(partition.send(HERE, late))
    assert [ship.number for ship in late_ships] == [5]
    assert partition.status(identity(8)) == "unknown"

    effects = partition.apply(carried(shipped + late_ships, 0))
    started = [item.invocation_id for item in effects if isinstance(item, StartAttempt)]
    assert started == [identity(number) for number in (5, 6, 7, 8)]
    assert partition.invocation(identity(8)).signals == (1,)
    # All have arrived: the next goes directly again.
    assert ships(make(partition, HERE, sent(20, id_index=20))) == []
    assert partition.status(identity(20)) == "running"


def test_a_swarm_of_calls_is_bounded_per_record() -> None:
    partition = Partition()
    partition.apply(greet(1))
    number = context.LOCAL_DELIVERIES_MAX + 5
    effects = make(partition, HERE, *(sent(at, id_index=at) for at in range(2, number + 2)))

    assert len(ships(effects)) == 5
    assert sum(isinstance(item, StartAttempt) for item in effects) == context.LOCAL_DELIVERIES_MAX


def test_only_some_commands_travel_and_each_names_its_target_first() -> None:
    names = {COMMAND_TYPES[kind].__name__ for kind in DELIVERED_KINDS}
    assert names == {"Invoke", "Signal", "Respond", "Attach", "Kill"}
    for kind in DELIVERED_KINDS:
        assert COMMAND_TYPES[kind].__struct_fields__[0] == "invocation_id"
    assert KINDS[type(cancel(HERE))] in DELIVERED_KINDS


@covers("CALL_COMMAND")
def test_what_a_caller_holds_is_known_in_another_partition() -> None:
    first, second = two()
    first.apply(add(4))
    holder = identity(4, "k")
    item, target = far_call(1, 2)
    effects = first.send(holder, item, calls=(target,))
    second.apply(carried(ships(effects), 0))
    back = called(5, key="k")
    effects = second.send(FAR, back.item, calls=(back.target,))
    refused = first.apply(carried(ships(effects), 1))

    (ship,) = ships(refused)
    (completed,) = told(second.apply(carried([ship], 0)), FAR)
    failure = result(completed.message)
    assert isinstance(failure, Failure)
    assert (failure.code, first.status(identity(5, "k"))) == (409, "unknown")
