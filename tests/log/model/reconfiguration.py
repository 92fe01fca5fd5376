"""Seal at an f-majority, repair from digests, extend the chain: one attempt at it."""

from typing import TYPE_CHECKING

from perdure.log.chain import Segment
from perdure.log.types import Batch

from .checkers import Violation
from .servers import F_MAJORITY, WRITE_QUORUM, Sealed

if TYPE_CHECKING:
    from .world import World

RETRY = 12.0


class Reconfiguration:
    """What one process does to end a segment; several may try at once, each may die.

    Attributes:
        by_sequencer: it runs in the process of the segment's own sequencer.
    """

    def __init__(self, world: "World", segment: Segment) -> None:
        self.world = world
        self.segment = segment
        self.by_sequencer = world.chance(0.4)
        self.over = False
        self._sealed: dict[int, Sealed] = {}
        self._repairing = False
        self._to_repair: list[Batch] = []
        self._holders: set[int] = set()
        self._start = 0
        self._final = 0
        world.log("segment {} is to be sealed", segment.index)
        self._try()

    def _try(self) -> None:
        world = self.world
        if self.over or world.chain.tail.index != self.segment.index:
            self.over = True
            return
        if self._repairing:
            self._store()
        else:
            for server in world.servers:
                if server.number not in self._sealed:
                    world.send(server.seal, self.segment.index, self._on_sealed)
        world.later(RETRY, self._try)

    def _on_sealed(self, sealed: Sealed) -> None:
        if self.over or self._repairing:
            return
        self._sealed[sealed.number] = sealed
        if len(self._sealed) < F_MAJORITY:
            return
        if self.world.faults and self.world.chance(0.1):
            self.over = True  # It dies here; somebody else has to go on.
            return
        self._repairing = True
        digests = self._sealed.values()
        self._start = max(digest.known for digest in digests)
        self._final = max(digest.tail for digest in digests)
        if self.world.rules.repair_is_skipped:
            self._final = self._start
        offset = self._start
        while offset < self._final:
            found = [digest.batches[offset] for digest in digests if offset in digest.batches]
            if not found:
                raise Violation("L3", f"no server of an f-majority has offset {offset}")
            if len(found) < WRITE_QUORUM:
                self._to_repair.append(found[0])
            offset = found[0].last_offset + 1
        # Ascending, one at a time: servers take no holes.
        self._to_repair.reverse()
        self._next()

    def _next(self) -> None:
        self._holders = set()
        if self._to_repair:
            self._store()
        else:
            self._extend()

    def _store(self) -> None:
        batch = self._to_repair[-1]
        for server in self.world.servers:
            self.world.send(
                server.store, self.segment.index, batch, self._start, True, self._stored
            )

    def _stored(self, number: int, first: int, sealed: bool) -> None:
        if self.over or not self._to_repair or self._to_repair[-1].first_offset != first:
            return
        self._holders.add(number)
        if len(self._holders) >= WRITE_QUORUM:
            self._to_repair.pop()
            self.world.history.repaired += 1
            self._next()

    def _extend(self) -> None:
        self.over = True
        if self.world.faults and self.world.chance(0.05):
            return
        self.world.extend(self.segment, self._final, by_sequencer=self.by_sequencer)
