"""One attempt of one invocation, between the partition that owns it and the worker that runs it."""

from enum import Enum
from typing import Protocol

from ...core.ids import InvocationId
from ..tables.invocations import Invocation
from .attempt_frames import AttemptError


class AttemptHost(Protocol):
    """The worker session that an attempt runs on, as its owner sees it."""

    def notify(self, attempt: "Attempt", record_time_ns: int, frames: bytes) -> None:
        """Send notifications to the attempt."""
        ...

    def close_stream(self, attempt: "Attempt", *, abort: bool) -> None:
        """Forget the attempt; `abort` has the worker drop it too."""
        ...


class WorkerLoss(Enum):
    """How an attempt lost its worker: whether this very attempt may have been the cause."""

    ALONE = "alone"
    WITH_OTHERS = "with others"


class AttemptOwner(Protocol):
    """The partition, as the invoker sees it."""

    def start_segments(self, attempt: "Attempt") -> list[tuple[int, bytes]]:
        """What opens the attempt on a worker: (record time in ns, frames), in order."""
        ...

    def propose_chunk(
        self, attempt: "Attempt", deployment: str, frames: bytes, *, ended: bool
    ) -> None:
        """The worker sent frames, END last when `ended`; they count once they are in the log."""
        ...

    def propose_failure(
        self, attempt: "Attempt", error: AttemptError, *, lost: WorkerLoss | None
    ) -> None:
        """The attempt ended without an answer; `lost` when that is because the worker went."""
        ...


class Attempt:
    """An attempt that is open on a worker or waits for one.

    Attributes:
        session: where it runs; None while no worker can take it.
        stream: its name on that session.
        over: nothing that still arrives for it counts.
    """

    __slots__ = ("attempt", "invocation", "invocation_id", "over", "owner", "session", "stream")

    def __init__(
        self, owner: AttemptOwner, invocation_id: InvocationId, invocation: Invocation
    ) -> None:
        """The invocation's current attempt."""
        self.owner = owner
        self.invocation_id = invocation_id
        self.invocation = invocation
        self.attempt = invocation.attempt
        self.session: AttemptHost | None = None
        self.stream = 0
        self.over = False
