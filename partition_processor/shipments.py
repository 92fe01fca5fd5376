"""The outbox's driver: messages go to their partitions in order, and are kept until taken.

The outbox itself is in the store. What is kept of it here is a position per destination and the
newest messages, as far as they fit; whatever is to be sent and is not here is read.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeAlias

import msgspec

from .effects import Ship
from .records import Deliver


class Carrier(Protocol):
    """The other partitions, as a source sees them."""

    def carry(self, destination: int, deliver: Deliver) -> bool:
        """Hand messages to a partition; False when it takes none now and will ask for them."""
        ...

    def taken(self, source: int, destination: int, last: int, gap: bool) -> None:
        """Tell a source that a destination has applied everything up to the message `last`.

        With `gap`, it has got later ones before the next, and dropped them.
        """
        ...


ReadOutbox: TypeAlias = Callable[[int, int, int], Iterator[Ship]]
"""Gives a destination's stored messages of a first to a last number, in order."""


class _Lane(msgspec.Struct, gc=False):
    """What one destination has not taken.

    Attributes:
        waiting: the newest messages without a gap up to `last`, or none; not sent yet.
        waiting_bytes: of their bodies.
        taken, sent, last: numbers of the last message that was taken, sent, written; in that order.
        truncated: number of the last one that is gone from the outbox.
        resent_after: what had been taken when a gap last had messages sent again.
        seen_taken: what had been taken when `resend_stalled` last looked.
    """

    waiting: deque[Ship]
    waiting_bytes: int
    taken: int
    sent: int
    last: int
    truncated: int
    resent_after: int = -1
    seen_taken: int = -1


class Shipments:
    """One partition's messages to the others, itself included."""

    BATCH_MESSAGES_MAX: Final = 256
    BATCH_BYTES_MAX: Final = 1024 * 1024
    TRUNCATE_SECONDS: Final = 0.1
    TRUNCATE_MESSAGES: Final = 256
    """The outbox is truncated after so many messages, or after that time."""
    KEPT_MESSAGES_MAX: Final = 1024
    KEPT_BYTES_MAX: Final = 4 * 1024 * 1024
    """What is kept in memory of the messages for one destination; more is read when it is sent."""

    def __init__(
        self,
        partition: int,
        carrier: Carrier,
        truncate: Callable[[int, int], None],
        truncate_later: Callable[[], None],
        read: ReadOutbox,
    ) -> None:
        """Ship for `partition`.

        Args:
            truncate: called with a destination and the number that it has taken everything up to.
            truncate_later: have `truncate_taken` called after `TRUNCATE_SECONDS`.
            read: the stored outbox, which has every message that was added and not truncated.
        """
        self._partition = partition
        self._carrier = carrier
        self._truncate = truncate
        self._truncate_later = truncate_later
        self._read = read
        self._lanes: dict[int, _Lane] = {}
        self._unsent: list[int] = []
        self._later = False

    def __len__(self) -> int:
        """How many messages wait to be taken."""
        return sum(lane.last - lane.taken for lane in self._lanes.values())

    @property
    def kept(self) -> int:
        """How many messages are in memory."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def add(self, item: Ship) -> None:
        """A message has come into the outbox; `flush` sends it."""
        lane = self._lanes.get(item.destination)
        number = item.number
        if lane is None:
            before = number - 1
            lane = _Lane(deque(), 0, before, before, before, before)
            self._lanes[item.destination] = lane
        waiting = lane.waiting
        size = len(item.body)
        if (
            len(waiting) >= self.KEPT_MESSAGES_MAX
            or lane.waiting_bytes + size > self.KEPT_BYTES_MAX
        ):
            # Not even this one: what is kept has no gap. It is all in the store.
            waiting.clear()
            lane.waiting_bytes = 0
        else:
            waiting.append(item)
            lane.waiting_bytes += size
        lane.last = number
        if item.destination not in self._unsent:
            self._unsent.append(item.destination)

    def flush(self) -> None:
        """Send what has come since the last call, in batches."""
        unsent, self._unsent = self._unsent, []
        for destination in unsent:
            self._send(destination, self._lanes[destination])

    def _send(self, destination: int, lane: _Lane) -> None:
        while lane.sent < lane.last:
            batch: list[tuple[int, bytes]] = []
            size = 0
            for item in self._unsent_of(destination, lane):
                if batch and size + len(item.body) > self.BATCH_BYTES_MAX:
                    break
                batch.append((item.kind, item.body))
                size += len(item.body)
                if len(batch) == self.BATCH_MESSAGES_MAX:
                    break
            assert batch, "a message that was not taken has left the outbox"
            deliver = Deliver(self._partition, lane.sent + 1, tuple(batch))
            if not self._carrier.carry(destination, deliver):
                return
            self._sent(lane, lane.sent + len(batch))

    def _unsent_of(self, destination: int, lane: _Lane) -> Iterator[Ship]:
        """The messages that are to be sent next, from memory or from the store."""
        first = lane.sent + 1
        waiting = lane.waiting
        if waiting and waiting[0].number == first:
            return iter(waiting)
        before = waiting[0].number - 1 if waiting else lane.last
        last = min(before, lane.sent + self.BATCH_MESSAGES_MAX)
        return self._read(destination, first, last)

    @staticmethod
    def _sent(lane: _Lane, number: int) -> None:
        lane.sent = number
        waiting = lane.waiting
        while waiting and waiting[0].number <= number:
            lane.waiting_bytes -= len(waiting.popleft().body)

    def go_on(self, destination: int) -> None:
        """The destination takes messages again; what was under way to it was not lost."""
        lane = self._lanes.get(destination)
        if lane is not None:
            self._send(destination, lane)

    def resend(self, destination: int) -> None:
        """The destination may have lost what was under way to it."""
        lane = self._lanes.get(destination)
        if lane is not None:
            lane.sent = lane.taken
            self._send(destination, lane)

    def resend_stalled(self) -> bool:
        """Send again what has been under way since the last call without any of it being taken.

        Gives whether anything is under way.
        """
        under_way = False
        for destination, lane in self._lanes.items():
            if lane.taken == lane.last:
                lane.seen_taken = -1
                continue
            under_way = True
            if lane.seen_taken == lane.taken:
                lane.sent = lane.taken
                self._send(destination, lane)
            lane.seen_taken = lane.taken
        return under_way

    def taken(self, destination: int, last: int, gap: bool = False) -> None:
        """The destination has applied everything up to the message `last`.

        With `gap`, what was sent after that did not follow on it, and is sent again: once, however
        many batches met the same gap.
        """
        lane = self._lanes.get(destination)
        if lane is None or last > lane.last:
            return  # Nobody can have taken what was never sent.
        lane.taken = max(lane.taken, last)
        if lane.sent < lane.taken:
            self._sent(lane, lane.taken)
        if gap and last == lane.taken < lane.sent and lane.resent_after != last:
            lane.resent_after = last
            lane.sent = last
            self._send(destination, lane)
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
