"""Where a worker can crash: after, or just before, a step of a handler has been recorded."""

from typing import Literal

import msgspec

from ..core.protocol import messages
from ..core.protocol.messages import split_frames
from ..proto.generated import service_protocol_pb2 as pb
from ..sdk import replay
from .replay_check import RecordedAttempt, is_command


class CrashAt(msgspec.Struct, frozen=True):
    """A crash that is to happen once.

    Attributes:
        step: number of the step after which it happens, from 1, counted over all invocations.
        what: what crashes and comes back.
        before: what the step was about to record is lost with it.
    """

    step: int
    what: Literal["worker", "node"] = "worker"
    before: bool = False


class CrashPoint(msgspec.Struct, frozen=True):
    """A step that was recorded.

    Attributes:
        handler: ``Service/handler``.
        step: what it did, in words.
    """

    handler: str
    step: str

    def __str__(self) -> str:
        """For messages."""
        return f"{self.step} of {self.handler}"


def crash_point_in(attempt: RecordedAttempt, frames: bytes) -> CrashPoint | None:
    """The step that an attempt is about to have recorded; None when it records nothing.

    What it sends in one turn leaves together or not at all: it is one step, named by its last part.
    Where that begins a closure it does not count: a crash would find the closure half done, which
    is what a crash before its result is for.
    """
    last = ""
    for kind, start, end in split_frames(frames):
        if kind == messages.RUN_COMMAND:
            return None
        if is_command(kind):
            last = replay.describe_command(kind, frames[start:end])
        elif kind == messages.PROPOSE_RUN_COMPLETION:
            proposal = pb.ProposeRunCompletion.FromString(frames[start:end])
            last = f"the result of completion {proposal.result_completion_id}"
    return CrashPoint(attempt.handler.target, last) if last else None
