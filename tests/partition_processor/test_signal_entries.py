"""Signals and awakeables from code: what the target gets, and what is refused."""

import pytest

from perdure.core.ids import awakeable_id_text
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import text, told
from .frames import entry, result
from .support import Partition, add, greet, identity

ONE, TWO = identity(1), identity(2)


def two() -> Partition:
    """A partition with two invocations, which run."""
    partition = Partition()
    partition.apply(greet(1), greet(2))
    return partition


def awakeable(index: int = 17, **fields: object) -> tuple[int, bytes]:
    """The completion of the second invocation's awakeable."""
    return entry("COMPLETE_AWAKEABLE_COMMAND", awakeable_id=awakeable_id_text(TWO, index), **fields)


RESULTS: list[tuple[dict[str, object], object]] = [
    ({"void": {}}, None),
    ({}, None),
    ({"value": {"content": b"5"}}, b"5"),
    ({"value": {}}, b""),
    ({"failure": {"code": 418, "message": "tea"}}, Failure(418, "tea")),
]


@covers("SEND_SIGNAL_COMMAND", "SIGNAL")
@pytest.mark.parametrize(("fields", "expected"), RESULTS)
def test_a_named_signal_reaches_its_target_with_what_it_carries(
    fields: dict[str, object], expected: object
) -> None:
    partition = two()
    item = entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(2), name="go", **fields)
    effects = partition.send(ONE, item)

    assert told(effects, ONE) == []
    (signal,) = told(effects, TWO)
    assert (signal.name, signal.message.signal_name) == ("SIGNAL", "go")
    assert result(signal.message) == expected
    assert partition.journal(TWO)[-1] == signal
    assert partition.journal(ONE)[-1].name == "SEND_SIGNAL_COMMAND"


@covers("SEND_SIGNAL_COMMAND", "SIGNAL")
def test_a_signal_may_have_an_index_instead_of_a_name() -> None:
    partition = two()
    effects = partition.send(
        ONE, entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(2), idx=300, value={})
    )

    (signal,) = told(effects, TWO)
    assert signal.message.WhichOneof("id") == "signal_index"
    assert signal.message.signal_index == 300


@covers("COMPLETE_AWAKEABLE_COMMAND", "SIGNAL")
@pytest.mark.parametrize(("fields", "expected"), RESULTS[2:])
def test_an_awakeable_is_a_signal_with_the_index_in_its_id(
    fields: dict[str, object], expected: object
) -> None:
    partition = two()
    (signal,) = told(partition.send(ONE, awakeable(18, **fields)), TWO)

    assert (signal.name, signal.message.signal_index) == ("SIGNAL", 18)
    assert result(signal.message) == expected


@covers("COMPLETE_AWAKEABLE_COMMAND", "SEND_SIGNAL_COMMAND")
def test_an_awakeable_is_completed_once_and_every_signal_of_a_name_arrives() -> None:
    partition = two()
    partition.send(ONE, awakeable(value={"content": b"1"}))
    partition.send(ONE, entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(2), name="go"))
    entries = partition.invocation(TWO).entries
    effects = partition.send(
        ONE,
        awakeable(value={"content": b"2"}),
        entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(2), name="go", value={}),
    )

    assert [item.message.signal_name for item in told(effects, TWO)] == ["go"]
    assert partition.invocation(TWO).entries == entries + 1


@covers("SEND_SIGNAL_COMMAND")
def test_a_handler_may_cancel_another_and_itself() -> None:
    partition = two()
    for target, invocation_id in ((2, TWO), (1, ONE)):
        item = entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(target), idx=1, void={})
        (signal,) = told(partition.send(ONE, item), invocation_id)
        assert signal.message.signal_index == 1
        assert result(signal.message) is None
        assert partition.invocation(invocation_id).signals == (1,)


@covers("SEND_SIGNAL_COMMAND", "COMPLETE_AWAKEABLE_COMMAND")
def test_a_signal_for_what_is_unknown_or_over_is_dropped() -> None:
    partition = two()
    partition.send(
        ONE,
        entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(99), name="go"),
        entry("COMPLETE_AWAKEABLE_COMMAND", awakeable_id=awakeable_id_text(identity(98), 17)),
    )

    assert partition.status(ONE) == "running"
    assert partition.status(identity(99)) == "unknown"


@covers("SEND_SIGNAL_COMMAND")
def test_a_pending_invocation_takes_no_signal_but_a_cancellation() -> None:
    partition = Partition()
    partition.apply(greet(1), add(2), add(3))
    waiting = identity(3, "k")
    named = entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(3, "k"), name="go")
    partition.send(ONE, named)
    assert (partition.status(waiting), partition.invocation(waiting).entries) == ("pending", 1)

    cancel = entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(3, "k"), idx=1)
    partition.send(ONE, cancel)
    assert partition.invocation(waiting).failure == Failure(409, "cancelled")


MALFORMED = [
    entry("SEND_SIGNAL_COMMAND", target_invocation_id="", name="go"),
    entry("SEND_SIGNAL_COMMAND", target_invocation_id="inv_1abc", name="go"),
    entry("SEND_SIGNAL_COMMAND", target_invocation_id="inv_1" + "~" * 33, name="go"),
    entry("SEND_SIGNAL_COMMAND", target_invocation_id="inv_1" + "Z" * 33, name="go"),
    entry("SEND_SIGNAL_COMMAND", target_invocation_id="x" * 100_000, name="go"),
    entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(2)),
    entry("COMPLETE_AWAKEABLE_COMMAND", awakeable_id="", value={}),
    entry("COMPLETE_AWAKEABLE_COMMAND", awakeable_id="sign_1AAAA", value={}),
    entry("COMPLETE_AWAKEABLE_COMMAND", awakeable_id="ключ" * 9_000, value={}),
    entry("COMPLETE_AWAKEABLE_COMMAND", awakeable_id=text(2), value={}),
    awakeable(1, value={}),
    awakeable(16, value={}),
]


@covers("SEND_SIGNAL_COMMAND", "COMPLETE_AWAKEABLE_COMMAND")
@pytest.mark.parametrize("item", MALFORMED)
def test_a_malformed_id_fails_the_attempt_with_a_short_text_and_sends_nothing(
    item: tuple[int, bytes],
) -> None:
    partition = two()
    effects = partition.send(ONE, item)

    assert told(effects, TWO) == []
    assert partition.status(ONE) == "backing-off"
    failure = partition.invocation(ONE).last_failure
    assert failure is not None
    assert failure.startswith("[571] ")
    assert len(failure) < 400
