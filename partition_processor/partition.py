"""Partition: what front doors and admin ask of a partition, wherever its leader is.

`PartitionProcessor` is one where this node leads; `ingress/forwarding/` has the one that asks
another node.
"""

from typing import Protocol

from ..core.errors import PerdureError
from ..core.ids import InvocationId, PartitionId
from .clients import InvokeReply, OperationReply
from .operations import Plain
from .records import Deliver, Invoke


class PeerOverloadedError(PerdureError):
    """As much is under way to another node, or waits for a leader, as may."""

    code = "PD0915"
    retryable = True


class OutcomeUnknownError(PerdureError):
    """An operation was sent to a leader that was lost, and nobody could be asked for too long."""

    code = "PD0916"


class PartitionClients(Protocol):
    """Who waits for an answer of the partition; see `clients.Clients`."""

    def __len__(self) -> int:
        """How many have not been answered."""
        ...

    def forget(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Whoever waited for `reply` is gone; the invocation goes on."""
        ...

    def await_turn(self, reply: OperationReply, on_turn: OperationReply) -> None:
        """Where `reply` is told that a change is queued, tell `on_turn` what it came to."""
        ...

    def forget_turn(self, reply: OperationReply, on_turn: OperationReply) -> None:
        """Nobody waits for the turn any more."""
        ...


class Partition(Protocol):
    """A partition. Replies come once, on the loop, possibly before the method has returned.

    Whatever raises has not happened. An error that a reply gets leaves that open, unless the error
    says that the request was refused.
    """

    @property
    def partition(self) -> PartitionId:
        """Its number."""
        ...

    @property
    def clients(self) -> PartitionClients:
        """Who waits for it, as far as this node knows."""
        ...

    @property
    def active(self) -> int:
        """Invocations that have not completed; 0 where only the leader knows, who checks then."""
        ...

    def invoke(
        self, command: Invoke, traceparent: str | None, reply: InvokeReply, *, wait: bool
    ) -> None:
        """Have an invocation made; `reply` gets `Answer` when `wait`, else `Accepted`, or an error.

        Raises NotLeadingError, LogClosedError, RecordTooLargeError or PeerOverloadedError.
        """
        ...

    def operate(self, operation: Plain, reply: OperationReply) -> None:
        """Have an operation applied; `reply` gets its outcome or an error. Raises as `invoke`."""
        ...

    def attach(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Have `reply` get the invocation's `Answer`, now or once it has completed, or an error.

        Raises as `invoke`, and InvocationNotFoundError, which may come as a reply as well.
        """
        ...

    def output(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Have `reply` get an `Answer` with the invocation as it is now. Raises as `attach`."""
        ...


class Elsewhere(Protocol):
    """All partitions, as the manager of a node that does not lead all of them sees them."""

    def partition(self, partition: int) -> Partition:
        """The partition of that number, which waits for a leader if there is none."""
        ...

    def carry(self, destination: int, deliver: Deliver) -> bool:
        """Hand messages to a partition; see `shipments.Carrier`."""
        ...

    def taken(self, source: int, destination: int, last: int, gap: bool) -> None:
        """Tell a source what a destination has; see `shipments.Carrier`."""
        ...

    def leads_here(self, partition: int) -> None:
        """This node leads the partition from now on."""
        ...
