"""The requests of this node's front doors that are not answered yet, one class for each kind.

Each can be begun at this node's own processor or be put into a frame for another node, as often as
need be: it is the same request each time, and counts once.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from ...core.errors import MalformedMessageError, PerdureError
from ...core.ids import InvocationId, PartitionId
from ...partition_processor import effects as effect
from ...partition_processor import outcomes
from ...partition_processor.clients import InvokeReply, OperationReply
from ...partition_processor.partition import OutcomeUnknownError
from ...partition_processor.processor import NotLeadingError, PartitionProcessor
from ...partition_processor.records import Invoke, Once
from ...partition_processor.tables.invocations import Invocation
from . import frames
from .errors import is_move

EXPIRED: Final = (
    "the operation was sent to a leader that was lost, and reached the next one too late to tell "
    "whether it was done (or the clocks of the nodes are minutes apart): look, then ask again"
)


class Place(Protocol):
    """The partition that a request is for, wherever it is led."""

    partition: PartitionId

    @property
    def closed(self) -> bool:
        """Whether this node is ending, so that nothing is tried again."""
        ...

    def again(self, pending: "Pending", *, lost: bool) -> None:
        """A try of the request ended without an answer; `lost` when it may have been applied."""
        ...

    def drop(self, pending: "Pending") -> None:
        """The request is over."""
        ...

    def left(self) -> None:
        """A request is not under way on a link any more."""
        ...

    def refused(self, node: str, hint: str) -> None:
        """A node that was asked does not lead, and may know who does."""
        ...


class Way(Protocol):
    """The connection to another node that a request is under way on.

    Attributes:
        node: the node at the other end.
        in_flight: the requests that it has not answered, by their numbers.
    """

    node: str
    in_flight: dict[int, "Pending"]

    def forget(self, pending: "Pending") -> None:
        """Nobody waits for the answer any more, or it is to come from elsewhere."""
        ...


class Pending:
    """A request from its arrival until its answer.

    Attributes:
        place: its partition.
        number: of the request among those of this node, in the order of arrival.
        reply: told once what became of it.
        here: what this node's processor replies to; one object, as it is compared.
        link: the connection that it is under way on, None while it is not.
        open: a try of it was lost, so it may have been applied.
        deadline: loop time at which it is given up while it waits for a leader; None if never yet.
        held_bytes: of the body that is kept for the case that it has to be tried again.
        repeat_seconds: how long after a lost try it may be tried again.
    """

    __slots__ = (
        "deadline",
        "held_bytes",
        "here",
        "link",
        "number",
        "open",
        "place",
        "repeat_seconds",
        "reply",
    )

    def __init__(
        self, place: Place, number: int, reply: Callable[[Any], None], repeat: float
    ) -> None:
        """A new one for a partition; may be repeated for `repeat` seconds after a lost try."""
        self.place = place
        self.number = number
        self.held_bytes = 0
        self.reply = reply
        self.here = self._here
        self.link: Way | None = None
        self.open = False
        self.deadline: float | None = None
        self.repeat_seconds = repeat

    def begin(self, processor: PartitionProcessor) -> None:
        """Try it here. Raises what the processor raises, and then nothing has happened."""
        raise NotImplementedError

    def frame(self) -> bytes:
        """What another node is asked."""
        raise NotImplementedError

    def answered(self, answer: frames.Answered) -> None:
        """Another node has answered. Raises MalformedMessageError for what is no answer to it."""
        raise NotImplementedError

    def withdraw(self, processor: PartitionProcessor) -> None:
        """Nobody waits for it any more, and it was begun here."""

    def _here(self, outcome: Any) -> None:
        moved = isinstance(outcome, PerdureError) and is_move(outcome)
        if moved and not self.place.closed:
            self.place.again(self, lost=True)
        else:
            self.finish(outcome)

    def finish(self, outcome: Any) -> None:
        """Tell whoever asked."""
        self.place.drop(self)
        self.reply(outcome)

    def lost(self) -> PerdureError:
        """What is told when the time is up and no leader was found."""
        partition = self.place.partition
        if self.open and not self.repeat_seconds:
            return NotLeadingError(
                f"the leader of partition {partition} was lost after it may have taken the "
                "request, whose result is kept too shortly to ask for it again safely"
            )
        repeat = ", under the same invocation id or idempotency key" if self.open else ""
        return NotLeadingError(
            f"partition {partition} had no leader that could be reached for too long: try again "
            f"later{repeat}"
        )

    def _no_answer(self, answer: frames.Answered) -> MalformedMessageError:
        return MalformedMessageError(
            f"{type(answer).__name__} is no answer to request {self.number}"
        )


class PendingInvoke(Pending):
    """An invocation to be made."""

    __slots__ = ("_command", "_traceparent", "_wait")

    def __init__(
        self,
        place: Place,
        number: int,
        reply: InvokeReply,
        repeat: float,
        command: Invoke,
        traceparent: str | None,
        wait: bool,
    ) -> None:
        """See `Partition.invoke`."""
        super().__init__(place, number, reply, repeat)
        self._command = command
        self.held_bytes = len(command.input_frames)
        self._traceparent = traceparent
        self._wait = wait

    def begin(self, processor: PartitionProcessor) -> None:
        """Try it here."""
        processor.invoke(self._command, self._traceparent, self.here, wait=self._wait)

    def frame(self) -> bytes:
        """What another node is asked."""
        return frames.encode_frame(
            frames.Submit(self.number, self._wait, self._traceparent, self._command)
        )

    def withdraw(self, processor: PartitionProcessor) -> None:
        """Nobody waits for it any more, and it was begun here."""
        processor.clients.forget(self._command.invocation_id, self.here)

    def answered(self, answer: frames.Answered) -> None:
        """Another node has answered."""
        invocation_id = self._command.invocation_id
        if type(answer) is frames.Result and self._wait:
            self.finish(frames.answer_of(invocation_id, answer))
        elif type(answer) is frames.Accepted and not self._wait:
            known = None if answer.new else _known(answer.start_ns)
            self.finish(effect.Accepted(0, 0, invocation_id, known))
        else:
            raise self._no_answer(answer)


def _known(start_ns: int) -> Invocation:
    """An invocation of which nothing is told but when it starts."""
    return Invocation(0, "", "", None, 0, 0, 0, 0, (), start_ns=start_ns)


class PendingLook(Pending):
    """An invocation that somebody wants the result of, now or once it has one."""

    __slots__ = ("_invocation_id", "_wait")

    def __init__(
        self,
        place: Place,
        number: int,
        reply: InvokeReply,
        repeat: float,
        invocation_id: InvocationId,
        wait: bool,
    ) -> None:
        """See `Partition.attach`, and `Partition.output` where not to `wait`."""
        super().__init__(place, number, reply, repeat)
        self._invocation_id = invocation_id
        self._wait = wait

    def begin(self, processor: PartitionProcessor) -> None:
        """Try it here."""
        (processor.attach if self._wait else processor.output)(self._invocation_id, self.here)

    def frame(self) -> bytes:
        """What another node is asked."""
        kind = frames.Attach if self._wait else frames.Look
        return frames.encode_frame(kind(self.number, self._invocation_id))

    def withdraw(self, processor: PartitionProcessor) -> None:
        """Nobody waits for it any more, and it was begun here."""
        processor.clients.forget(self._invocation_id, self.here)

    def answered(self, answer: frames.Answered) -> None:
        """Another node has answered."""
        if type(answer) is not frames.Result:
            raise self._no_answer(answer)
        self.finish(frames.answer_of(self._invocation_id, answer))


class PendingOperation(Pending):
    """An operation to be applied.

    Attributes:
        on_turn: told what became of it where it is queued, None when nobody wants to know.
        queued: it was answered, and waits for its turn.
    """

    __slots__ = ("_here_turn", "_once", "on_turn", "queued")

    def __init__(
        self,
        place: Place,
        number: int,
        reply: OperationReply,
        repeat: float,
        once: Once,
        on_turn: OperationReply | None,
    ) -> None:
        """See `Partition.operate`."""
        super().__init__(place, number, reply, repeat)
        self._once = once
        self._here_turn = self._turn
        self.on_turn = on_turn
        self.queued = False

    def begin(self, processor: PartitionProcessor) -> None:
        """Try it here."""
        clients = processor.clients
        if self.on_turn is not None:
            clients.await_turn(self.here, self._here_turn)
        try:
            processor.operate(self._once, self.here)
        except PerdureError:
            clients.forget_turn(self.here, self._here_turn)
            raise

    def frame(self) -> bytes:
        """What another node is asked."""
        once = self._once
        return frames.encode_frame(
            frames.Operate(
                self.number, once.operation_id, once.kind, once.body, self.on_turn is not None
            )
        )

    def withdraw(self, processor: PartitionProcessor) -> None:
        """Nobody waits for its turn any more."""
        processor.clients.forget_turn(self.here, self._here_turn)

    def answered(self, answer: frames.Answered) -> None:
        """Another node has answered."""
        if type(answer) is frames.Done and not self.queued:
            self.finish(answer.outcome)
        elif type(answer) is frames.Turn and self.queued:
            self._turn(answer.outcome)
        else:
            raise self._no_answer(answer)

    def finish(self, outcome: Any) -> None:
        """Tell whoever asked."""
        if self.queued:
            # The leader was lost under the change that waits: nobody tells of its turn any more.
            self.place.drop(self)
            return
        if outcome == outcomes.EXPIRED:
            outcome = OutcomeUnknownError(EXPIRED)
        if outcome == outcomes.QUEUED and self.on_turn is not None:
            self.queued = True
        else:
            self.place.drop(self)
        self.reply(outcome)

    def _turn(self, outcome: str | PerdureError) -> None:
        self.place.drop(self)
        if self.on_turn is not None:
            self.on_turn(outcome)

    def lost(self) -> PerdureError:
        """What is told when the time is up and no leader was found."""
        if not self.open:
            return super().lost()
        return OutcomeUnknownError(
            f"the operation was sent to the leader of partition {self.place.partition}, which was "
            "lost, and no other could be reached for too long: look whether it was done"
        )
