"""Forwarding: this node's way to the partitions that other nodes lead, and theirs to its own."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final

from ...core.clock import Clock
from ...core.errors import PerdureError
from ...core.net.peers import Introduction, Peers
from ...core.net.transport import Connection
from ...core.random import Random
from ...partition_processor.manager import PartitionManager
from ...partition_processor.records import Deliver
from . import frames
from .leaders import LeaderLookup
from .link import Link
from .pending import Pending
from .routed import RoutedPartition
from .server import ForwardingServer

HELD_BYTES_MAX: Final = 256 * 1024 * 1024
RESEND_SECONDS: Final = 2.0
"""Messages that were under way for so long without being taken are sent again."""
REFUSED_SECONDS: Final = 0.2
"""Messages that a leader did not take are sent again after this."""
ROOM_SECONDS: Final = 0.02
"""How often a connection that took no more messages is looked at."""


class Forwarding:
    """The `Elsewhere` of a partition manager, over connections to other nodes.

    Attributes:
        leaders, loop, clock, random: as given.
        waiting: requests that wait for a leader.
        waiting_max: how many may.
        leader_wait: seconds that a request which nobody has taken waits for one.
        held_bytes: of the bodies of requests without an answer, which may have to be sent again.
        held_bytes_max: how many there may be.
        closed: the node is ending.
    """

    def __init__(
        self,
        manager: PartitionManager,
        *,
        node: str,
        cluster: str,
        leaders: LeaderLookup,
        peers: Peers,
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        leader_wait: float,
        waiting_max: int,
        in_flight_max_per_peer: int,
        in_flight_max_per_partition: int,
        active_max_per_partition: int,
    ) -> None:
        """Find leaders by `leaders` and reach them by `peers`.

        Args:
            leader_wait: seconds that a request waits for a leader before anybody has taken it.
            waiting_max: how many requests may wait for leaders.
            in_flight_max_per_peer: how many unanswered requests a node may have at another.
        """
        self._manager = manager
        self._node = node
        self._peers = peers
        self.leaders = leaders
        self.loop = loop
        self.clock = clock
        self.random = random
        self.leader_wait = leader_wait
        self.waiting_max = waiting_max
        self.waiting = 0
        self.held_bytes = 0
        self.held_bytes_max = HELD_BYTES_MAX
        self.closed = False
        self._in_flight_max = in_flight_max_per_peer
        self._number = 0
        self._links: dict[str, Link] = {}
        count = len(manager.processors)
        self._hello = frames.encode_frame(frames.Hello(frames.VERSION, cluster, node, count))
        self._partitions = [
            RoutedPartition(self, processor.partition, manager.processors)
            for processor in manager.processors
        ]
        self._no_room: set[int] = set()
        self._room_timer: TimerHandle | None = None
        self._refused: set[int] = set()
        self._refused_timer: TimerHandle | None = None
        self._resend_timer: TimerHandle | None = None
        self.server = ForwardingServer(
            manager,
            leaders,
            cluster=cluster,
            loop=loop,
            in_flight_max_per_peer=in_flight_max_per_peer,
            in_flight_max_per_partition=in_flight_max_per_partition,
            active_max_per_partition=active_max_per_partition,
        )
        leaders.subscribe(self._leader_changed)

    async def serve(self, _them: Introduction, connection: Connection) -> None:
        """Serve one connection of another node of this cluster; a `PeerHandler`."""
        await self.server.serve(connection)

    def __len__(self) -> int:
        """Requests that wait for another node, or for a leader."""
        return sum(partition.away for partition in self._partitions)

    def close(self, error: PerdureError) -> None:
        """Take nothing more, and tell whoever waits."""
        self.closed = True
        self.server.close()
        for timer in (self._room_timer, self._refused_timer, self._resend_timer):
            if timer is not None:
                timer.cancel()
        for partition in self._partitions:
            partition.close(error)

    def asked_ns(self, partition: int) -> int:
        """See `PartitionManager.asked_ns`."""
        return self._manager.asked_ns(partition)

    def next_number(self) -> int:
        """The number of a new request."""
        self._number += 1
        return self._number

    # Links ---------------------------------------------------------------------------------------

    def link_to(self, node: str | None) -> Link | None:
        """The link to a node, None while there is no connection; one is made then."""
        if node is None or node == self._node or self.closed:
            return None
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = Link(
                node,
                self._peers.peer(node),
                self._hello,
                loop=self.loop,
                in_flight_max=self._in_flight_max,
                on_connected=self._connected,
                on_lost=self._lost,
                on_moved=self._moved,
                on_room=self._room,
                on_not_taken=self._not_taken,
            )
        return link if link.is_connected else None

    def _connected(self, link: Link) -> None:
        for partition in self._partitions:
            if partition.target() == link.node:
                partition.flush()
            if self.leaders.leader(partition.partition) == link.node:
                # What was under way on the connection before may be lost.
                self._manager.resend(partition.partition)

    def _lost(self, _link: Link, in_flight: list[Pending]) -> None:
        for pending in in_flight:
            pending.place.left()
            pending.place.again(pending, lost=True)

    def _moved(self, pending: Pending, answer: frames.Refused, node: str) -> None:
        place = pending.place
        place.left()
        place.refused(node, answer.leader)
        place.again(pending, lost=answer.open)

    def _room(self, link: Link) -> None:
        if self.waiting:
            for partition in self._partitions:
                if partition.waits and partition.target() == link.node:
                    partition.flush()

    def _leader_changed(self, partition: int) -> None:
        if self.closed:
            return
        self._partitions[partition].leader_changed()
        if self.link_to(self.leaders.leader(partition)) is not None:
            self._manager.resend(partition)

    # Elsewhere -----------------------------------------------------------------------------------

    def partition(self, partition: int) -> RoutedPartition:
        """The partition of that number, wherever it is led."""
        return self._partitions[partition]

    def leads_here(self, partition: int) -> None:
        """This node leads the partition from now on."""
        self._partitions[partition].flush()

    def carry(self, destination: int, deliver: Deliver) -> bool:
        """Hand messages to a partition; False when it takes none now.

        They are asked for again when its leader is another one, is connected or has room. Whether
        they were taken is watched in any case: a leader, this node too, may be one no more.
        """
        self._watch()
        processor = self._manager.processors[destination]
        if processor.role == "leader":
            return processor.propose_now(deliver)
        link = self.link_to(self.leaders.leader(destination))
        if link is None:
            return False
        if not link.has_room:
            self._no_room.add(destination)
            if self._room_timer is None:
                self._room_timer = self.loop.call_later(ROOM_SECONDS, self._look_for_room)
            return False
        link.send(
            frames.encode_frame(
                frames.Carry(destination, deliver.source, deliver.first, deliver.messages)
            )
        )
        return True

    def taken(self, source: int, destination: int, last: int, gap: bool) -> None:
        """Tell a source what a destination has; lost words are made good by sending again.

        Who leads the source here may be a leader no more, so the one that is said to is told too.
        """
        processor = self._manager.processors[source]
        if processor.role == "leader":
            processor.drivers.shipments.taken(destination, last, gap)
        link = self.link_to(self.leaders.leader(source))
        if link is not None:
            link.send(frames.encode_frame(frames.Taken(source, destination, last, gap)))

    def _look_for_room(self) -> None:
        self._room_timer = None
        destinations, self._no_room = sorted(self._no_room), set()
        for destination in destinations:
            for processor in self._manager.processors:
                if processor.leading:
                    processor.drivers.shipments.go_on(destination)

    def _not_taken(self, destination: int) -> None:
        """Have messages sent again that a leader did not take; it may not be one any more."""
        self._refused.add(destination)
        if self._refused_timer is None and not self.closed:
            self._refused_timer = self.loop.call_later(REFUSED_SECONDS, self._resend_refused)

    def _resend_refused(self) -> None:
        self._refused_timer = None
        refused, self._refused = sorted(self._refused), set()
        for destination in refused:
            self._manager.resend(destination)

    def _watch(self) -> None:
        if self._resend_timer is None and not self.closed:
            self._resend_timer = self.loop.call_later(RESEND_SECONDS, self._resend_stalled)

    def _resend_stalled(self) -> None:
        self._resend_timer = None
        under_way = False
        for processor in self._manager.processors:
            if processor.leading:
                under_way |= processor.drivers.shipments.resend_stalled()
        if under_way:
            self._watch()
