"""RoutedPartition: a partition whose leader is found anew for each request, here or on a peer.

A request is in one of three places: at this node's own processor, under way on a link, or waiting
for a leader. When its leader is lost it goes back to waiting and is tried again, as the same
request: under the same invocation id, or operation id. What waits is tried in the order of arrival.
"""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final, Protocol

import msgspec

from ...core.errors import PerdureError
from ...core.ids import InvocationId, PartitionId
from ...core.random import Random
from ...partition_processor.clients import InvokeReply, OperationReply
from ...partition_processor.operations import Plain
from ...partition_processor.partition import PeerOverloadedError
from ...partition_processor.processor import PartitionProcessor
from ...partition_processor.records import KINDS, Invoke, Once, encode_command
from .errors import is_move
from .leaders import LeaderLookup
from .link import Link
from .pending import Pending, PendingInvoke, PendingLook, PendingOperation

REPEAT_SECONDS: Final = 300.0
"""So long after its leader was lost a request is tried again.

Half as long as the results of calls under ids that chance made are kept, at least: whoever is
refused as too late then has not been forgotten, though clocks are minutes apart. Outcomes of
operations are kept longer.
"""
REPEAT_SECONDS_MIN: Final = 30.0
"""A call whose result is not kept for twice as long is not tried again: it might run twice."""
RETRY_SECONDS: Final = (0.02, 1.0)
"""The first and the longest pause between tries to find a leader that nobody told of."""


class RoutingHost(Protocol):
    """What the partitions of one node share; see `Forwarding`."""

    leaders: LeaderLookup
    loop: AbstractEventLoop
    random: Random
    leader_wait: float
    waiting: int
    waiting_max: int
    held_bytes: int
    held_bytes_max: int
    closed: bool

    def asked_ns(self, partition: int) -> int:
        """See `PartitionManager.asked_ns`."""
        ...

    def next_number(self) -> int:
        """The number of a new request."""
        ...

    def link_to(self, node: str | None) -> Link | None:
        """The link to a node, None while there is no connection; one is made then."""
        ...


class RoutedPartition:
    """A `Partition`, and its clients, where other nodes may lead it."""

    def __init__(
        self, forwarding: RoutingHost, partition: PartitionId, processors: list[PartitionProcessor]
    ) -> None:
        """Take what knows the other nodes, and this node's own replicas.

        Args:
            processors: by partition; a new one may take the place of another at any time.
        """
        self._forwarding = forwarding
        self._processors = processors
        self.partition = partition
        self.clients = self
        self._pending: dict[int, Pending] = {}
        # By what is told the answer, which is how a client that leaves is known.
        self._replies: dict[object, Pending] = {}
        self._waiting: dict[int, Pending] = {}
        self._on_links = 0
        self._patient: dict[OperationReply, OperationReply] = {}
        self._hint: str | None = None
        self._hinted_by: str | None = None
        self._timer: TimerHandle | None = None
        self._pause = RETRY_SECONDS[0]

    # What front doors ask ------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """Invocations that have not completed; 0 where only the leader knows, who checks then."""
        processor = self._processors[self.partition]
        return processor.active if processor.leading else 0

    def invoke(
        self, command: Invoke, traceparent: str | None, reply: InvokeReply, *, wait: bool
    ) -> None:
        """See `Partition.invoke`."""
        forwarding = self._forwarding
        repeat = min(REPEAT_SECONDS, command.completion_retention_ns / 2e9)
        expires_ns = command.expires_ns
        if repeat < REPEAT_SECONDS_MIN:
            repeat = 0.0
        else:
            # After its retention the id is free again, and a copy that comes late would run.
            by_then_ns = forwarding.asked_ns(self.partition) + int(repeat * 1e9)
            expires_ns = min(expires_ns or by_then_ns, by_then_ns)
        request_id = forwarding.random.bits(64).to_bytes(8, "big")
        command = msgspec.structs.replace(command, request_id=request_id, expires_ns=expires_ns)
        number = forwarding.next_number()
        self._enter(PendingInvoke(self, number, reply, repeat, command, traceparent, wait))

    def operate(self, operation: Plain, reply: OperationReply) -> None:
        """See `Partition.operate`."""
        forwarding = self._forwarding
        asked = forwarding.asked_ns(self.partition).to_bytes(8, "big")
        operation_id = asked + forwarding.random.bits(64).to_bytes(8, "big")
        once = Once(operation_id, KINDS[type(operation)], encode_command(operation))
        on_turn = self._patient.pop(reply, None)
        number = forwarding.next_number()
        self._enter(PendingOperation(self, number, reply, REPEAT_SECONDS, once, on_turn))

    def attach(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """See `Partition.attach`."""
        number = self._forwarding.next_number()
        self._enter(PendingLook(self, number, reply, REPEAT_SECONDS, invocation_id, True))

    def output(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """See `Partition.output`."""
        number = self._forwarding.next_number()
        self._enter(PendingLook(self, number, reply, REPEAT_SECONDS, invocation_id, False))

    # Its clients ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many have not been answered, as far as this node knows."""
        return len(self._processors[self.partition].clients) + len(self._waiting) + self._on_links

    @property
    def closed(self) -> bool:
        """Whether this node is ending, so that nothing is tried again."""
        return self._forwarding.closed

    @property
    def waits(self) -> bool:
        """Whether requests wait for a leader, or for room on the way to it."""
        return bool(self._waiting)

    @property
    def away(self) -> int:
        """How many wait for another node, or for a leader."""
        return len(self._waiting) + self._on_links

    def forget(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Whoever waited for `reply` is gone; the invocation goes on."""
        pending = self._replies.get(reply)
        if pending is not None:
            self._withdraw(pending)

    def await_turn(self, reply: OperationReply, on_turn: OperationReply) -> None:
        """Where `reply` is told that a change is queued, tell `on_turn` what it came to."""
        self._patient[reply] = on_turn

    def forget_turn(self, reply: OperationReply, on_turn: OperationReply) -> None:
        """Nobody waits for the turn any more."""
        self._patient.pop(reply, None)
        pending = self._replies.get(reply)
        if isinstance(pending, PendingOperation):
            pending.on_turn = None
            if pending.queued:
                self._withdraw(pending)

    def _withdraw(self, pending: Pending) -> None:
        link = pending.link
        if link is None and pending.number not in self._waiting:
            pending.withdraw(self._processors[self.partition])
        if link is not None:
            self.left()
            link.forget(pending)
        self.drop(pending)

    # The way of a request ------------------------------------------------------------------------

    def _enter(self, pending: Pending) -> None:
        """Begin it, or have it wait. Raises what it is refused with."""
        self._pending[pending.number] = self._replies[pending.reply] = pending
        self._forwarding.held_bytes += pending.held_bytes
        try:
            self._check_held()
            if not self._waiting and self._begin(pending):
                return
            self._check_room()
        except PerdureError:
            self.drop(pending)
            raise
        self._wait(pending)

    def _check_held(self) -> None:
        """Raises PeerOverloadedError."""
        forwarding = self._forwarding
        if forwarding.held_bytes > forwarding.held_bytes_max:
            raise PeerOverloadedError(
                f"the requests of this node that have no answer yet hold {forwarding.held_bytes} "
                f"bytes, the limit is {forwarding.held_bytes_max}: try again shortly, or pass "
                "large data by reference"
            )

    def _check_room(self) -> None:
        """Raises PeerOverloadedError."""
        forwarding = self._forwarding
        link = forwarding.link_to(self.target())
        if link is not None and not link.takes_requests:
            raise PeerOverloadedError(
                f"node {link.node}, which leads partition {self.partition}, has as many requests "
                "of this node unanswered as it may (forwarding.in_flight_max_per_peer): try again "
                "shortly"
            )
        if forwarding.waiting >= forwarding.waiting_max:
            raise PeerOverloadedError(
                f"{forwarding.waiting_max} requests wait for the leaders of their partitions, the "
                "limit (forwarding.waiting_max): try again shortly"
            )

    def _begin(self, pending: Pending) -> bool:
        """Try it where the partition is led; False when that is nowhere now.

        Raises what it is refused with for another reason.
        """
        processor = self._processors[self.partition]
        if processor.role == "leader":
            try:
                pending.begin(processor)
            except PerdureError as error:
                if not is_move(error):
                    raise
                return False
            return True
        link = self._forwarding.link_to(self.target())
        if self._hint is not None and (link is None or not link.takes_requests):
            # Whoever said so may not know yet that the node it named is gone: back to the table.
            self._hint = self._hinted_by = None
            link = self._forwarding.link_to(self.target())
        if link is None or not link.takes_requests:
            return False
        self._on_links += 1
        link.ask(pending)
        return True

    def target(self) -> str | None:
        """The node that is to be asked next."""
        leader = self._forwarding.leaders.leader(self.partition)
        if self._hint is not None and leader in (None, self._hinted_by):
            return self._hint
        return leader

    def _wait(self, pending: Pending) -> None:
        if pending.deadline is None:
            seconds = pending.repeat_seconds if pending.open else self._forwarding.leader_wait
            pending.deadline = self._forwarding.loop.time() + seconds
        self._waiting[pending.number] = pending
        self._forwarding.waiting += 1
        self._arm()

    def again(self, pending: Pending, *, lost: bool) -> None:
        """A try of the request ended without an answer.

        Args:
            lost: it may have been applied; otherwise it was not, that time.
        """
        if pending.number not in self._pending:
            return  # Nobody waits for it any more.
        if lost:
            pending.open = True
            pending.deadline = None
        over = isinstance(pending, PendingOperation) and pending.queued
        if over or (pending.open and pending.repeat_seconds == 0.0):
            pending.finish(pending.lost())
            return
        self._wait(pending)

    def drop(self, pending: Pending) -> None:
        """The request is over."""
        if self._pending.pop(pending.number, None) is not None:
            self._forwarding.held_bytes -= pending.held_bytes
        if self._replies.get(pending.reply) is pending:
            del self._replies[pending.reply]
        if self._waiting.pop(pending.number, None) is not None:
            self._forwarding.waiting -= 1
        link = pending.link
        if link is not None:
            self.left()
            link.in_flight.pop(pending.number, None)
            pending.link = None
            self._pause = RETRY_SECONDS[0]

    def left(self) -> None:
        """A request is not under way on a link any more."""
        self._on_links -= 1

    # Tries ---------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Try what waits, in the order of arrival, until something has to wait on."""
        for number in sorted(self._waiting):
            pending = self._waiting.pop(number, None)
            if pending is None:
                continue
            self._forwarding.waiting -= 1
            try:
                begun = self._begin(pending)
            except PerdureError as error:
                pending.finish(error)
                continue
            if not begun:
                self._waiting[number] = pending
                self._forwarding.waiting += 1
                return

    def refused(self, node: str, hint: str) -> None:
        """A node that was asked does not lead, and may know who does."""
        if hint and hint != node and self._hint != hint:
            self._hint, self._hinted_by = hint, node
        else:
            self._hint = self._hinted_by = None

    def leader_changed(self) -> None:
        """Another node leads, as far as is known: ask there what was asked of the one before."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hint = self._hinted_by = None
        self._pause = RETRY_SECONDS[0]
        leader = self._forwarding.leaders.leader(self.partition)
        self._forwarding.link_to(leader)  # It is going to be needed.
        if leader is not None:
            for pending in list(self._pending.values()):
                link = pending.link
                if link is not None and link.node != leader:
                    self.left()
                    link.forget(pending)
                    self.again(pending, lost=True)
        self.flush()
        if self._waiting:
            self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._forwarding.loop.call_later(self._pause, self._due)

    def _due(self) -> None:
        self._timer = None
        self._pause = min(2 * self._pause, RETRY_SECONDS[1])
        now = self._forwarding.loop.time()
        for pending in list(self._waiting.values()):
            if pending.deadline is not None and pending.deadline <= now:
                pending.finish(pending.lost())
        self.flush()
        if self._waiting:
            self._arm()

    def close(self, error: PerdureError) -> None:
        """Tell everybody that no answer comes from here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pending in list(self._pending.values()):
            if pending.link is not None or pending.number in self._waiting:
                pending.finish(error)
