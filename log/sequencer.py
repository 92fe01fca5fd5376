"""The sequencer of one open segment: admits or refuses appends in one go, tells answers in time.

`admit` decides without waiting; nothing can come between a check and the offset that it guards.
Whatever it decides becomes visible only when the records that the decision rests on are durable:
an admitted append when it is committed itself, a refusal when its cause is (the rule that S2 has
for its streams). If they never are, the caller hears Indeterminate or Sealed instead.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import msgspec

from .answers import (
    Answer,
    Committed,
    Conflict,
    Fence,
    Fenced,
    Indeterminate,
    NotChangedSince,
    Overloaded,
    Producer,
    Refusal,
    Sealed,
    Settled,
    SettledListener,
    StaleSnapshot,
    WrongSegment,
)
from .chain import Segment
from .conditions import ENTRIES_MAX, ConditionTable
from .errors import (
    BatchTooLargeError,
    FuturePositionError,
    LogletSealedError,
    MalformedAppendError,
    RecordTooLargeError,
    UnguardedConditionError,
)
from .loglet import Loglet
from .producers import PRODUCERS_MAX, ProducerTable
from .types import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    CONDITIONS_MAX,
    KEY_BYTES,
    KEYS_MAX,
    RECORD_BYTES_MAX,
    Batch,
    Record,
)

AnswerListener: TypeAlias = Callable[[Answer], None]
"""Told once, on the event loop, what became of an append; must not raise."""

FENCES_MAX: Final = 1024
FENCE_SCOPE_BYTES_MAX: Final = 256
RECORDS_IN_FLIGHT_MAX: Final = 20_000


class SequencerLimits(msgspec.Struct, frozen=True):
    """What one sequencer remembers and lets in; counts of keys, producers and records."""

    condition_entries_max: int = ENTRIES_MAX
    producers_max: int = PRODUCERS_MAX
    records_in_flight_max: int = RECORDS_IN_FLIGHT_MAX


class Append(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Records to be appended together, and on what terms. Sent between nodes as it is.

    Attributes:
        records: at least one; contiguous and all or nothing.
        conditions: all of them must hold.
        segment: index of the segment that it is meant for, None for whichever is open.
    """

    records: list[Record]
    conditions: Sequence[NotChangedSince] = ()
    fence: Fence | None = None
    producer: Producer | None = None
    segment: int | None = None


def check_append(append: Append) -> None:
    """What can be said about an append without looking at the log.

    Raises MalformedAppendError, RecordTooLargeError, BatchTooLargeError or UnguardedConditionError.
    """
    records = append.records
    if not 1 <= len(records) <= BATCH_RECORDS_MAX:
        raise MalformedAppendError(
            f"an append of {len(records)} records; 1 to {BATCH_RECORDS_MAX} go together"
        )
    size = 0
    checked: tuple[bytes, ...] | None = None
    for record in records:
        length = len(record.body)
        size += length
        if length > RECORD_BYTES_MAX:
            raise RecordTooLargeError(
                f"a record of {length} bytes is over the limit of {RECORD_BYTES_MAX}"
            )
        # Records that go together often share their keys.
        if record.keys and record.keys != checked:
            checked = record.keys
            _check_keys(checked)
    if size > BATCH_BYTES_MAX and len(records) > 1:
        raise BatchTooLargeError(
            f"{len(records)} records of {size} bytes together are over the limit of "
            f"{BATCH_BYTES_MAX} for one append: send them as several"
        )
    fence = append.fence
    if fence is not None and (fence.epoch < 1 or len(fence.scope) > FENCE_SCOPE_BYTES_MAX):
        raise MalformedAppendError(
            f"a fence of epoch {fence.epoch} with a scope of {len(fence.scope)} bytes: epochs "
            f"count from 1, a scope has at most {FENCE_SCOPE_BYTES_MAX} bytes"
        )
    producer = append.producer
    if producer is not None and (
        len(producer.id) != KEY_BYTES or producer.epoch < 1 or producer.sequence < 1
    ):
        raise MalformedAppendError(
            f"producer with an id of {len(producer.id)} bytes, epoch {producer.epoch}, sequence "
            f"{producer.sequence}: the id takes {KEY_BYTES} bytes, the others count from 1"
        )
    if append.conditions:
        _check_conditions(append)


def _check_keys(keys: tuple[bytes, ...]) -> None:
    if len(keys) > KEYS_MAX:
        raise MalformedAppendError(
            f"a record with {len(keys)} keys; give at most {KEYS_MAX}, or None for all of them"
        )
    for key in keys:
        if len(key) != KEY_BYTES:
            raise MalformedAppendError(
                f"a key of {len(key)} bytes; keys are hashes of {KEY_BYTES} bytes, see key_hash"
            )


def _check_conditions(append: Append) -> None:
    if len(append.conditions) > CONDITIONS_MAX:
        raise MalformedAppendError(
            f"an append with {len(append.conditions)} conditions; at most {CONDITIONS_MAX}"
        )
    _check_keys(tuple(condition.key for condition in append.conditions[:KEYS_MAX]))
    if append.producer is not None:
        return
    for record in append.records:
        if record.keys is None:
            return
        for condition in append.conditions:
            if condition.key in record.keys:
                return
    raise UnguardedConditionError


class Sequencer:
    """Admission to one segment. Everything here runs on the event loop's thread."""

    def __init__(
        self,
        segment: Segment,
        loglet: Loglet,
        limits: SequencerLimits | None = None,
        refusals: dict[str, int] | None = None,
    ) -> None:
        """Order appends to the segment, whose loglet must be empty.

        Args:
            refusals: where refusals are counted, by the name of the answer.
        """
        limits = limits or SequencerLimits()
        self.segment = segment
        self._loglet = loglet
        self._conditions = ConditionTable(segment.base_lsn, limits.condition_entries_max)
        self._producers = ProducerTable(limits.producers_max)
        # scope -> (epoch, LSN of the append that raised it)
        self._fences: dict[bytes, tuple[int, int]] = {}
        self._records_in_flight_max = limits.records_in_flight_max
        self.tail_lsn = segment.lsn_of(loglet.committed_tail)
        self.committed_tail_lsn = self.tail_lsn
        # Admitted appends in order: (last LSN, first LSN, who wants to know).
        self._admitted: deque[tuple[int, int, AnswerListener]] = deque()
        # Until their cause is committed: (LSN of the cause, number, what tells the answer, what
        # tells that the segment was sealed first).
        self._held: list[tuple[int, int, Callable[[], None], Callable[[Sealed], None]]] = []
        self._held_count = 0
        self._refusals: dict[str, int] = {} if refusals is None else refusals
        self._sealed = False

    @property
    def sealed(self) -> bool:
        """Whether the segment is known to take nothing more."""
        return self._sealed

    def sealed_below(self) -> None:
        """The loglet has said that it takes nothing more."""
        self._sealed = True

    def admit(self, append: Append, listener: AnswerListener | None) -> int | None:
        """Give the records their LSNs, or refuse them; the first LSN, or None for a refusal.

        The listener hears the outcome, possibly before this returns; nobody needs to listen to
        records that come back through the log. The append must have passed `check_append`.

        Raises FuturePositionError, LogClosedError, and MalformedAppendError for one fence scope
        too many.
        """
        refusal, after_lsn = self._refusal(append)
        if refusal is not None:
            if listener is not None:
                self._refuse(refusal, after_lsn, listener)
            return None
        try:
            offset = self._loglet.enqueue(_stamped(append))
        except LogletSealedError:
            self._sealed = True
            if listener is not None:
                listener(Sealed(self.segment.index))
            return None
        first_lsn = self.segment.lsn_of(offset)
        assert first_lsn == self.tail_lsn, (first_lsn, self.tail_lsn)
        self._note(append, first_lsn)
        if listener is not None:
            self._admitted.append((self.tail_lsn - 1, first_lsn, listener))
        return first_lsn

    def admit_own(
        self,
        record: Record,
        condition: NotChangedSince | None,
        refused: AnswerListener | None,
    ) -> int | None:
        """`admit` for the partition's leader: one record, which carries its condition already.

        The leader numbers and bounds its records itself and sees them come back through the log, so
        only a refused condition is told. Gives the LSN, or None. Raises FuturePositionError,
        LogClosedError.
        """
        if self._sealed:
            return None
        lsn = self.tail_lsn
        if condition is not None:
            refusal, after_lsn = self._condition_refusal((condition,))
            if refusal is not None:
                if refused is not None:
                    self._refuse(refusal, after_lsn, refused)
                return None
        try:
            offset = self._loglet.enqueue([record])
        except LogletSealedError:
            self._sealed = True
            return None
        assert self.segment.base_lsn + offset - 1 == lsn, (offset, lsn)
        if record.keys != ():
            self._conditions.note(record.keys, lsn)
        self.tail_lsn = lsn + 1
        return lsn

    def _refusal(self, append: Append) -> tuple[Refusal | None, int]:
        """Why not, and the LSN that has to be committed before anybody may know."""
        if append.segment is not None and append.segment != self.segment.index:
            return WrongSegment(self.segment.index), 0
        if self._sealed:
            return Sealed(self.segment.index), 0
        in_flight = self.tail_lsn - self.committed_tail_lsn
        if in_flight >= self._records_in_flight_max:
            return Overloaded(in_flight), 0
        fence = append.fence
        if fence is not None:
            known, lsn = self._fences.get(fence.scope, (0, 0))
            if fence.epoch < known:
                return Fenced(known), lsn
            if known == 0 and len(self._fences) >= FENCES_MAX:
                raise MalformedAppendError(
                    f"a fence for scope number {FENCES_MAX + 1} of this segment: use fewer scopes"
                )
        if append.producer is not None:
            verdict = self._producers.check(append.producer)
            if verdict is not None:
                return verdict.refusal, verdict.after_lsn
        if append.conditions:
            return self._condition_refusal(append.conditions)
        return None, 0

    def _condition_refusal(
        self, conditions: Sequence[NotChangedSince]
    ) -> tuple[Conflict | StaleSnapshot | None, int]:
        """As `_refusal`, for the conditions alone. Raises FuturePositionError."""
        for condition in conditions:
            if condition.lsn >= self.tail_lsn:
                raise FuturePositionError(condition.lsn, self.tail_lsn)
        refusal = self._conditions.check(conditions)
        if refusal is None:
            return None, 0
        return refusal, refusal.floor if isinstance(refusal, StaleSnapshot) else refusal.lsn

    def _note(self, append: Append, first_lsn: int) -> None:
        note = self._conditions.note
        keys: tuple[bytes, ...] | None = ()
        lsn = first_lsn
        for record in append.records:
            # Of a run of records that share their keys, the last one's LSN is what counts.
            if record.keys != keys:
                if keys != ():
                    note(keys, lsn - 1)
                keys = record.keys
            lsn += 1
        if keys != ():
            note(keys, lsn - 1)
        self.tail_lsn = lsn
        if append.producer is not None:
            self._producers.note(append.producer, first_lsn, lsn - first_lsn)
        fence = append.fence
        if fence is not None and fence.epoch > self._fences.get(fence.scope, (0, 0))[0]:
            self._fences[fence.scope] = (fence.epoch, lsn - 1)

    def _refuse(self, refusal: Refusal, after_lsn: int, listener: AnswerListener) -> None:
        name = type(refusal).__name__
        self._refusals[name] = self._refusals.get(name, 0) + 1
        self._hold(after_lsn, partial(listener, refusal), listener)

    def _hold(
        self, after_lsn: int, tell: Callable[[], None], sealed: Callable[[Sealed], None]
    ) -> None:
        """Tell once an LSN is committed; `sealed` hears it if it never will be."""
        if after_lsn < self.committed_tail_lsn:
            tell()
            return
        self._held_count += 1
        heapq.heappush(self._held, (after_lsn, self._held_count, tell, sealed))

    def settle(self, segment: int, producer: bytes, epoch: int, listener: SettledListener) -> None:
        """Take nothing more that the producer sent under epochs below `epoch`.

        The listener hears Settled once everything that was taken before is committed, or Sealed,
        or WrongSegment; possibly before this returns. Doing it again is fine.
        """
        if segment != self.segment.index:
            listener(WrongSegment(self.segment.index))
        elif self._sealed:
            listener(Sealed(segment))
        else:
            self._producers.begin(producer, epoch)
            tail_lsn = self.tail_lsn
            self._hold(tail_lsn - 1, partial(listener, Settled(tail_lsn)), listener)

    def committed(self, batch: Batch) -> None:
        """A batch is durable: tell who waited for it, in the order of the log."""
        tail = self.segment.lsn_of(batch.last_offset) + 1
        self.committed_tail_lsn = tail
        self._conditions.evict(tail)
        admitted = self._admitted
        while admitted and admitted[0][0] < tail:
            last_lsn, first_lsn, listener = admitted.popleft()
            listener(Committed(first_lsn, last_lsn))
        held = self._held
        while held and held[0][0] < tail:
            heapq.heappop(held)[2]()

    def close(self, *, lost: bool, reason: str) -> None:
        """Nothing more is committed here: tell everybody who still waits.

        Args:
            lost: it is known that nothing in flight was committed or ever will be; not from within
                a listener of `committed`, where more may be on its way.
            reason: why nobody knows, otherwise.
        """
        self._sealed = True
        answer: Answer = Sealed(self.segment.index) if lost else Indeterminate(reason)
        # Emptied in place: `committed`, if it is what led here, must find nobody left to tell.
        admitted, held = list(self._admitted), list(self._held)
        self._admitted.clear()
        self._held.clear()
        for _, _, listener in admitted:
            listener(answer)
        # A refusal consumed nothing, whatever became of its cause.
        for _, _, _, sealed in held:
            sealed(Sealed(self.segment.index))


def _stamped(append: Append) -> list[Record]:
    """The records as they are stored: with the conditions and the producer's numbers."""
    producer = append.producer
    if producer is None and not append.conditions:
        return append.records
    conditions = tuple([(condition.key, condition.lsn) for condition in append.conditions])
    stamped: list[Record] = []
    for record in append.records:
        # Built anew field by field: `structs.replace` takes three times as long.
        stamped.append(
            Record(
                record.kind,
                record.body,
                record.keys,
                record.epoch,
                record.producer if producer is None else producer.id,
                record.sequence if producer is None else producer.sequence + len(stamped),
                record.attempt,
                record.traceparent,
                () if stamped else conditions,
                record.producer_epoch if producer is None else producer.epoch,
            )
        )
    return stamped
