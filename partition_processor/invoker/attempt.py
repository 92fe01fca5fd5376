"""One attempt of one invocation, between the partition that owns it and the worker that runs it."""

from enum import Enum
from typing import Protocol

from ...core.ids import InvocationId
from ...log.answers import Answer, NotChangedSince
from ..handling import Handling
from ..records import attempt_key
from ..tables.invocations import Invocation
from .attempt_frames import AttemptError


class AttemptHost(Protocol):
    """The worker session that an attempt runs on, as its owner sees it."""

    def notify(self, attempt: "Attempt", record_time_ns: int, frames: bytes) -> None:
        """Send notifications to the attempt."""
        ...

    def ask_to_stop(self, attempt: "Attempt") -> None:
        """The attempt is over and the worker may not know: have it stop."""
        ...

    def ask_to_suspend(self, attempt: "Attempt") -> None:
        """Have the attempt suspended as soon as it waits and runs no step."""
        ...

    def supersede(self, attempt: "Attempt") -> None:
        """The log has refused what the attempt wrote: tell the worker and forget the attempt."""
        ...


class WorkerLoss(Enum):
    """How an attempt lost its worker: whether this very attempt may have been the cause."""

    ALONE = "alone"
    WITH_OTHERS = "with others"


class AttemptOwner(Protocol):
    """The partition, as the invoker sees it."""

    @property
    def listening(self) -> bool:
        """Whether what workers send gets into the log now, so that they can be answered."""
        ...

    def start_segments(self, attempt: "Attempt") -> list[tuple[int, bytes]]:
        """What opens the attempt on a worker: (record time in ns, frames), in order."""
        ...

    def propose_chunk(
        self, attempt: "Attempt", deployment: str, frames: bytes, *, ended: bool, calls: bool
    ) -> None:
        """The worker sent frames, with END or SUSPENSION last when `ended`.

        They count once they are in the log. `calls` says that calls are among them.
        """
        ...

    def propose_failure(
        self, attempt: "Attempt", error: AttemptError, *, lost: WorkerLoss | None
    ) -> None:
        """The attempt ended without an answer; `lost` when that is because the worker went."""
        ...

    def attempt_refused(self, attempt: "Attempt", answer: Answer) -> None:
        """The log has refused what was proposed for the attempt."""
        ...


class Attempt:
    """An attempt that is open on a worker or waits for one.

    It guards what it proposes by its invocation's attempt key: only records that give or take the
    attempt write that key, so the log itself refuses what comes from an attempt that is over.

    Attributes:
        session: where it runs; None while no worker can take it.
        stream: its name on that session.
        over: it was given up here; the log decides about what still arrives from the worker.
        heard: the tick of the invoker when something last went either way.
        entries: length of the journal that its worker has been sent.
        runs: steps that its worker has begun and not been told the completion of.
        suspending: the tick at which its worker was asked to suspend it, -1 before.
        handling: how its handler is handled.
    """

    __slots__ = (
        "_key",
        "_snapshot_lsn",
        "attempt",
        "entries",
        "handling",
        "heard",
        "invocation",
        "invocation_id",
        "over",
        "owner",
        "runs",
        "session",
        "stream",
        "suspending",
    )

    def __init__(
        self,
        owner: AttemptOwner,
        invocation_id: InvocationId,
        invocation: Invocation,
        handling: Handling,
    ) -> None:
        """The invocation's current attempt."""
        self.owner = owner
        self.handling = handling
        self.invocation_id = invocation_id
        self.invocation = invocation
        self.attempt = invocation.attempt
        self.session: AttemptHost | None = None
        self.stream = 0
        self.over = False
        self.heard = 0
        self.entries = 0
        self.runs = 0
        self.suspending = -1
        self._key = attempt_key(invocation_id)
        self._snapshot_lsn: int | None = None

    def freeze(self, before_lsn: int) -> None:
        """The record at `before_lsn` took the attempt away: what it knows ends before that."""
        self.over = True
        if self._snapshot_lsn is None:
            self._snapshot_lsn = before_lsn - 1

    @property
    def frozen(self) -> bool:
        """Whether the log has taken the attempt away."""
        return self._snapshot_lsn is not None

    @property
    def key(self) -> bytes:
        """The record key of whatever gives or takes an attempt of this invocation."""
        return self._key

    # As the guard of its proposals ---------------------------------------------------------------

    def condition(self, applied_lsn: int) -> NotChangedSince:
        """The attempt has not changed since the last LSN at which it was known to be current."""
        frozen = self._snapshot_lsn
        return NotChangedSince(self._key, applied_lsn if frozen is None else frozen)

    def refused(self, answer: Answer) -> None:
        """The log says that this attempt is not current."""
        self.owner.attempt_refused(self, answer)
