"""Contiguous producers: at the sequencer a quick answer, at the reader the truth.

Each append of a producer carries (id, epoch, sequence). The sequencer's `ProducerTable` starts
empty with each segment, so it can only save a round; `ProducerFilter` sees every committed record
and lets exactly those through that count. The scheme is Kafka's idempotent producer with a fresh
epoch after each doubt instead of a state that is rebuilt.
"""

from collections import deque
from typing import Final, NamedTuple

from .answers import Duplicate, Fenced, OutOfOrder, Producer
from .types import Record

PRODUCERS_MAX: Final = 10_000
RING: Final = 5
"""Appends per producer whose LSNs are remembered."""


class ProducerVerdict(NamedTuple):
    """A refusal and the LSN that has to be committed before it may be told, 0 for none."""

    refusal: Duplicate | OutOfOrder | Fenced
    after_lsn: int


class _Known:
    __slots__ = ("epoch", "last_lsn", "last_sequence", "ring")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.last_sequence = 0
        self.last_lsn = 0
        self.ring: deque[tuple[int, int]] = deque(maxlen=RING)


class ProducerTable:
    """What one segment's sequencer knows of its producers."""

    __slots__ = ("_forgotten_lsn", "_known", "_producers_max")

    def __init__(self, producers_max: int = PRODUCERS_MAX) -> None:
        """Know nobody; at most `producers_max` are remembered, the least recent is forgotten."""
        self._known: dict[bytes, _Known] = {}
        self._producers_max = producers_max
        # No forgotten producer has a record above this LSN.
        self._forgotten_lsn = 0

    def check(self, producer: Producer) -> ProducerVerdict | None:
        """Why the append must not be admitted, or None.

        Somebody who is not known, or forgotten, must begin a new epoch at 1: only then is it sure
        that nothing before it is missing.
        """
        known = self._known.get(producer.id)
        if known is None or producer.epoch > known.epoch:
            if producer.sequence == 1:
                return None
            # One that was forgotten may have records in flight, which it has to find by reading.
            return ProducerVerdict(OutOfOrder(1), self._forgotten_lsn)
        if producer.epoch < known.epoch:
            return ProducerVerdict(Fenced(known.epoch), known.last_lsn)
        expected = known.last_sequence + 1
        if producer.sequence == expected:
            return None
        if producer.sequence > expected:
            return ProducerVerdict(OutOfOrder(expected), known.last_lsn)
        for sequence, lsn in known.ring:
            if sequence == producer.sequence:
                return ProducerVerdict(Duplicate(lsn), lsn)
        return ProducerVerdict(Duplicate(None), known.last_lsn)

    def note(self, producer: Producer, first_lsn: int, count: int) -> None:
        """An append of `count` records was admitted."""
        known = self._known.pop(producer.id, None)
        if known is None or known.epoch != producer.epoch:
            known = _Known(producer.epoch)
        known.last_sequence = producer.sequence + count - 1
        known.last_lsn = first_lsn + count - 1
        known.ring.append((producer.sequence, first_lsn))
        self._remember(producer.id, known)

    def begin(self, producer: bytes, epoch: int) -> None:
        """Refuse what the producer has sent under lower epochs and comes only now."""
        known = self._known.pop(producer, None)
        if known is None or known.epoch < epoch:
            last_lsn = 0 if known is None else known.last_lsn
            known = _Known(epoch)
            known.last_lsn = last_lsn
        self._remember(producer, known)

    def _remember(self, producer: bytes, known: _Known) -> None:
        """As the most recent one."""
        self._known[producer] = known
        if len(self._known) > self._producers_max:
            forgotten = self._known.pop(next(iter(self._known)))
            self._forgotten_lsn = max(self._forgotten_lsn, forgotten.last_lsn)


class ProducerFilter:
    """Tells which committed records count: per producer exactly the next number, in order.

    A plain machine for whoever interprets a log: feed it every record in order. What it keeps is
    `state`, to be stored together with what the records came to.
    """

    __slots__ = ("state",)

    def __init__(self, state: dict[bytes, tuple[int, int]] | None = None) -> None:
        """Go on from a kept state: producer id to (epoch, last number)."""
        self.state: dict[bytes, tuple[int, int]] = {} if state is None else state

    def accept(self, record: Record) -> bool:
        """Whether the record counts; records without a producer always do."""
        if record.producer is None:
            return True
        epoch, last = self.state.get(record.producer, (0, 0))
        if record.producer_epoch == epoch:
            if record.sequence != last + 1:
                return False
        elif record.producer_epoch < epoch or record.sequence != 1:
            return False
        self.state[record.producer] = (record.producer_epoch, record.sequence)
        return True
