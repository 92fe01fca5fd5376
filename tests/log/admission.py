"""What the tests of admission share: keys, records, and a loglet that commits when told to."""

from typing import Any

from perdure.log.answers import Answer, NotChangedSince
from perdure.log.chain import Segment, SegmentParams
from perdure.log.errors import LogClosedError, LogletSealedError
from perdure.log.sequencer import Append, Sequencer, SequencerLimits
from perdure.log.types import KEY_BYTES, Batch, Record

A, B, C, D, E = (letter * KEY_BYTES for letter in (b"a", b"b", b"c", b"d", b"e"))

BASE_LSN = 100

READ = BASE_LSN - 1
"""Everything before the segment."""


def record(*keys: bytes, body: bytes = b"") -> Record:
    """A record that touches these keys."""
    return Record(1, body, keys, 1, None, 0)


EVERY_KEY = Record(1, b"", None, 1, None, 0)


def write(key: bytes, read: int = READ, **rest: Any) -> Append:
    """Write a key if it has not changed."""
    return Append([record(key)], (NotChangedSince(key, read),), **rest)


class ManualLoglet:
    """Takes records and commits them when the test says so."""

    def __init__(self) -> None:
        self.committed_tail = 1
        self.next_offset = 1
        self.groups: list[list[Record]] = []
        self.error: LogletSealedError | LogClosedError | None = None

    def enqueue(self, records: list[Record]) -> int:
        if self.error is not None:
            raise self.error
        self.groups.append(records)
        offset = self.next_offset
        self.next_offset += len(records)
        return offset


class Admission:
    """A sequencer, its loglet and every answer, in the order in which it was told."""

    def __init__(self, limits: SequencerLimits | None = None, *, index: int = 3) -> None:
        self.loglet = ManualLoglet()
        segment = Segment(index, BASE_LSN, "manual", SegmentParams(1, 1, 0))
        self.sequencer = Sequencer(segment, self.loglet, limits)  # type: ignore[arg-type]
        self.told: list[tuple[str, Answer]] = []

    def admit(self, name: str, append: Append) -> int | None:
        """Have it admitted; its answer is told under a name."""
        return self.sequencer.admit(append, lambda answer: self.told.append((name, answer)))

    def commit(self, lsn: int | None = None) -> None:
        """One batch of everything up to an LSN, or of all that was admitted, becomes durable."""
        first = self.loglet.committed_tail
        last = self.loglet.next_offset - 1 if lsn is None else lsn - BASE_LSN + 1
        records = [item for group in self.loglet.groups for item in group][first - 1 : last]
        self.loglet.committed_tail = last + 1
        self.sequencer.committed(Batch(first, 0, 1, records))

    def answer(self, name: str) -> Answer | None:
        """What was told under a name, None so far."""
        answers = [answer for told, answer in self.told if told == name]
        assert len(answers) <= 1, "told more than once"
        return answers[0] if answers else None
