"""Sequencer: every answer, when it is told, and what an append may ask for."""

import pytest

from perdure.log import sequencer as sequencer_module
from perdure.log.answers import (
    Answer,
    Committed,
    Conflict,
    Duplicate,
    Fence,
    Fenced,
    NotChangedSince,
    OutOfOrder,
    Overloaded,
    Producer,
    StaleSnapshot,
    WrongSegment,
)
from perdure.log.errors import (
    FuturePositionError,
    LogletSealedError,
    MalformedAppendError,
)
from perdure.log.sequencer import Append, SequencerLimits

from .admission import BASE_LSN, EVERY_KEY, READ, A, Admission, B, C, D, E, record, write

P = b"p" * 16
SCOPE = b"leader"


def from_producer(sequence: int, epoch: int = 1, count: int = 1) -> Append:
    return Append([record(A)] * count, producer=Producer(P, epoch, sequence))


# Committed ---------------------------------------------------------------------------------------


def test_an_append_gets_its_lsns_at_once_and_its_answer_when_durable() -> None:
    """Side by side, in the order of admission."""
    log = Admission()

    assert log.admit("one", Append([record(A), record(B)])) == BASE_LSN
    assert log.admit("two", Append([record(A)])) == BASE_LSN + 2
    assert log.told == []

    log.commit(BASE_LSN + 1)

    assert log.told == [("one", Committed(BASE_LSN, BASE_LSN + 1))]

    log.commit()

    assert log.answer("two") == Committed(BASE_LSN + 2, BASE_LSN + 2)


def test_nobody_needs_to_listen() -> None:
    """Whoever sees the records come back takes no answer; a refusal gives None all the same."""
    log = Admission()

    assert log.sequencer.admit(write(A), None) == BASE_LSN
    assert log.sequencer.admit(write(A), None) is None

    log.commit()

    assert log.sequencer.committed_tail_lsn == BASE_LSN + 1


def test_the_leaders_records_are_told_of_only_when_their_condition_fails() -> None:
    """Neither committed nor sealed: the leader sees them come back, or opens the log again."""
    log = Admission()
    told: list[Answer] = []
    admit = log.sequencer.admit_own
    assert admit(record(A), None, told.append) == BASE_LSN
    log.commit()

    assert told == []

    assert admit(record(A), NotChangedSince(A, READ), told.append) is None
    assert told == [Conflict(A, BASE_LSN)]
    assert admit(record(A), NotChangedSince(A, BASE_LSN), told.append) == BASE_LSN + 1

    # Held back until its cause is durable, like any refusal.
    assert admit(record(A), NotChangedSince(A, BASE_LSN), told.append) is None
    assert told == [Conflict(A, BASE_LSN)]

    log.commit()

    assert told == [Conflict(A, BASE_LSN), Conflict(A, BASE_LSN + 1)]
    with pytest.raises(FuturePositionError):
        admit(record(A), NotChangedSince(A, BASE_LSN + 2), told.append)

    log.loglet.error = LogletSealedError(1)
    assert admit(record(B), None, told.append) is None
    assert log.sequencer.sealed
    assert admit(record(C), None, told.append) is None
    log.sequencer.close(lost=True, reason="")

    assert len(told) == 2


def test_records_carry_what_was_checked() -> None:
    """Conditions on the first record; the producer's numbers on each."""
    log = Admission()
    conditions = (NotChangedSince(A, READ), NotChangedSince(B, READ))
    append = Append([record(A), record(B)], conditions, producer=Producer(P, 4, 1))
    log.admit("it", append)
    first, second = log.loglet.groups[0]

    assert first.conditions == ((A, READ), (B, READ))
    assert second.conditions == ()
    assert [(item.producer, item.producer_epoch, item.sequence) for item in (first, second)] == [
        (P, 4, 1),
        (P, 4, 2),
    ]


def test_an_append_is_told_as_a_whole() -> None:
    """Not when its first records are durable, should a loglet ever tell of them alone."""
    log = Admission()
    log.admit("it", Append([record(A), record(B)]))
    log.commit(BASE_LSN)

    assert log.answer("it") is None

    log.commit()

    assert log.answer("it") == Committed(BASE_LSN, BASE_LSN + 1)


# Conditions --------------------------------------------------------------------------------------


def test_a_conflict_is_told_once_its_cause_is_committed() -> None:
    """It takes no offset and touches nothing."""
    log = Admission()
    log.admit("winner", write(A))

    assert log.admit("loser", write(A)) is None
    assert log.told == []
    assert log.sequencer.tail_lsn == BASE_LSN + 1

    log.commit()

    assert log.told == [
        ("winner", Committed(BASE_LSN, BASE_LSN)),
        ("loser", Conflict(A, BASE_LSN)),
    ]


def test_a_conflict_with_what_is_committed_is_told_at_once() -> None:
    """There is nothing to wait for."""
    log = Admission()
    log.admit("winner", write(A))
    log.commit()
    log.admit("loser", write(A))

    assert log.answer("loser") == Conflict(A, BASE_LSN)


def test_held_refusals_are_told_in_the_order_of_their_causes() -> None:
    """Then in the order of asking; each after the answer to its cause."""
    log = Admission()
    log.admit("a", write(A))
    log.admit("b", write(B))
    log.admit("not b", write(B))
    log.admit("not a", write(A))
    log.admit("nor a", write(A))
    log.commit(BASE_LSN)

    assert [name for name, _ in log.told] == ["a", "not a", "nor a"]

    log.commit()

    assert [name for name, _ in log.told] == ["a", "not a", "nor a", "b", "not b"]


def test_a_condition_may_rest_on_a_record_in_flight() -> None:
    """Each link needs the one before; somebody else's is refused."""
    log = Admission()
    first = log.admit("first", write(A))
    assert first is not None
    second = log.admit("second", write(A, first))
    assert second is not None

    assert log.admit("other", write(A, first)) is None
    assert log.admit("third", write(A, second)) == second + 1

    log.commit()

    assert log.answer("other") == Conflict(A, second)
    assert log.answer("third") == Committed(second + 1, second + 1)


def test_unconditional_records_count_as_changes() -> None:
    """Whether anybody asked for conditions or not."""
    log = Admission()
    log.admit("plain", Append([record(B), record(A), record(A), record(C)]))
    log.commit()
    for name, key in (("a", A), ("b", B), ("c", C), ("d", D)):
        log.admit(name, write(key))

    assert log.answer("a") == Conflict(A, BASE_LSN + 2)
    assert log.answer("b") == Conflict(B, BASE_LSN)
    assert log.answer("c") == Conflict(C, BASE_LSN + 3)
    assert log.answer("d") is None


def test_records_without_keys_change_nothing() -> None:
    """No keys is not every key."""
    log = Admission()
    log.admit("plain", Append([record()]))

    assert log.admit("it", write(A)) == BASE_LSN + 1


def test_a_record_of_every_key_changes_all_of_them() -> None:
    """The answer names no key and waits like any other."""
    log = Admission()
    log.admit("all", Append([EVERY_KEY]))
    log.admit("it", write(A))

    assert log.answer("it") is None

    log.commit()

    assert log.answer("it") == Conflict(None, BASE_LSN)


def test_one_condition_that_fails_refuses_the_whole_append() -> None:
    """Nothing of it is in the log or in the table."""
    log = Admission()
    log.admit("a", write(A))
    conditions = (NotChangedSince(B, READ), NotChangedSince(A, READ))

    assert log.admit("both", Append([record(A), record(B)], conditions)) is None
    assert log.admit("b", write(B)) == BASE_LSN + 1
    assert len(log.loglet.groups) == 2


def test_a_snapshot_from_before_the_segment_is_stale() -> None:
    """Told at once: everybody can read up to the floor."""
    log = Admission()
    log.admit("it", write(A, READ - 1))

    assert log.answer("it") == StaleSnapshot(READ)


def test_the_floor_stays_below_the_committed_tail() -> None:
    """However many keys are in flight."""
    log = Admission(SequencerLimits(condition_entries_max=1))
    for key in (A, B, C, D):
        log.admit("", Append([record(key)]))
    log.admit("in flight", write(E))

    assert log.answer("in flight") is None

    log.commit(BASE_LSN + 1)
    log.admit("stale", write(A))

    assert log.answer("stale") == StaleSnapshot(BASE_LSN + 1)
    assert log.sequencer.committed_tail_lsn == BASE_LSN + 2
    assert log.admit("read on", write(A, BASE_LSN + 1)) == BASE_LSN + 5


def test_a_position_from_the_future_is_an_error() -> None:
    """Nobody can have read it; nothing is taken."""
    log = Admission()

    with pytest.raises(FuturePositionError) as error:
        log.admit("it", write(A, BASE_LSN))

    assert (error.value.position, error.value.tail) == (BASE_LSN, BASE_LSN)
    assert log.loglet.groups == []
    assert log.told == []


def test_a_copy_of_an_append_meets_the_first_one() -> None:
    """A resend finds its own record: at most one is in the log."""
    log = Admission()
    append = write(A)
    log.admit("first", append)
    log.admit("copy", append)
    log.commit()

    assert log.answer("copy") == Conflict(A, BASE_LSN)
    assert len(log.loglet.groups) == 1


# Segment, fence, producer, load ------------------------------------------------------------------


def test_an_append_for_another_segment_is_refused_at_once() -> None:
    """Before anything else is looked at; its own index and none pass."""
    log = Admission(index=3)
    log.admit("old", write(A, READ - 1, segment=2))

    assert log.answer("old") == WrongSegment(3)
    assert log.admit("own", write(A, segment=3)) == BASE_LSN


def test_a_fence_refuses_lower_epochs_once_it_is_committed() -> None:
    """Equal and higher ones pass, as do other scopes and appends without a fence."""
    log = Admission()
    log.admit("five", Append([record()], fence=Fence(SCOPE, 5)))
    log.admit("four", Append([record()], fence=Fence(SCOPE, 4)))

    assert log.told == []
    for fence in (Fence(SCOPE, 5), Fence(b"other", 1), None):
        assert log.admit("", Append([record()], fence=fence)) is not None

    log.commit(BASE_LSN)

    assert log.answer("four") == Fenced(5)


def test_a_refused_append_raises_no_fence() -> None:
    """It consumed nothing at all."""
    log = Admission()
    log.admit("a", write(A))
    log.admit("refused", write(A, fence=Fence(SCOPE, 9)))

    assert log.admit("low", Append([record()], fence=Fence(SCOPE, 1))) is not None


def test_a_refused_fence_stays_as_high_as_it_was() -> None:
    """Only a higher epoch moves it, and its cause stays the append that raised it."""
    log = Admission()
    log.admit("five", Append([record()], fence=Fence(SCOPE, 5)))
    log.admit("again", Append([record()], fence=Fence(SCOPE, 5)))
    log.admit("four", Append([record()], fence=Fence(SCOPE, 4)))
    log.commit(BASE_LSN)

    assert log.answer("four") == Fenced(5)


def test_the_fence_is_looked_at_before_conditions() -> None:
    """Whoever is fenced off learns that first."""
    log = Admission()
    log.admit("five", Append([record(A)], fence=Fence(SCOPE, 5)))
    log.commit()
    log.admit("it", write(A, fence=Fence(SCOPE, 4)))

    assert log.answer("it") == Fenced(5)


def test_there_is_a_limit_to_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of new scopes; known ones still pass."""
    monkeypatch.setattr(sequencer_module, "FENCES_MAX", 2)
    log = Admission()
    for scope in (b"1", b"2"):
        log.admit("", Append([record()], fence=Fence(scope, 1)))

    with pytest.raises(MalformedAppendError, match="scope number 3"):
        log.admit("", Append([record()], fence=Fence(b"3", 1)))

    assert log.admit("", Append([record()], fence=Fence(b"2", 2))) == BASE_LSN + 2


def test_a_duplicate_is_told_once_the_first_one_is_committed() -> None:
    """With the first one's LSN."""
    log = Admission()
    log.admit("first", from_producer(1, count=2))
    log.admit("again", from_producer(1, count=2))

    assert log.answer("again") is None

    log.commit()

    assert log.answer("again") == Duplicate(BASE_LSN)


def test_a_gap_is_out_of_order() -> None:
    """At once if the producer is not known, else once what it rests on is committed."""
    log = Admission()
    log.admit("unknown", from_producer(2))

    assert log.answer("unknown") == OutOfOrder(1)

    log.admit("one", from_producer(1))
    log.admit("three", from_producer(3))

    assert log.answer("three") is None

    log.commit()

    assert log.answer("three") == OutOfOrder(2)


def test_a_producers_new_epoch_fences_its_old_one() -> None:
    """Once its first record is committed."""
    log = Admission()
    log.admit("old", from_producer(1))
    log.admit("new", from_producer(1, epoch=2))
    log.admit("late", from_producer(2))

    assert log.answer("late") is None

    log.commit()

    assert log.answer("late") == Fenced(2)


def test_a_conflict_uses_up_no_number() -> None:
    """The producer's next append has the same one."""
    log = Admission()
    log.admit("a", write(A))
    log.admit("refused", write(A, producer=Producer(P, 1, 1)))

    assert log.admit("next", from_producer(1)) == BASE_LSN + 1


def test_a_producers_copy_is_a_duplicate_whatever_it_is_conditioned_on() -> None:
    """Its number is looked at first: that is why it may leave its guard unwritten."""
    log = Admission()
    append = Append([record(B)], (NotChangedSince(A, READ),), producer=Producer(P, 1, 1))
    log.admit("first", append)
    log.admit("a", write(A))
    log.commit()
    log.admit("copy", append)

    assert log.answer("copy") == Duplicate(BASE_LSN)


def test_too_much_in_flight_is_refused_at_once() -> None:
    """Until something is committed; the partition's leader is let pass."""
    log = Admission(SequencerLimits(records_in_flight_max=2))
    log.admit("one", Append([record(A)]))
    log.admit("two", Append([record(), record()]))
    log.admit("three", Append([record(B)]))

    assert log.answer("three") == Overloaded(3)
    assert log.sequencer.admit_own(record(), None, None) == BASE_LSN + 3

    log.commit(BASE_LSN + 1)
    log.admit("at the limit", Append([record()]))

    assert log.answer("at the limit") == Overloaded(2)

    log.commit(BASE_LSN + 2)

    assert log.admit("again", Append([record()])) == BASE_LSN + 4
