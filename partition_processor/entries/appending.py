"""One chunk of an attempt on its way into the journal, and what its entries work with."""

from typing import Final

import msgspec

from ...core.errors import PerdureError
from ...core.ids import InvocationId
from .. import notification_frames
from ..context import ApplyContext
from ..records import CallTarget
from ..tables import id_sets, keys
from ..tables.invocations import Failure, Invocation, Sink


class ProtocolViolationError(PerdureError):
    """An attempt sent frames that the protocol or its target does not allow.

    Attributes:
        failure_code: code of the failed attempt, 571.
    """

    code = "PD0901"
    failure_code: Final = 571


class Appending:
    """The frames of one chunk, in order, joined by the completions that are known at once.

    Attributes:
        invocation: as it will be once the chunk is stored, its result left out.
        output: the handler's value.
        failure: instead of `output`.
        entries: how many frames the journal gets.
        calls: what the appender found out about the chunk's calls, those not used yet.
    """

    __slots__ = (
        "_copied_to",
        "_frames",
        "_notifications",
        "_parts",
        "calls",
        "context",
        "entries",
        "failure",
        "invocation",
        "invocation_id",
        "output",
    )

    def __init__(
        self,
        context: ApplyContext,
        invocation_id: InvocationId,
        invocation: Invocation,
        frames: bytes,
        calls: tuple[CallTarget, ...],
    ) -> None:
        """Begin before the first frame."""
        self.context = context
        self.invocation_id = invocation_id
        self.invocation = invocation
        self.output = invocation.output
        self.failure = invocation.failure
        self.entries = 0
        self.calls = list(reversed(calls))
        self._frames = frames
        self._parts: list[bytes] = []
        self._copied_to = 0
        self._notifications: list[bytes] = []

    @property
    def object_name(self) -> bytes:
        """The invocation's object or workflow, as keys name it."""
        invocation = self.invocation
        assert invocation.key is not None
        return keys.object_suffix(invocation.service, invocation.key)

    @property
    def partition_key(self) -> bytes:
        """The invocation's, 8 bytes."""
        return self.invocation_id[:8]

    def sink(self, completion_id: int, frame_type: int) -> Sink:
        """Where a completion is to go that comes from another invocation."""
        return Sink(self.invocation_id, completion_id, frame_type, self.invocation.born_lsn)

    def issue(self, completion_id: int) -> None:
        """A completion will come from somewhere else."""
        invocation = self.invocation
        self.invocation = msgspec.structs.replace(
            invocation, issued=id_sets.with_number(invocation.issued, completion_id)
        )

    def notified(self, completion_id: int) -> None:
        """A completion has come with the chunk itself."""
        invocation = self.invocation
        self.invocation = msgspec.structs.replace(
            invocation, notified=id_sets.with_number(invocation.notified, completion_id)
        )

    def notify(self, start: int, end: int) -> None:
        """The frames from `start` to `end` of the chunk are a notification, for the attempt too."""
        self._notifications.append(self._frames[start:end])

    def complete(
        self,
        end: int,
        frame_type: int,
        completion_id: int,
        value: bytes | None = None,
        failure: Failure | None = None,
    ) -> None:
        """The command that ends at byte `end` of the chunk has its completion at once."""
        result = notification_frames.result_of(value, failure)
        self.complete_with(end, frame_type, completion_id, result)

    def complete_with(self, end: int, frame_type: int, completion_id: int, result: bytes) -> None:
        """As `complete`, with the result part of a notification."""
        frame = notification_frames.completion(frame_type, completion_id, result)
        self._parts += (self._frames[self._copied_to : end], frame)
        self._copied_to = end
        self._notifications.append(frame)
        self.entries += 1
        self.notified(completion_id)

    def stored(self, end: int) -> bytes:
        """The frames for the journal, those of the chunk up to byte `end`."""
        rest = self._frames[self._copied_to : end]
        return b"".join((*self._parts, rest)) if self._parts else rest

    @property
    def notifications(self) -> bytes:
        """What the attempt is to be told, in order."""
        return b"".join(self._notifications)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame of a chunk, read: what its entry's `read` gave, and where it ends."""

    message_type: int
    start: int
    end: int
    message: object
