"""Sequencer: what becomes of appends when its segment, its disk or its time ends."""

import pytest

from perdure.log.answers import Answer, Committed, Indeterminate, Sealed
from perdure.log.errors import LogClosedError, LogletSealedError

from .admission import BASE_LSN, A, Admission, B, write


def test_a_loglet_that_somebody_sealed_refuses() -> None:
    """At once, for good, and what is in flight waits on for its own answer."""
    log = Admission()
    log.admit("in flight", write(A))
    log.loglet.error = LogletSealedError(1)
    log.admit("late", write(B))

    assert log.told == [("late", Sealed(3))]
    assert log.sequencer.sealed
    assert log.sequencer.tail_lsn == BASE_LSN + 1

    log.loglet.error = None
    log.admit("later", write(B))
    log.commit()

    assert log.answer("later") == Sealed(3)
    assert log.answer("in flight") == Committed(BASE_LSN, BASE_LSN)


def test_a_closed_disk_is_an_error_and_leaves_nothing_behind() -> None:
    """The table knows of admitted records only."""
    log = Admission()
    log.loglet.error = LogClosedError("the disk is full")

    with pytest.raises(LogClosedError):
        log.admit("it", write(A))

    log.loglet.error = None

    assert log.admit("again", write(A)) == BASE_LSN
    assert log.told == []


@pytest.mark.parametrize(
    ("lost", "answer"), [(True, Sealed(3)), (False, Indeterminate("the network is gone"))]
)
def test_closing_answers_everybody(lost: bool, answer: Answer) -> None:
    """Admitted: Sealed if it is known to be lost, else nobody knows. Refused: Sealed either way."""
    log = Admission()
    log.admit("committed", write(A))
    log.admit("winner", write(B))
    log.admit("loser", write(B))
    log.commit(BASE_LSN)
    log.sequencer.close(lost=lost, reason="the network is gone")

    assert log.told == [
        ("committed", Committed(BASE_LSN, BASE_LSN)),
        ("winner", answer),
        ("loser", Sealed(3)),
    ]
    assert log.sequencer.sealed


def test_nothing_is_told_or_admitted_after_closing() -> None:
    """Each listener hears one answer, whatever is committed later."""
    log = Admission()
    log.admit("it", write(A))
    log.sequencer.close(lost=False, reason="")
    told = list(log.told)

    assert log.sequencer.sealed
    assert log.admit("late", write(B)) is None

    log.commit()
    log.sequencer.close(lost=True, reason="")

    assert log.told == [*told, ("late", Sealed(3))]
    assert log.answer("late") == Sealed(3)
    assert log.sequencer.committed_tail_lsn == BASE_LSN + 1


def test_a_listener_may_append() -> None:
    """From within the answer to the one before."""
    log = Admission()

    def goes_on(answer: Answer) -> None:
        log.admit("next", write(A, BASE_LSN))

    log.sequencer.admit(write(A), goes_on)
    log.commit()

    assert log.sequencer.tail_lsn == BASE_LSN + 2

    log.commit()

    assert log.answer("next") == Committed(BASE_LSN + 1, BASE_LSN + 1)
