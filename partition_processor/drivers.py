"""What a leader keeps going beside attempts: timers, messages to other partitions, purges."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator

from ..core.clock import Clock
from ..core.ids import InvocationId
from ..core.storage.kv import KvStore
from .context import PartitionRange
from .durable_timers import DurableTimers
from .effects import ArmTimer, DigestMarked, Ship
from .expiry import ExpiryWatch
from .pending import pending_timers
from .records import Command, CompareDigest, Timer, TimersFired, TruncateOutbox
from .shipments import Carrier, Shipments
from .tables import keys
from .tables.invocations import Invocation


class Drivers:
    """The drivers of one partition; `propose` puts into the log what they ask for.

    Attributes:
        timers: fires sleeps and delayed starts.
        shipments: carries the outbox to other partitions.
        expiry: purges what has been kept long enough.
    """

    def __init__(
        self,
        own: PartitionRange,
        *,
        store: KvStore,
        loop: AbstractEventLoop,
        clock: Clock,
        carrier: Carrier,
        propose: Callable[[Command], bool],
        propose_now: Callable[[Command], bool],
        followed: Callable[[], bool],
    ) -> None:
        """Do nothing before `start`; what is written to the store in between is found then.

        Args:
            propose: has a record appended, held back while the log takes none.
            propose_now: the same, but not taken while the log takes none.
            followed: whether other nodes can read the log.
        """
        self._own = own
        self._store = store
        self._loop = loop
        self._propose, self._propose_now = propose, propose_now
        self._followed = followed
        self._truncation: TimerHandle | None = None
        self.timers = DurableTimers(loop, clock, self._read_timers, self._fire)
        self.shipments = Shipments(
            own.number, carrier, self._truncate, self._truncate_later, self._read_outbox
        )
        self.expiry = ExpiryWatch(loop, clock, self._first_expiry_ns, propose_now)

    def start(self) -> None:
        """The partition leads from here on."""
        self.timers.start()
        self.expiry.start()
        self.shipments.flush()

    def completed(self, invocation: Invocation) -> None:
        """An invocation has completed; it expires, or its journal does."""
        journal_ns = invocation.completed_ns + invocation.journal_retention_ns
        self.expiry.completed(min(journal_ns, invocation.expires_ns))

    def compare(self, marked: DigestMarked) -> None:
        """Have the other replicas see that they have the same rows."""
        if self._followed():
            self._propose_now(CompareDigest(marked.lsn, marked.digest))

    def close(self) -> None:
        """Ask for nothing more."""
        self.timers.close()
        self.expiry.close()
        if self._truncation is not None:
            self._truncation.cancel()
            self._truncation = None

    def _read_timers(self, after: tuple[int, InvocationId, int] | None) -> Iterator[ArmTimer]:
        row = b"" if after is None else keys.timer_row(self._own.first, *after)
        return pending_timers(self._store, self._own, row)

    def _fire(self, timers: tuple[Timer, ...]) -> None:
        self._propose(TimersFired(timers))

    def _first_expiry_ns(self, from_ns: int) -> int | None:
        prefix = keys.EXPIRY + self._own.first
        start = prefix + keys.pack_number(from_ns)
        for row, _ in self._store.scan(start, keys.prefix_end(prefix)):
            return keys.read_expiry_row(row)[0]
        return None

    def _read_outbox(self, destination: int, first: int, last: int) -> Iterator[Ship]:
        start = keys.outbox_row(self._own.first, destination, first)
        end = keys.outbox_row(self._own.first, destination, last + 1)
        for row, value in self._store.scan(start, end):
            yield Ship(destination, keys.read_outbox_row(row)[1], value[0], value[1:])

    def _truncate(self, destination: int, last: int) -> None:
        self._propose(TruncateOutbox(destination, last))

    def _truncate_later(self) -> None:
        self._truncation = self._loop.call_later(Shipments.TRUNCATE_SECONDS, self._truncation_due)

    def _truncation_due(self) -> None:
        self._truncation = None
        self.shipments.truncate_taken()
