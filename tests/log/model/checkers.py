"""What must hold of the log, whatever happens: checked as it grows and once more at the end.

C1 to C8: conditions hold in the final log; what was acknowledged stays; a conflict names a
committed cause; no request is committed twice; groups are whole; what was reported as lost never
turns up; fences only rise; the floor is committed and nobody waits for ever. L3: acknowledged means
readable. L4: nothing is acknowledged at or beyond a sealed tail. L11: batches are atomic. prefix: a
sealed segment holds a prefix of its sequencer's order. cas: versions of a key form a chain in real
time. producer: each number counts once, in order.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from perdure.log.answers import (
    Answer,
    Committed,
    Conflict,
    Duplicate,
    Fenced,
    OutOfOrder,
    StaleSnapshot,
)
from perdure.log.chain import Segment
from perdure.log.producers import ProducerFilter
from perdure.log.sequencer import Append
from perdure.log.types import Batch, Record

if TYPE_CHECKING:
    from .clients import Request
    from .loglet import SequencerNode


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


class Group(NamedTuple):
    """Which append a record belongs to; the model's registry says it by the record's body."""

    request: "Request"
    derivation: int
    place: int
    size: int
    previous: dict[bytes, int]
    fence: tuple[bytes, int] | None


class History:
    """Everything that was committed, acknowledged and refused."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        # Raises Violation, unless the invariant is tolerated.
        self._report = report
        self.groups: dict[bytes, Group] = {}
        self.log: dict[int, Record] = {}
        self.tail = 1
        # (LSN, request, first body) of each acknowledgement.
        self.acked: list[tuple[int, Request, bytes]] = []
        self.acked_max = 0
        self.ends: dict[int, int] = {}
        self.requests: list[Request] = []
        self.fences: dict[tuple[int, bytes], int] = {}
        self.told_count: dict[str, int] = {}
        self.repaired = 0

    # While it grows ------------------------------------------------------------------------------

    def committed(self, segment: Segment, batch: Batch) -> None:
        """A sequencer says that a batch is durable."""
        end = self.ends.get(segment.index)
        if end is not None and segment.lsn_of(batch.last_offset) >= end:
            raise Violation(
                "L4", f"segment {segment.index} commits {batch.last_offset}, its tail is LSN {end}"
            )
        self.saw(segment, batch)
        for record in batch.records:
            fence = self.groups[record.body].fence
            if fence is not None:
                known = self.fences.get((segment.index, fence[0]), 0)
                if fence[1] < known:
                    raise Violation("C7", f"epoch {fence[1]} is committed after {known}")
                self.fences[segment.index, fence[0]] = fence[1]

    def saw(self, segment: Segment, batch: Batch) -> None:
        """Somebody has a batch in hands that is said to be committed."""
        lsn = segment.lsn_of(batch.first_offset)
        log = self.log
        for record in batch.records:
            if log.setdefault(lsn, record) is not record:
                raise Violation("C2", f"LSN {lsn} was {log[lsn].body!r}, now it is {record.body!r}")
            lsn += 1
        self.tail = max(self.tail, lsn)

    def extended(self, segment: Segment, end_lsn: int) -> None:
        """The chain says where a segment ends."""
        self.ends[segment.index] = end_lsn
        if self.tail > end_lsn:
            raise Violation("L4", f"the tail is LSN {end_lsn}, but {self.tail - 1} was committed")

    def told(self, segment: Segment, append: Append, request: "Request", answer: Answer) -> None:
        """A sequencer lets somebody know what became of an append."""
        name = type(answer).__name__
        self.told_count[name] = self.told_count.get(name, 0) + 1
        log = self.log
        match answer:
            case Committed(first_lsn, last_lsn):
                end = self.ends.get(segment.index)
                if end is not None and last_lsn >= end:
                    raise Violation("L4", f"LSN {last_lsn} is acknowledged, the tail is {end}")
                if last_lsn - first_lsn + 1 != len(append.records):
                    raise Violation("C5", f"{len(append.records)} records at {answer}")
                self.acked.append((first_lsn, request, append.records[0].body))
                self.acked_max = max(self.acked_max, last_lsn)
            case Conflict(key, lsn):
                record = log.get(lsn)
                if record is None or (record.keys is not None and key not in record.keys):
                    raise Violation("C3", f"{answer} is told, at {lsn} is {record}")
                if not any(lsn > item.lsn for item in append.conditions if key in (None, item.key)):
                    raise Violation("C3", f"{answer} does not refuse {append.conditions}")
            case StaleSnapshot(floor):
                if floor >= max(self.tail, segment.base_lsn):
                    self._report("C8", f"nobody can read up to the floor {floor}")
            case Fenced(epoch) if append.fence is not None:
                if self.fences.get((segment.index, append.fence.scope), 0) < epoch:
                    raise Violation("C7", f"no committed record has fence {epoch}")
            case Duplicate(lsn):
                self._duplicate(append, lsn)
            case OutOfOrder(expected):
                if append.producer is not None and append.producer.sequence == expected:
                    raise Violation("producer", f"{append.producer} is refused with {answer}")
            case _:
                pass

    def _duplicate(self, append: Append, lsn: int | None) -> None:
        producer = append.producer
        if producer is None:
            raise Violation("producer", "a duplicate without a producer")
        if lsn is None:
            return
        record = self.log.get(lsn)
        if record is None or (record.producer, record.producer_epoch, record.sequence) != (
            producer.id,
            producer.epoch,
            producer.sequence,
        ):
            raise Violation("producer", f"the duplicate of {producer} at {lsn} is {record}")

    # At the end ----------------------------------------------------------------------------------

    def check(self, nodes: "dict[int, SequencerNode]") -> None:
        """Everything that only the whole log can show."""
        log = [self.log[lsn] for lsn in range(1, self.tail) if lsn in self.log]
        if len(log) != self.tail - 1:
            raise Violation("prefix", "the log has a hole")
        self._check_prefixes(log, nodes)
        self._check_acknowledged(log)
        places = self._check_groups(log)
        self._check_conditions(log)
        self._check_real_time(places)
        self._check_producers(log)

    def _check_prefixes(self, log: list[Record], nodes: "dict[int, SequencerNode]") -> None:
        for index, node in nodes.items():
            base = node.segment.base_lsn
            end = self.ends.get(index, self.tail)
            final = log[base - 1 : end - 1]
            if any(one is not two for one, two in zip(final, node.order, strict=False)) or len(
                final
            ) > len(node.order):
                raise Violation("prefix", f"segment {index} is not what its sequencer ordered")

    def _check_acknowledged(self, log: list[Record]) -> None:
        for lsn, request, body in self.acked:
            if lsn > len(log) or log[lsn - 1].body != body:
                raise Violation("C2", f"{request} was acknowledged at {lsn} and is not there")

    def _check_groups(self, log: list[Record]) -> "dict[Request, list[int]]":
        """C4, C5, C6: each request at most once, whole, never after it was reported as lost."""
        places: dict[Request, list[int]] = {}
        lsn = 1
        while lsn <= len(log):
            group = self.groups[log[lsn - 1].body]
            for place in range(group.size):
                at = lsn + place
                other = self.groups[log[at - 1].body] if at <= len(log) else None
                if other is None or (other.request, other.derivation, other.place) != (
                    group.request,
                    group.derivation,
                    place,
                ):
                    raise Violation("C5", f"{group.request} is not whole at {lsn}")
            places.setdefault(group.request, []).append(lsn)
            lsn += group.size
        for request, lsns in places.items():
            if len(lsns) > 1 and not request.numbered:
                raise Violation("C4", f"{request} is committed at {lsns}")
            if request.state == "lost":
                raise Violation("C6", f"{request} was reported as lost and is at {lsns}")
        for request in self.requests:
            if request.state == "committed" and request not in places:
                raise Violation("C2", f"{request} was reported as committed and is not there")
        return places

    def _check_conditions(self, log: list[Record]) -> None:
        """C1 by each record's conditions, and the chain of versions by what its writer had read."""
        last: dict[bytes, int] = {}
        wildcard = 0
        lsn = 1
        while lsn <= len(log):
            record = log[lsn - 1]
            group = self.groups[record.body]
            for key, snapshot in record.conditions:
                changed = max(last.get(key, 0), wildcard)
                if changed > snapshot:
                    raise Violation(
                        "C1", f"{group.request} at {lsn} read up to {snapshot}, {changed} changed"
                    )
            for key, read in group.previous.items():
                if max(last.get(key, 0), wildcard) != read:
                    raise Violation("cas", f"{group.request} at {lsn} builds on version {read}")
            for other in log[lsn - 1 : lsn - 1 + group.size]:
                if other.keys is None:
                    wildcard = lsn
                for key in other.keys or ():
                    last[key] = lsn
                lsn += 1

    def _check_real_time(self, places: "dict[Request, list[int]]") -> None:
        for request, lsns in places.items():
            if lsns[0] <= request.invoked_after:
                raise Violation(
                    "cas",
                    f"{request} is at {lsns[0]}, before what was acknowledged when it began, "
                    f"{request.invoked_after}",
                )

    def _check_producers(self, log: list[Record]) -> None:
        """Whatever a producer was told is in the log counts once, in the order of its requests."""
        counts = ProducerFilter()
        applied: dict[bytes, list[tuple[int, int]]] = {}
        seen: set[Request] = set()
        for record in log:
            if record.producer is None or not counts.accept(record):
                continue
            group = self.groups[record.body]
            applied.setdefault(record.producer, []).append((group.request.number, group.place))
            seen.add(group.request)
        for producer, items in applied.items():
            if any(second <= first for first, second in pairwise(items)):
                raise Violation("producer", f"{producer!r} counts as {items}")
        for _, request, _ in self.acked:
            if request.numbered and request not in seen:
                raise Violation("producer", f"{request} was acknowledged and does not count")
        for request in self.requests:
            if request.numbered and request.state == "committed" and request not in seen:
                raise Violation("producer", f"{request} was reported and does not count")
