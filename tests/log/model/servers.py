"""Log-servers of the model: what each keeps of a segment and what it agrees to store."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.log.types import Batch

if TYPE_CHECKING:
    from .world import World

SERVERS = 3
WRITE_QUORUM = 2
F_MAJORITY = SERVERS - WRITE_QUORUM + 1
"""So many sealed servers meet every write quorum."""


class Replica:
    """What one server has of one segment; offsets count from 1.

    Without holes between `known`, the global tail that it has heard of, and `tail`, its own.
    """

    __slots__ = ("batches", "known", "sealed", "tail", "trim_point")

    def __init__(self) -> None:
        self.batches: dict[int, Batch] = {}
        self.known = 1
        self.tail = 1
        self.trim_point = 0
        self.sealed = False


class Sealed:
    """A server's answer to a seal: it took nothing from the sequencer after this."""

    __slots__ = ("batches", "known", "number", "tail")

    def __init__(self, number: int, replica: Replica) -> None:
        self.number = number
        self.known = replica.known
        self.tail = replica.tail
        self.batches = {
            first: batch for first, batch in replica.batches.items() if first >= replica.known
        }


class LogServer:
    """One server. What it stores is durable at once; only a lost disk loses it."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.up = True
        # Of segments up to this index it is not counted any more: it has lost their records.
        self.lost_up_to = 0
        self.replicas: dict[int, Replica] = {}

    def replica(self, index: int) -> Replica | None:
        """Its part of a segment; None where it is down or not counted."""
        if not self.up or index <= self.lost_up_to:
            return None
        replica = self.replicas.get(index)
        if replica is None:
            replica = self.replicas[index] = Replica()
        return replica

    def store(
        self,
        index: int,
        batch: Batch,
        known: int,
        repair: bool,
        reply: Callable[[int, int, bool], None],
    ) -> None:
        """Take a batch of the sequencer's, or of a repair, which a seal does not hold up."""
        replica = self.replica(index)
        if replica is None:
            return
        world = self.world
        first = batch.first_offset
        if replica.sealed and not repair and not world.rules.seal_is_ignored:
            # Even if it has the batch: a later repair may have put it there, beyond the tail.
            world.send(reply, self.number, first, True)
            return
        replica.known = max(replica.known, known)
        if first not in replica.batches and first > replica.trim_point:
            if first > max(replica.tail, replica.known) and not world.rules.holes_are_accepted:
                return
            replica.batches[first] = batch
            replica.tail = max(replica.tail, batch.last_offset + 1)
        world.send(reply, self.number, first, False)

    def seal(self, index: int, reply: Callable[[Sealed], None]) -> None:
        """Refuse the sequencer from now on and tell what is here."""
        replica = self.replica(index)
        if replica is not None:
            replica.sealed = True
            self.world.send(reply, Sealed(self.number, replica))

    def release(self, index: int, known: int) -> None:
        """Hear how far the segment is committed."""
        replica = self.replica(index)
        if replica is not None:
            replica.known = max(replica.known, known)

    def trim(self, index: int, last_offset: int) -> None:
        """Drop committed batches up to an offset."""
        replica = self.replica(index)
        if replica is None or last_offset <= replica.trim_point:
            return
        replica.trim_point = last_offset
        replica.known = max(replica.known, last_offset + 1)
        replica.tail = max(replica.tail, last_offset + 1)
        for first in [first for first in replica.batches if first <= last_offset]:
            del replica.batches[first]

    def lose_disk(self, last_index: int) -> None:
        """Come back empty."""
        self.replicas = {}
        self.lost_up_to = last_index
