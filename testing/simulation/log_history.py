"""What the clients of a bare log asked for and were told, checked at the moment of telling.

An answer that names a place promises that something is there for ever. So the record must be
durable when the answer is given, and it is looked for again after every crash and at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ...core.errors import PerdureError
from ...log.answers import (
    Answer,
    Committed,
    Conflict,
    Duplicate,
    Fenced,
    NotChangedSince,
    OutOfOrder,
    StaleSnapshot,
)
from ...log.errors import FuturePositionError
from ...log.reader import FilteredGap, LogEntry, ReadItem, TrimGap
from ...log.sequencer import Append
from ...log.types import Record
from .disk import SimulationDisk
from .observer import LogObserver, LogRecord
from .violation import InvariantViolation, require

KIND = 1
"""Of every record that these clients append."""


@dataclass(slots=True)
class Request:
    """One group of records that a client wants in the log once.

    Attributes:
        client: whose it is.
        number: the client's count of them, from 0.
        records: how many records it has.
        numbered: its client is a producer; what counts is told by ProducerFilter.
        copies: how many were sent.
        acknowledged: whether the client was told that it is in the log.
        committed_lsn: where the client was told or has read that it is, 0 if it does not know.
        refused: by which answer the client knows that it never will be there, empty before.
    """

    client: str
    number: int
    records: int
    numbered: bool = False
    copies: int = 0
    acknowledged: bool = False
    committed_lsn: int = 0
    refused: str = ""

    @property
    def name(self) -> str:
        """What the trace calls it."""
        return f"{self.client} {self.number}"

    def make(self, keys: tuple[bytes, ...] | None) -> list[Record]:
        """Its records; all of them touch `keys`."""
        return [
            Record(KIND, f"{self.client} {self.number} {position} {self.records}".encode(), keys)
            for position in range(self.records)
        ]


@dataclass(frozen=True, slots=True)
class Place:
    """Whose record this is, and which one of its group."""

    client: str
    number: int
    position: int
    records: int


def place_of(record: Record) -> Place:
    """What `Request.make` wrote into a record."""
    return _place(record.body)


@lru_cache(maxsize=4096)
def _place(body: bytes) -> Place:
    client, number, position, records = body.decode().split()
    return Place(client, int(number), int(position), int(records))


@dataclass(slots=True)
class LogHistory:
    """Everything that anybody was told about a log.

    Attributes:
        observer: sees the log from outside.
        requests: all of them, in the order of their making.
        shown: by LSN the record that somebody was told of.
        trim_asked: the last LSN that anybody asked to trim.
        sent_conditions: of each request's copies, as they are stored.
    """

    observer: LogObserver
    disk: Callable[[], SimulationDisk]
    requests: list[Request] = field(default_factory=list)
    shown: dict[int, LogRecord] = field(default_factory=dict)
    trim_asked: int = 0
    sent_conditions: dict[str, set[tuple[tuple[bytes, int], ...]]] = field(default_factory=dict)

    def show(self, lsn: int, what: str) -> LogRecord:
        """Somebody is told that a record is at `lsn`; gives it. Raises InvariantViolation."""
        item = self.observer.durable_record(lsn, self.disk())
        if item is None:
            raise InvariantViolation("what is told is durable", f"{what}: LSN {lsn} is not")
        before = self.shown.setdefault(lsn, item)
        require(before == item, "a record never changes", f"LSN {lsn} did, {what}")
        return item

    def sending(self, request: Request, append: Append) -> None:
        """A copy of a request is about to be sent."""
        conditions = tuple((item.key, item.lsn) for item in append.conditions)
        self.sent_conditions.setdefault(request.name, set()).add(conditions)

    def read(self, entry: LogEntry, who: str) -> None:
        """A reader is given a record. Raises InvariantViolation."""
        item = self.show(entry.lsn, f"read by {who}")
        require(
            (item.record, item.time_ns, item.epoch)
            == (entry.record, entry.record_time_ns, entry.epoch),
            "readers get what was written",
            f"LSN {entry.lsn} for {who}",
        )

    def told(self, request: Request, append: Append, answer: Answer | PerdureError) -> None:
        """The log gives an answer. Raises InvariantViolation when it is not true."""
        what = f"{request.name} is told {answer!r}"
        match answer:
            case Committed(first_lsn, last_lsn):
                require(
                    last_lsn - first_lsn + 1 == request.records,
                    "an append is contiguous and whole",
                    what,
                )
                for lsn in range(first_lsn, last_lsn + 1):
                    found = place_of(self.show(lsn, what).record)
                    require(
                        found
                        == Place(request.client, request.number, lsn - first_lsn, request.records),
                        "what was acknowledged is in the log",
                        f"{what}: {found} is at LSN {lsn}",
                    )
            case Conflict(key, lsn):
                self._check_conflict(append.conditions, key, lsn, what)
            case StaleSnapshot(floor):
                self.show(floor, what)
                require(
                    any(condition.lsn < floor for condition in append.conditions),
                    "a floor is above the snapshot that it refuses",
                    what,
                )
            case Duplicate(lsn):
                self._check_duplicate(append, lsn, what)
            case OutOfOrder(expected):
                self._check_expected(append, expected, what)
            case Fenced() | FuturePositionError():
                raise InvariantViolation("no sound append is refused", what)
            case _:
                return

    def _check_conflict(
        self, conditions: Sequence[NotChangedSince], key: bytes | None, lsn: int, what: str
    ) -> None:
        keys = self.show(lsn, what).record.keys
        require(
            keys is None if key is None else keys is not None and key in keys,
            "a conflict names a record of the key",
            f"{what}: its keys are {keys}",
        )
        require(
            any(lsn > item.lsn for item in conditions if key is None or item.key == key),
            "a conflict is newer than the snapshot",
            what,
        )

    def _check_duplicate(self, append: Append, lsn: int | None, what: str) -> None:
        producer = append.producer
        assert producer is not None
        if lsn is None:
            return
        record = self.show(lsn, what).record
        require(
            (record.producer, record.producer_epoch, record.sequence)
            == (producer.id, producer.epoch, producer.sequence),
            "a duplicate is in the log",
            f"{what}: LSN {lsn} is of another append",
        )

    def _check_expected(self, append: Append, expected: int, what: str) -> None:
        producer = append.producer
        assert producer is not None
        require(expected < producer.sequence, "what is expected was not sent", what)

    def take_gap(self, gap: TrimGap | FilteredGap, keys: frozenset[bytes] | None, who: str) -> None:
        """A reader is told that LSNs hold nothing for it. Raises InvariantViolation."""
        if isinstance(gap, TrimGap):
            require(
                gap.last_lsn <= self.trim_asked,
                "only what may go is trimmed",
                f"{who} is told {gap}; asked for was {self.trim_asked}",
            )
            return
        for lsn in range(gap.first_lsn, gap.last_lsn + 1):
            record = self.show(lsn, f"{who} passes over it").record
            require(
                keys is not None and record.keys is not None and keys.isdisjoint(record.keys),
                "nothing that was asked for is passed over",
                f"{who}: LSN {lsn}",
            )


class ReadCheck:
    """Follows one reader: each LSN is in exactly one item.

    Attributes:
        next_lsn: the first LSN that it has not seen.
    """

    def __init__(
        self, history: LogHistory, who: str, next_lsn: int, keys: frozenset[bytes] | None = None
    ) -> None:
        """Begin at `next_lsn`; the reader asked for `keys`."""
        self._history = history
        self._who = who
        self._keys = keys
        self.next_lsn = next_lsn

    def take(self, item: ReadItem) -> None:
        """The reader is given an item. Raises InvariantViolation."""
        first, last = (
            (item.lsn, item.lsn) if isinstance(item, LogEntry) else (item.first_lsn, item.last_lsn)
        )
        require(
            first == self.next_lsn and last >= first,
            "each LSN is in exactly one item",
            f"{self._who} gets LSNs {first} to {last} where {self.next_lsn} is next",
        )
        if isinstance(item, LogEntry):
            self._history.read(item, self._who)
        else:
            self._history.take_gap(item, self._keys, self._who)
        self.next_lsn = last + 1
