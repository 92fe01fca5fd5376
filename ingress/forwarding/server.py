"""The answering end: requests and messages that other nodes have for partitions led here.

Nothing that comes in is passed on: a partition that this node does not lead is refused, with a hint
of who does. What a request asks for is done by the partition's processor and by nobody else, so its
checks, its log and its one order are those of this node's own clients.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...core.errors import MalformedMessageError, PerdureError, TransportError
from ...core.ids import PartitionKey, partition_key_of, partition_of
from ...core.net.peers import until_its_end
from ...core.net.transport import Connection
from ...core.pauses import pause
from ...core.protocol.messages import INPUT_COMMAND, split_frames
from ...partition_processor import effects as effect
from ...partition_processor import outcomes
from ...partition_processor.clients import InvokeOutcome
from ...partition_processor.manager import PartitionManager
from ...partition_processor.operations import decode_operation, partition_key_bytes
from ...partition_processor.partition import PeerOverloadedError
from ...partition_processor.processor import NotLeadingError, PartitionProcessor
from ...partition_processor.records import (
    COMMAND_TYPES,
    DELIVERED_KINDS,
    Deliver,
    Once,
    PatchState,
    Restart,
)
from ..errors import too_many_active, too_many_in_flight
from . import frames
from .errors import is_move
from .leaders import LeaderLookup

QUEUED_BYTES_MAX: Final = 16 * 1024 * 1024
"""With so many answers unsent, nothing more is read."""
_ROOM_SECONDS: Final = 0.01
_OPERATION_ID_BYTES: Final = 16
_REQUEST_ID_BYTES: Final = 8
_PARTITION_KEY_BYTES: Final = 8

_DECODE_DELIVERED: Final[dict[int, Callable[[bytes], Any]]] = {
    kind: msgspec.msgpack.Decoder(COMMAND_TYPES[kind]).decode for kind in sorted(DELIVERED_KINDS)
}


class ForwardingServer:
    """Serves the connections that other nodes make."""

    def __init__(
        self,
        manager: PartitionManager,
        leaders: LeaderLookup,
        *,
        cluster: str,
        loop: AbstractEventLoop,
        in_flight_max_per_peer: int,
        in_flight_max_per_partition: int,
        active_max_per_partition: int,
    ) -> None:
        """Take the partitions, who else may lead them, and the limits."""
        self.manager = manager
        self.leaders = leaders
        self.cluster = cluster
        self.loop = loop
        self.in_flight_max_per_peer = in_flight_max_per_peer
        self.in_flight_max_per_partition = in_flight_max_per_partition
        self.active_max_per_partition = active_max_per_partition
        self.closed = False

    async def serve(self, connection: Connection) -> None:
        """Serve one connection until its end. When cancelled, its requests are forgotten."""
        session = _Session(self, connection)
        try:
            with until_its_end(frames.FORWARDING_SERVICE, connection.peer):
                while (message := await connection.receive()) is not None:
                    session.received(message)
                    while connection.queued_bytes > QUEUED_BYTES_MAX:
                        await pause(self.loop, _ROOM_SECONDS)
        finally:
            session.close()

    def close(self) -> None:
        """Refuse everything from here on."""
        self.closed = True


class _Waiting(msgspec.Struct, gc=False):
    """A request that is not answered yet; `forget` ends the wait."""

    forget: Callable[[], None]


class _Session:
    """One connection."""

    def __init__(self, server: ForwardingServer, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._known = False
        self._closed = False
        self._waiting: dict[int, _Waiting] = {}
        self._out: list[bytes] = []

    # In ------------------------------------------------------------------------------------------

    def received(self, message: bytes) -> None:
        """Do what a message asks for. Raises MalformedMessageError and TransportError."""
        for frame in frames.decode_asked(message):
            if not self._known:
                self._greet(frame)
            elif isinstance(frame, frames.Submit):
                self._submit(frame)
            elif isinstance(frame, frames.Attach | frames.Look):
                self._look(frame)
            elif isinstance(frame, frames.Operate):
                self._operate(frame)
            elif isinstance(frame, frames.Forget):
                waiting = self._waiting.pop(frame.number, None)
                if waiting is not None:
                    waiting.forget()
            elif isinstance(frame, frames.Carry):
                self._carry(frame)
            elif isinstance(frame, frames.Taken):
                self._taken(frame)
            else:
                raise MalformedMessageError("a node says hello twice")

    def _greet(self, frame: frames.Asked) -> None:
        if not isinstance(frame, frames.Hello):
            raise MalformedMessageError("a connection does not begin with a hello")
        count = len(self._server.manager.processors)
        wanted = (frames.VERSION, self._server.cluster, count)
        if (frame.version, frame.cluster, frame.partition_count) != wanted:
            reason = (
                f"version, cluster and partition count are {wanted} here, not "
                f"{(frame.version, frame.cluster[:64], frame.partition_count)}"
            )
            stranger = frames.encode_frame(frames.Stranger(reason))
            self._connection.send(frames.messages([stranger])[0])
            raise MalformedMessageError(f"node {frame.node[:64]!r} is a stranger: {reason}")
        self._known = True

    def _processor(self, partition_key: bytes) -> PartitionProcessor:
        key = PartitionKey(int.from_bytes(partition_key, "big"))
        processors = self._server.manager.processors
        return processors[partition_of(key, len(processors))]

    def _admit(self, number: int, processor: PartitionProcessor) -> None:
        """Raises what a request is refused with, MalformedMessageError for a broken rule."""
        server = self._server
        if number in self._waiting:
            raise MalformedMessageError(f"request {number} is asked twice")
        if server.closed or not processor.leading:
            role = "ending" if server.closed else processor.role
            raise NotLeadingError(f"partition {processor.partition} is {role} on the node asked")
        if len(self._waiting) >= server.in_flight_max_per_peer:
            raise PeerOverloadedError(
                f"a node has {server.in_flight_max_per_peer} requests unanswered here, its limit "
                "(forwarding.in_flight_max_per_peer): try again shortly"
            )
        if len(processor.clients) >= server.in_flight_max_per_partition:
            raise too_many_in_flight(processor.partition, server.in_flight_max_per_partition)

    def _submit(self, frame: frames.Submit) -> None:
        number, command = frame.number, frame.command
        invocation_id = frames.checked_id(command.invocation_id)
        _check_from_outside(frame)
        processor = self._processor(invocation_id[:_PARTITION_KEY_BYTES])

        def reply(outcome: InvokeOutcome) -> None:
            self._invoked(number, processor, outcome)

        try:
            self._admit(number, processor)
            if processor.active >= self._server.active_max_per_partition:
                raise too_many_active(processor.partition, self._server.active_max_per_partition)
            self._wait_for(number, lambda: processor.clients.forget(invocation_id, reply))
            processor.invoke(command, frame.traceparent, reply, wait=frame.wait)
        except MalformedMessageError:
            raise
        except PerdureError as error:
            self._refuse(number, processor, error, open_=False)

    def _look(self, frame: frames.Attach | frames.Look) -> None:
        number = frame.number
        invocation_id = frames.checked_id(frame.invocation_id)
        processor = self._processor(invocation_id[:_PARTITION_KEY_BYTES])

        def reply(outcome: InvokeOutcome) -> None:
            self._invoked(number, processor, outcome)

        try:
            self._admit(number, processor)
            self._wait_for(number, lambda: processor.clients.forget(invocation_id, reply))
            if isinstance(frame, frames.Attach):
                processor.attach(invocation_id, reply)
            else:
                processor.output(invocation_id, reply)
        except MalformedMessageError:
            raise
        except PerdureError as error:
            self._refuse(number, processor, error, open_=False)

    def _operate(self, frame: frames.Operate) -> None:
        number = frame.number
        once = Once(frame.operation_id, frame.kind, frame.body)
        processor = self._processor(_checked_operation(once))
        clients = processor.clients

        def reply(outcome: str | PerdureError) -> None:
            self._operated(number, processor, outcome, wait_turn=frame.wait_turn)

        def on_turn(outcome: str | PerdureError) -> None:
            if self._waiting.pop(number, None) is not None and isinstance(outcome, str):
                self._send(frames.encode_frame(frames.Turn(number, outcome)))

        def forget() -> None:
            if frame.wait_turn:
                clients.forget_turn(reply, on_turn)

        try:
            self._admit(number, processor)
            self._wait_for(number, forget)
            if frame.wait_turn:
                clients.await_turn(reply, on_turn)
            processor.operate(once, reply)
        except MalformedMessageError:
            raise
        except PerdureError as error:
            forget()
            self._refuse(number, processor, error, open_=False)

    def _wait_for(self, number: int, forget: Callable[[], None]) -> None:
        self._waiting[number] = _Waiting(forget)

    # Messages between partitions -----------------------------------------------------------------

    def _carry(self, frame: frames.Carry) -> None:
        manager = self._server.manager
        count = len(manager.processors)
        if not (
            0 <= frame.destination < count
            and 0 <= frame.source < count
            and frame.first > 0 < len(frame.messages)
        ):
            raise MalformedMessageError("messages are from or for a partition that does not exist")
        for kind, body in frame.messages:
            decode = _DECODE_DELIVERED.get(kind)
            if decode is None:
                raise MalformedMessageError(f"a message is of kind {kind}, which none may be")
            try:
                target = decode(body).invocation_id
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise MalformedMessageError(f"a message makes no sense: {error}") from None
            key = partition_key_of(frames.checked_id(target))
            if partition_of(key, count) != frame.destination:
                raise MalformedMessageError("a message is for another partition than it says")
        deliver = Deliver(frame.source, frame.first, frame.messages)
        processor = manager.processors[frame.destination]
        if self._server.closed or not processor.leading or not processor.propose_now(deliver):
            self._send(frames.encode_frame(frames.NotTaken(frame.destination)))

    def _taken(self, frame: frames.Taken) -> None:
        manager = self._server.manager
        count = len(manager.processors)
        if not (0 <= frame.destination < count and 0 <= frame.source < count):
            raise MalformedMessageError("messages are from or for a partition that does not exist")
        source = manager.processors[frame.source]
        if source.leading:
            source.drivers.shipments.taken(frame.destination, frame.last, frame.gap)

    # Out -----------------------------------------------------------------------------------------

    def _invoked(self, number: int, processor: PartitionProcessor, outcome: InvokeOutcome) -> None:
        if self._waiting.pop(number, None) is None:
            return
        if isinstance(outcome, PerdureError):
            self._refuse(number, processor, outcome, open_=True)
        elif isinstance(outcome, effect.Answer):
            self._send(frames.encode_frame(frames.result_of(number, outcome)))
        else:
            known = outcome.known
            start_ns = 0 if known is None else known.start_ns
            self._send(frames.encode_frame(frames.Accepted(number, known is None, start_ns)))

    def _operated(
        self,
        number: int,
        processor: PartitionProcessor,
        outcome: str | PerdureError,
        *,
        wait_turn: bool,
    ) -> None:
        if number not in self._waiting:
            return
        if not (wait_turn and outcome == outcomes.QUEUED):
            del self._waiting[number]
        if isinstance(outcome, PerdureError):
            self._refuse(number, processor, outcome, open_=True)
        else:
            self._send(frames.encode_frame(frames.Done(number, outcome)))

    def _refuse(
        self, number: int, processor: PartitionProcessor, error: PerdureError, *, open_: bool
    ) -> None:
        self._waiting.pop(number, None)
        moved = is_move(error)
        leader = self._server.leaders.leader(processor.partition) if moved else None
        self._send(
            frames.encode_frame(
                frames.Refused(
                    number, error.code, error.message, error.retryable, moved, open_, leader or ""
                )
            )
        )

    def _send(self, frame: bytes) -> None:
        if self._closed:
            return
        if not self._out:
            self._server.loop.call_soon(self._flush)
        self._out.append(frame)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._closed:
            return
        try:
            for message in frames.messages(out):
                self._connection.send(message)
        except TransportError:
            pass  # Its end is about to be received.

    def close(self) -> None:
        """The connection is gone: want no answers any more. What was begun goes on."""
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for item in waiting.values():
            item.forget()


def _check_from_outside(frame: frames.Submit) -> None:
    """Refuse an Invoke that no front door makes. Raises MalformedMessageError."""
    command = frame.command
    request_id = command.request_id
    if (
        command.sink is not None
        or command.parent is not None
        or command.held
        or command.traceparent is not None
        or request_id is None
        or len(request_id) != _REQUEST_ID_BYTES
    ):
        raise MalformedMessageError(f"request {frame.number} is none that a front door makes")
    kinds = [kind for kind, _, _ in split_frames(command.input_frames)]
    if kinds != [INPUT_COMMAND]:
        # It would be handed to a worker as it is.
        raise MalformedMessageError(f"request {frame.number} does not begin with one input")


def _checked_operation(once: Once) -> bytes:
    """The partition key of an operation. Raises MalformedMessageError."""
    if len(once.operation_id) != _OPERATION_ID_BYTES:
        raise MalformedMessageError("an operation has an id of another length than 16 bytes")
    try:
        operation = decode_operation(once.kind, once.body)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessageError(f"an operation makes no sense: {error!r}") from None
    partition_key = partition_key_bytes(operation)
    if isinstance(operation, PatchState):
        if len(partition_key) != _PARTITION_KEY_BYTES:
            raise MalformedMessageError("an object has a partition key of another length than 8")
        return partition_key
    frames.checked_id(operation.invocation_id)
    made = operation.new_id if isinstance(operation, Restart) else operation.invocation_id
    # What it makes must be in the partition that makes it.
    if frames.checked_id(made)[:_PARTITION_KEY_BYTES] != partition_key:
        raise MalformedMessageError("an invocation would be restarted in another partition")
    return partition_key
