"""From a front door to the partition that owns the invocation, and back with the answer."""

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import msgspec

from ..core.clock import Clock
from ..core.errors import PerdureError, StorageError
from ..core.hashing import keyed_partition_key
from ..core.ids import (
    InvocationId,
    PartitionKey,
    invocation_id_text,
    minted_ns,
    partition_key_of,
)
from ..core.protocol import messages
from ..core.random import Random
from ..log.errors import LogClosedError, RecordTooLargeError
from ..partition_processor.clients import Clients, InvokeOutcome, InvokeReply
from ..partition_processor.deployments import Target, Targets
from ..partition_processor.effects import Accepted as AcceptedEffect
from ..partition_processor.effects import Answer
from ..partition_processor.minting import Minter
from ..partition_processor.processor import NotLeadingError, PartitionProcessor
from ..partition_processor.records import KIND_SERVICE, KIND_WORKFLOW_RUN, Invoke
from ..partition_processor.tables.invocations import Invocation
from ..proto.generated import service_protocol_pb2 as wire
from .errors import (
    BadRequestError,
    BodyTooLargeError,
    KeyMissingError,
    KeyNotWantedError,
    NotLeaderError,
    OverloadedError,
    UnknownHandlerError,
    UnknownServiceError,
)


class InvocationRequest(msgspec.Struct, frozen=True, gc=False):
    """What a client asked for, free of the protocol it asked in.

    Attributes:
        key: the virtual object's key, None where the path had none.
        headers: handed to the handler, in order.
        invocation_id: fixed by a client that retries; None mints or derives one here.
    """

    service: str
    handler: str
    key: str | None
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    idempotency_key: str | None = None
    invocation_id: InvocationId | None = None
    traceparent: str | None = None


class InvocationFailure(msgspec.Struct, frozen=True, gc=False):
    """A terminal failure of a handler."""

    code: int
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The invocation has ended; `value` is the raw output unless `failure` is set."""

    invocation_id: InvocationId
    value: bytes
    failure: InvocationFailure | None = None


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The invocation is durable; `new` is False when its id was known before."""

    invocation_id: InvocationId
    new: bool


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The runtime could not take or finish the request; the error says whether to retry."""

    invocation_id: InvocationId
    error: PerdureError


CallReply: TypeAlias = Completed | Rejected
SendReply: TypeAlias = Accepted | Rejected


class PartitionGateway(Protocol):
    """The partitions, as the dispatcher sees them; `PartitionManager` is one."""

    @property
    def targets(self) -> Targets:
        """What can be called now."""
        ...

    def processor_for(self, partition_key: PartitionKey) -> PartitionProcessor:
        """The processor of the partition that a key belongs to."""
        ...


class Dispatcher:
    """Resolves the target, fixes the invocation id and hands the request to its partition."""

    def __init__(
        self,
        gateway: PartitionGateway,
        *,
        clock: Clock,
        random: Random,
        body_bytes_max: int,
        in_flight_max_per_partition: int,
        active_max_per_partition: int,
    ) -> None:
        """Serve requests from `gateway`'s partitions within the limits."""
        self._gateway = gateway
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._in_flight_max = in_flight_max_per_partition
        self._active_max = active_max_per_partition
        self._minter = Minter(clock, random)
        self._headers = EncodedHeaders()
        self.closing = False

    def call(
        self, request: InvocationRequest, on_reply: Callable[[CallReply], None]
    ) -> "PendingReply":
        """Start the invocation and have `on_reply` called once, on the loop, with its result.

        Raises UnknownServiceError, UnknownHandlerError, KeyMissingError, KeyNotWantedError,
        BodyTooLargeError, BadRequestError, OverloadedError or NotLeaderError before anything was
        logged.
        """
        command = self._command(request)
        invocation_id = command.invocation_id

        def reply(outcome: InvokeOutcome) -> None:
            if type(outcome) is Answer:
                on_reply(_completed(outcome.invocation_id, outcome.invocation))
            else:
                assert isinstance(outcome, PerdureError), outcome
                on_reply(Rejected(invocation_id, _refusal(outcome)))

        return self._submit(request, command, reply, wait=True)

    def send(
        self, request: InvocationRequest, on_reply: Callable[[SendReply], None]
    ) -> "PendingReply":
        """Start the invocation and have `on_reply` called once it is durable; raises as `call`."""
        command = self._command(request)
        invocation_id = command.invocation_id

        def reply(outcome: InvokeOutcome) -> None:
            if type(outcome) is AcceptedEffect:
                on_reply(Accepted(outcome.invocation_id, outcome.known is None))
            else:
                assert isinstance(outcome, PerdureError), outcome
                on_reply(Rejected(invocation_id, _refusal(outcome)))

        return self._submit(request, command, reply, wait=False)

    def _submit(
        self, request: InvocationRequest, command: Invoke, reply: InvokeReply, *, wait: bool
    ) -> "PendingReply":
        if self.closing:
            raise NotLeaderError("this node is shutting down: try another one")
        processor = self._gateway.processor_for(partition_key_of(command.invocation_id))
        if len(processor.clients) >= self._in_flight_max:
            raise OverloadedError(
                f"partition {processor.partition} has {self._in_flight_max} requests in flight, "
                "its limit (limits.in_flight_max_per_partition): try again shortly"
            )
        if processor.active >= self._active_max:
            raise OverloadedError(
                f"partition {processor.partition} has {self._active_max} invocations that have not "
                "completed, its limit (limits.active_max_per_partition): try again later, or start "
                "workers"
            )
        try:
            processor.invoke(command, request.traceparent, reply, wait=wait)
        except PerdureError as error:
            raise _refusal(error) from None
        return PendingReply(processor.clients, command.invocation_id, reply)

    def _command(self, request: InvocationRequest) -> Invoke:
        target = self._target(request)
        if len(request.body) > self._body_bytes_max:
            raise BodyTooLargeError(
                f"the body has {len(request.body)} bytes, the limit is {self._body_bytes_max} "
                "(limits.body_bytes_max): pass large data by reference"
            )
        if request.idempotency_key == "":
            raise BadRequestError("the idempotency key is empty: give one, or leave it out")
        invocation_id = request.invocation_id
        minted = invocation_id is not None
        if invocation_id is None:
            invocation_id = self._minter.mint(
                target.target_kind,
                request.service,
                request.key,
                request.handler,
                request.idempotency_key,
            )
        else:
            _check_id(request, invocation_id)
        known_again = request.idempotency_key is not None or target.target_kind == KIND_WORKFLOW_RUN
        completion_ns, journal_ns = target.handling.retentions_ns(known_again=known_again)
        expires_ns = 0
        if not known_again:
            # Whoever retries under this id must find it, or be refused.
            completion_ns = max(completion_ns, RETRY_WINDOW_NS)
            now_ns = self._clock.time_ns()
            started_ns = min(minted_ns(invocation_id), now_ns) if minted else now_ns
            if started_ns > NO_MINTED_ID_BEFORE_NS:
                expires_ns = started_ns + RETRY_WINDOW_NS
        return Invoke(
            invocation_id,
            target.service,
            target.handler,
            request.key,
            target.target_kind,
            input_frame(self._headers.encode(request.headers), request.body),
            request.idempotency_key,
            completion_retention_ns=completion_ns,
            journal_retention_ns=journal_ns,
            expires_ns=expires_ns,
        )

    def _target(self, request: InvocationRequest) -> Target:
        handlers = self._gateway.targets.handlers(request.service)
        if handlers is None:
            raise UnknownServiceError(
                f"service {request.service!r} is not known: start a worker that offers it, or "
                f"check the name; known are {_listed(self._gateway.targets.service_names())}"
            )
        target = handlers.get(request.handler)
        if target is None:
            raise UnknownHandlerError(
                f"service {request.service!r} has no handler {request.handler!r}: it has "
                f"{_listed(sorted(handlers))}"
            )
        if target.target_kind == KIND_SERVICE:
            if request.key is not None:
                raise KeyNotWantedError(
                    f"{request.service!r} is a plain service and takes no key: call "
                    f"{request.service}/{request.handler}"
                )
        elif request.key is None or request.key == "":
            raise KeyMissingError(
                f"{request.service!r} is a virtual object and needs a key: call "
                f"{request.service}/KEY/{request.handler}"
            )
        elif len(request.key.encode()) > KEY_BYTES_MAX:
            raise BadRequestError(f"the key is longer than {KEY_BYTES_MAX} bytes")
        return target

    def service_names(self) -> list[str]:
        """The services that can be called now, sorted."""
        return self._gateway.targets.service_names()


RETRY_WINDOW_NS: Final = 600 * 10**9
"""So long a client may repeat a call under an id that chance made."""
NO_MINTED_ID_BEFORE_NS: Final = 1_577_836_800 * 10**9
"""The start of 2020: an id that tells an earlier time tells none, whoever minted it."""
KEY_BYTES_MAX: Final = 2048
"""The longest key of a virtual object: it is part of every row of the object."""


class PendingReply:
    """A request that waits for its reply."""

    __slots__ = ("_clients", "_reply", "invocation_id")

    def __init__(self, clients: Clients, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """The reply to `invocation_id` that is owed to one of `clients`."""
        self._clients = clients
        self._reply = reply
        self.invocation_id = invocation_id

    def forget(self) -> None:
        """The client is gone: want no reply any more. The invocation itself goes on."""
        self._clients.forget(self.invocation_id, self._reply)


class EncodedHeaders:
    """The headers part of INPUT commands, remembered: clients repeat themselves."""

    ENTRIES_MAX: Final = 1024
    ENTRY_BYTES_MAX: Final = 2048

    def __init__(self) -> None:
        """Start empty."""
        self._known: dict[tuple[tuple[str, str], ...], bytes] = {}

    def encode(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        """An INPUT command with these headers and nothing else, encoded."""
        # The first one is the path when the request came over HTTP: a new one for each key.
        rest = headers[1:]
        encoded = self._known.get(rest)
        if encoded is None:
            encoded = _encode_headers(rest)
            if len(encoded) <= self.ENTRY_BYTES_MAX:
                if len(self._known) >= self.ENTRIES_MAX:
                    self._known.clear()
                self._known[rest] = encoded
        return _encode_headers(headers[:1]) + encoded


def _encode_headers(headers: tuple[tuple[str, str], ...]) -> bytes:
    message = wire.InputCommand()
    for key, value in headers:
        message.headers.add(key=key, value=value)
    return message.SerializeToString()


def input_frame(headers: bytes, body: bytes) -> bytes:
    """The INPUT command as a frame; `headers` are from `EncodedHeaders.encode`.

    Encoded messages of one type may be joined end to end: that is how protobuf merges them.
    """
    value = wire.InputCommand(value=wire.Value(content=body)).SerializeToString()
    return messages.frame(messages.INPUT_COMMAND, headers + value)


def _check_id(request: InvocationRequest, invocation_id: InvocationId) -> None:
    """Refuse an id that would put an object's invocation anywhere but where its object is."""
    if request.idempotency_key is not None:
        raise BadRequestError(
            "an idempotency key decides the invocation id: give one of the two, not both"
        )
    if request.key is not None and partition_key_of(invocation_id) != keyed_partition_key(
        request.key
    ):
        raise BadRequestError(
            f"invocation id {invocation_id_text(invocation_id)} does not belong to key "
            f"{request.key[:64]!r}: its first 8 bytes must be the key's hash"
        )


def _completed(invocation_id: InvocationId, invocation: Invocation) -> Completed:
    failure = invocation.failure
    if failure is None:
        return Completed(invocation_id, invocation.output or b"")
    return Completed(
        invocation_id, b"", InvocationFailure(failure.code, failure.message, failure.metadata)
    )


def _refusal(error: PerdureError) -> PerdureError:
    """An error of the floors below as front doors know it."""
    if isinstance(error, NotLeadingError | LogClosedError | StorageError):
        return NotLeaderError(error.message)
    if isinstance(error, RecordTooLargeError):
        return BodyTooLargeError(error.message)
    return error


def _listed(names: list[str], shown_max: int = 10) -> str:
    """Names for an error text."""
    if not names:
        return "none"
    text = ", ".join(names[:shown_max])
    return text if len(names) <= shown_max else f"{text} and {len(names) - shown_max} more"
