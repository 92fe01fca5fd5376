"""Notifications: for every status of an invocation, what becomes of one that comes."""

import pytest

from perdure.core.protocol import messages
from perdure.partition_processor.effects import Notify, StartAttempt
from perdure.partition_processor.operations import cancel
from perdure.partition_processor.outcomes import DONE, UNCHANGED
from perdure.partition_processor.records import Command, Respond, Signal
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import delivered, told
from .frames import result
from .support import Partition, greet, identity
from .transitions import ONE, STATUSES, reach

COMPLETION = delivered(Respond(ONE, 1, messages.SLEEP_COMPLETION, None, None))
AWAKEABLE = Signal(ONE, 17, "", b"1", None)
NAMED = Signal(ONE, 0, "go", None, Failure(418, "tea"))
COMING: dict[str, Command] = {
    "a completion": COMPLETION,
    "an awakeable's signal": AWAKEABLE,
    "a named signal": NAMED,
    "a cancellation": cancel(ONE),
}

# What becomes of it: ``dropped``; ``ended``, where a cancellation ends what has not begun;
# ``sent``, stored and told to the attempt; ``stored``; ``woke``, stored and it runs again.
EXPECTED: dict[str, tuple[str, str, str, str]] = {
    "unknown": ("dropped", "dropped", "dropped", "dropped"),
    "scheduled": ("dropped", "dropped", "dropped", "ended"),
    "pending": ("dropped", "dropped", "dropped", "ended"),
    "running": ("sent", "sent", "sent", "sent"),
    "suspended": ("woke", "stored", "stored", "woke"),
    "backing-off": ("stored", "stored", "stored", "stored"),
    "paused": ("stored", "stored", "stored", "woke"),
    "completed": ("dropped", "dropped", "dropped", "dropped"),
}


def entries(partition: Partition) -> int:
    """How long the journal is; 0 where there is none."""
    invocation = partition.transaction.invocation(ONE)
    return 0 if invocation is None else invocation.entries


@covers("Respond", "Signal", "SIGNAL", "SLEEP_COMPLETION")
@pytest.mark.parametrize("coming", COMING)
@pytest.mark.parametrize("status", STATUSES)
def test_a_notification_is_sent_stored_or_dropped_by_the_status(status: str, coming: str) -> None:
    partition = reach(status)
    before, status_before = entries(partition), partition.status(ONE)
    effects = partition.apply(COMING[coming])
    sent = [item for item in effects if isinstance(item, Notify)]
    woken = [item for item in effects if isinstance(item, StartAttempt)]
    stored = entries(partition) - before
    expected = EXPECTED[status][list(COMING).index(coming)]

    assert stored == (1 if expected in ("sent", "stored", "woke") else 0)
    assert len(sent) == (1 if expected == "sent" else 0)
    assert len([item for item in woken if item.invocation_id == ONE]) == (expected == "woke")
    if expected == "ended":
        assert partition.invocation(ONE).failure == Failure(409, "cancelled")
    elif expected == "woke":
        assert partition.status(ONE) == "running"
    else:
        assert partition.status(ONE) == status_before


@covers("SIGNAL")
def test_what_is_sent_is_what_is_stored_and_names_the_length_of_the_journal() -> None:
    partition = reach("running")
    for number, command in enumerate((NAMED, AWAKEABLE, COMPLETION, cancel(ONE)), 3):
        effects = partition.apply(command)
        (notify,) = [item for item in effects if isinstance(item, Notify)]
        (item,) = told(effects, ONE)
        assert item == partition.journal(ONE)[-1]
        assert notify.entries == number
        assert notify.attempt == 1
    values = [result(item.message) for item in partition.journal(ONE)[2:]]
    assert values == [Failure(418, "tea"), b"1", None, None]


@covers("SIGNAL")
def test_every_cancellation_and_named_signal_is_told_but_an_awakeable_only_once() -> None:
    partition = reach("running")
    for command, times in ((cancel(ONE), 2), (NAMED, 2), (AWAKEABLE, 1)):
        told_of = [*partition.apply(command), *partition.apply(command)]
        assert len(told(told_of, ONE)) == times


@covers("Signal")
def test_whoever_completes_an_awakeable_is_told_whether_that_was_the_first_time() -> None:
    partition = reach("running")
    for command, outcome in ((NAMED, DONE), (AWAKEABLE, UNCHANGED), (cancel(ONE), DONE)):
        assert partition.operate(command)[0] == DONE
        assert partition.operate(command)[0] == outcome


def test_a_signal_named_like_a_number_is_not_the_signal_of_that_number() -> None:
    partition = Partition()
    partition.apply(greet(1))
    one = identity(1)
    effects = partition.apply(Signal(one, 0, "17", None, None), Signal(one, 17, "", b"", None))

    assert len(told(effects, one)) == 2
    assert partition.invocation(one).signals == ("17", 17)


@covers("Signal")
def test_a_signal_named_with_the_number_of_the_cancellation_cancels_nothing() -> None:
    partition = reach("pending")
    partition.apply(Signal(ONE, 1, "stop", None, None))

    assert partition.status(ONE) == "pending"
