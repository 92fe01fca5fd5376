"""The outbox's driver: messages go to their partitions in order, and are kept until taken."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from .effects import Ship
from .records import Deliver


class Carrier(Protocol):
    """The other partitions, as a source sees them."""

    def carry(self, destination: int, deliver: Deliver) -> bool:
        """Hand messages to a partition; False when it takes none now and will ask for them."""
        ...

    def taken(self, source: int, destination: int, last: int) -> None:
        """Tell a source that a destination has applied everything up to the message `last`."""
        ...


class _Lane(msgspec.Struct, gc=False):
    """The messages for one destination that it has not taken: those under way, then the rest."""

    sent: deque[Ship]
    waiting: deque[Ship]
    taken: int = 0
    truncated: int = 0


class Shipments:
    """One partition's messages to the others, itself included."""

    BATCH_MESSAGES_MAX: Final = 256
    BATCH_BYTES_MAX: Final = 1024 * 1024
    TRUNCATE_SECONDS: Final = 0.1
    TRUNCATE_MESSAGES: Final = 256
    """The outbox is truncated after so many messages, or after that time."""

    def __init__(
        self,
        partition: int,
        carrier: Carrier,
        truncate: Callable[[int, int], None],
        truncate_later: Callable[[], None],
    ) -> None:
        """Ship for `partition`.

        Args:
            truncate: called with a destination and the number that it has taken everything up to.
            truncate_later: have `truncate_taken` called after `TRUNCATE_SECONDS`.
        """
        self._partition = partition
        self._carrier = carrier
        self._truncate = truncate
        self._truncate_later = truncate_later
        self._lanes: dict[int, _Lane] = {}
        self._unsent: list[int] = []
        self._later = False

    def __len__(self) -> int:
        """How many messages wait to be taken."""
        return sum(len(lane.sent) + len(lane.waiting) for lane in self._lanes.values())

    def add(self, item: Ship) -> None:
        """A message has come into the outbox; `flush` sends it."""
        lane = self._lanes.get(item.destination)
        if lane is None:
            lane = self._lanes[item.destination] = _Lane(deque(), deque())
            lane.taken = lane.truncated = item.number - 1
        lane.waiting.append(item)
        if item.destination not in self._unsent:
            self._unsent.append(item.destination)

    def flush(self) -> None:
        """Send what has come since the last call, in batches."""
        unsent, self._unsent = self._unsent, []
        for destination in unsent:
            self._send(destination, self._lanes[destination])

    def _send(self, destination: int, lane: _Lane) -> None:
        while lane.waiting:
            batch: list[tuple[int, bytes]] = []
            size = 0
            first = lane.waiting[0].number
            for item in lane.waiting:
                if batch and size + len(item.body) > self.BATCH_BYTES_MAX:
                    break
                batch.append((item.kind, item.body))
                size += len(item.body)
                if len(batch) == self.BATCH_MESSAGES_MAX:
                    break
            if not self._carrier.carry(destination, Deliver(self._partition, first, tuple(batch))):
                return
            lane.sent.extend(lane.waiting.popleft() for _ in batch)

    def resend(self, destination: int) -> None:
        """The destination may have lost what was under way to it."""
        lane = self._lanes.get(destination)
        if lane is not None:
            lane.sent.extend(lane.waiting)
            lane.sent, lane.waiting = lane.waiting, lane.sent
            lane.sent.clear()
            self._send(destination, lane)

    def taken(self, destination: int, last: int) -> None:
        """The destination has applied everything up to the message `last`."""
        lane = self._lanes.get(destination)
        if lane is None:
            return
        for messages in (lane.sent, lane.waiting):
            while messages and messages[0].number <= last:
                messages.popleft()
        lane.taken = max(lane.taken, last)
        if lane.taken - lane.truncated >= self.TRUNCATE_MESSAGES:
            self._truncate_lane(destination, lane)
        elif lane.taken > lane.truncated and not self._later:
            self._later = True
            self._truncate_later()

    def truncate_taken(self) -> None:
        """Have the outbox forget what was taken."""
        self._later = False
        for destination, lane in self._lanes.items():
            if lane.taken > lane.truncated:
                self._truncate_lane(destination, lane)

    def _truncate_lane(self, destination: int, lane: _Lane) -> None:
        lane.truncated = lane.taken
        self._truncate(destination, lane.taken)
