"""From a front door to the partition that owns the invocation, and back with the answer."""

from collections.abc import Callable
from typing import Final, Protocol

from ..core.clock import Clock
from ..core.errors import PerdureError, StorageError
from ..core.hashing import keyed_partition_key
from ..core.ids import (
    InvocationId,
    MalformedIdError,
    PartitionKey,
    invocation_id_text,
    minted_ns,
    parse_awakeable_id,
    partition_key_of,
)
from ..core.protocol.messages import SIGNAL_FIRST_AWAKEABLE
from ..core.random import Random
from ..log.errors import LogClosedError, RecordTooLargeError
from ..partition_processor import outcomes
from ..partition_processor.clients import InvokeOutcome, InvokeReply
from ..partition_processor.deployments import Target, Targets
from ..partition_processor.effects import Accepted as AcceptedEffect
from ..partition_processor.effects import Answer
from ..partition_processor.minting import Minter
from ..partition_processor.operations import cancel
from ..partition_processor.partition import Partition, PeerOverloadedError
from ..partition_processor.processor import InvocationNotFoundError, NotLeadingError
from ..partition_processor.records import KIND_SERVICE, KIND_WORKFLOW_RUN, Invoke, Signal
from ..partition_processor.tables.invocations import STATUS_COMPLETED, Failure, Invocation
from .errors import (
    BadRequestError,
    BodyTooLargeError,
    NotCompletedError,
    NotLeaderError,
    OverloadedError,
    too_many_active,
    too_many_in_flight,
)
from .input_frames import EncodedHeaders, input_frame
from .references import referred_id
from .requests import (
    Accepted,
    Acknowledged,
    CallReply,
    Completed,
    InvocationFailure,
    InvocationRequest,
    OperationReply,
    PendingReply,
    Reference,
    Rejected,
    SendReply,
)
from .targeting import find_handlers, find_target

RETRY_WINDOW_NS: Final = 600 * 10**9
"""So long a client may repeat a call under an id that chance made."""
NO_MINTED_ID_BEFORE_NS: Final = 1_577_836_800 * 10**9
"""The start of 2020: an id that tells an earlier time tells none, whoever minted it."""
DELAY_NS_MAX: Final = 100 * 365 * 24 * 3600 * 10**9
"""Nothing is started later than this: due times have 64 bits."""
SIGNAL_NAME_BYTES_MAX: Final = 2048
"""The longest name of a signal: it stays in the invocation's row."""


class PartitionGateway(Protocol):
    """The partitions, as the dispatcher sees them; `PartitionManager` is one."""

    @property
    def targets(self) -> Targets:
        """What can be called now."""
        ...

    def partition_for(self, partition_key: PartitionKey) -> Partition:
        """The partition that a key belongs to, wherever it is led."""
        ...

    def asked_ns(self, partition: int) -> int:
        """The time at which a request for a partition is said to be asked."""
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

    # New invocations -----------------------------------------------------------------------------

    def call(
        self, request: InvocationRequest, on_reply: Callable[[CallReply], None]
    ) -> PendingReply:
        """Start the invocation and have `on_reply` called once, on the loop, with its result.

        Raises an error of `find_target`, BodyTooLargeError, BadRequestError, OverloadedError or
        NotLeaderError before anything was logged.
        """
        if request.delay_ns:
            raise BadRequestError("a delay is taken by sends only: a call waits for its result")
        target = find_target(self._gateway.targets, request)
        partition, command = self._command(request, target)
        invocation_id = command.invocation_id
        content_type = target.output_content_type

        def reply(outcome: InvokeOutcome) -> None:
            if type(outcome) is Answer:
                on_reply(_completed(outcome, content_type))
            else:
                assert isinstance(outcome, PerdureError), outcome
                on_reply(Rejected(invocation_id, _refusal(outcome)))

        return self._submit(request, partition, command, reply, wait=True)

    def send(
        self, request: InvocationRequest, on_reply: Callable[[SendReply], None]
    ) -> PendingReply:
        """Start the invocation and have `on_reply` called once it is durable; raises as `call`."""
        target = find_target(self._gateway.targets, request)
        partition, command = self._command(request, target)
        invocation_id = command.invocation_id
        start_ns = command.start_ns

        def reply(outcome: InvokeOutcome) -> None:
            if type(outcome) is AcceptedEffect:
                known = outcome.known
                first_ns = start_ns if known is None else known.start_ns
                on_reply(Accepted(outcome.invocation_id, known is None, first_ns))
            else:
                assert isinstance(outcome, PerdureError), outcome
                on_reply(Rejected(invocation_id, _refusal(outcome)))

        return self._submit(request, partition, command, reply, wait=False)

    def _submit(
        self,
        request: InvocationRequest,
        partition: Partition,
        command: Invoke,
        reply: InvokeReply,
        *,
        wait: bool,
    ) -> PendingReply:
        self._admit(partition)
        if partition.active >= self._active_max:
            raise too_many_active(partition.partition, self._active_max)
        try:
            partition.invoke(command, request.traceparent, reply, wait=wait)
        except PerdureError as error:
            raise _refusal(error) from None
        return PendingReply(partition.clients, command.invocation_id, reply)

    def _admitting(self, invocation_id: InvocationId) -> Partition:
        """The invocation's partition. Raises NotLeaderError or OverloadedError."""
        partition = self._gateway.partition_for(partition_key_of(invocation_id))
        self._admit(partition)
        return partition

    def _admit(self, partition: Partition) -> None:
        """Raises NotLeaderError or OverloadedError."""
        if self.closing:
            raise NotLeaderError("this node is shutting down: try another one")
        if len(partition.clients) >= self._in_flight_max:
            raise too_many_in_flight(partition.partition, self._in_flight_max)

    def _command(self, request: InvocationRequest, target: Target) -> tuple[Partition, Invoke]:
        """What a request comes to, and the partition that it is for."""
        if len(request.body) > self._body_bytes_max:
            raise self._too_large(len(request.body))
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
            self._check_id(request, target, invocation_id)
        partition = self._gateway.partition_for(partition_key_of(invocation_id))
        known_again = request.idempotency_key is not None or target.target_kind == KIND_WORKFLOW_RUN
        completion_ns, journal_ns = target.handling.retentions_ns(known_again=known_again)
        expires_ns = 0
        if not known_again:
            # Whoever retries under this id must find it, or be refused.
            completion_ns = max(completion_ns, RETRY_WINDOW_NS)
            now_ns = self._gateway.asked_ns(partition.partition)
            started_ns = min(minted_ns(invocation_id), now_ns) if minted else now_ns
            if started_ns > NO_MINTED_ID_BEFORE_NS:
                expires_ns = started_ns + RETRY_WINDOW_NS
        return partition, Invoke(
            invocation_id,
            target.service,
            target.handler,
            request.key,
            target.target_kind,
            input_frame(self._headers.encode(request.headers), request.body),
            request.idempotency_key,
            start_ns=self._start_ns(request.delay_ns) if request.delay_ns else 0,
            completion_retention_ns=completion_ns,
            journal_retention_ns=journal_ns,
            expires_ns=expires_ns,
        )

    def _start_ns(self, delay_ns: int) -> int:
        if not 0 < delay_ns <= DELAY_NS_MAX:
            raise BadRequestError("the delay is longer than 100 years: give a shorter one")
        return self._clock.time_ns() + delay_ns

    def _too_large(self, size: int) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"the body has {size} bytes, the limit is {self._body_bytes_max} "
            "(limits.body_bytes_max): pass large data by reference"
        )

    def _check_id(
        self, request: InvocationRequest, target: Target, invocation_id: InvocationId
    ) -> None:
        """Refuse an id that would put an invocation anywhere but where its object is."""
        if request.idempotency_key is not None:
            raise BadRequestError(
                "an idempotency key decides the invocation id: give one of the two, not both"
            )
        if request.key is None:
            return
        if target.target_kind == KIND_WORKFLOW_RUN:
            run = self._minter.mint(
                KIND_WORKFLOW_RUN, request.service, request.key, request.handler, None
            )
            if invocation_id != run:
                raise BadRequestError(
                    f"the run of workflow {request.service!r} under key {request.key[:64]!r} is "
                    f"{invocation_id_text(run)} and can have no other id: leave the id out"
                )
        elif partition_key_of(invocation_id) != keyed_partition_key(request.key):
            raise BadRequestError(
                f"invocation id {invocation_id_text(invocation_id)} does not belong to key "
                f"{request.key[:64]!r}: its first 8 bytes must be the key's hash"
            )

    # Existing invocations ------------------------------------------------------------------------

    def attach(self, reference: Reference, on_reply: Callable[[CallReply], None]) -> PendingReply:
        """Have `on_reply` called with the invocation's result, at once if there is one.

        Raises InvocationNotFoundError, BadRequestError, OverloadedError or NotLeaderError; where
        another node leads, the first comes as the reply.
        """
        invocation_id = referred_id(reference)
        partition = self._admitting(invocation_id)

        def reply(outcome: InvokeOutcome) -> None:
            if type(outcome) is Answer:
                on_reply(_completed(outcome, self._content_type(outcome.invocation)))
            else:
                assert isinstance(outcome, PerdureError), outcome
                on_reply(Rejected(invocation_id, _refusal(outcome)))

        try:
            partition.attach(invocation_id, reply)
        except PerdureError as error:
            raise _refusal(error) from None
        return PendingReply(partition.clients, invocation_id, reply)

    def output(self, reference: Reference, on_reply: Callable[[CallReply], None]) -> PendingReply:
        """Have `on_reply` called with the invocation's result, if it has one by now.

        The reply is a NotCompletedError when it has none. Raises what `attach` raises, or the reply
        is that.
        """
        invocation_id = referred_id(reference)
        partition = self._admitting(invocation_id)

        def reply(outcome: InvokeOutcome) -> None:
            if type(outcome) is not Answer:
                assert isinstance(outcome, PerdureError), outcome
                on_reply(Rejected(invocation_id, _refusal(outcome)))
            elif outcome.invocation.status == STATUS_COMPLETED:
                on_reply(_completed(outcome, self._content_type(outcome.invocation)))
            else:
                error = NotCompletedError(
                    f"invocation {invocation_id_text(invocation_id)} has not completed yet: attach "
                    "to it to wait for its result"
                )
                on_reply(Rejected(invocation_id, error))

        try:
            partition.output(invocation_id, reply)
        except PerdureError as error:
            raise _refusal(error) from None
        return PendingReply(partition.clients, invocation_id, reply)

    def lookup(self, reference: Reference) -> InvocationId:
        """The invocation's id, whether it exists or not. Raises BadRequestError."""
        return referred_id(reference)

    def complete_awakeable(
        self,
        awakeable_id: str,
        result: bytes | InvocationFailure,
        on_reply: Callable[[OperationReply], None],
    ) -> None:
        """Complete an awakeable; also acknowledged when nobody waits for it any more.

        Raises MalformedIdError, BodyTooLargeError, OverloadedError or NotLeaderError.
        """
        invocation_id, index = parse_awakeable_id(awakeable_id)
        if index < SIGNAL_FIRST_AWAKEABLE:
            raise MalformedIdError(
                f"{awakeable_id[:64]!r} is not an awakeable's id: it is what ctx.awakeable() gave"
            )
        self._signal(invocation_id, index, "", result, on_reply)

    def send_signal(
        self,
        invocation_id: InvocationId,
        name: str,
        result: bytes | InvocationFailure,
        on_reply: Callable[[OperationReply], None],
    ) -> None:
        """Send a named signal; also acknowledged when the invocation has gone.

        Raises BadRequestError, BodyTooLargeError, OverloadedError or NotLeaderError.
        """
        if not name or len(name.encode()) > SIGNAL_NAME_BYTES_MAX:
            raise BadRequestError(
                f"a signal's name has 1 to {SIGNAL_NAME_BYTES_MAX} bytes, this one has "
                f"{len(name.encode())}"
            )
        self._signal(invocation_id, 0, name, result, on_reply)

    def _signal(
        self,
        invocation_id: InvocationId,
        index: int,
        name: str,
        result: bytes | InvocationFailure,
        on_reply: Callable[[OperationReply], None],
    ) -> None:
        if isinstance(result, bytes):
            size = len(result)
            signal = Signal(invocation_id, index, name, result, None)
        else:
            size = len(result.message.encode())
            failure = Failure(result.code, result.message, result.metadata)
            signal = Signal(invocation_id, index, name, None, failure)
        if size > self._body_bytes_max:
            raise self._too_large(size)

        def reply(outcome: str | PerdureError) -> None:
            if isinstance(outcome, PerdureError):
                on_reply(Rejected(invocation_id, _refusal(outcome)))
            else:
                on_reply(Acknowledged(invocation_id))

        self._operate(signal, reply)

    def cancel(
        self, invocation_id: InvocationId, on_reply: Callable[[OperationReply], None]
    ) -> None:
        """Ask the invocation to cancel itself; acknowledged too when it has completed.

        The reply is an InvocationNotFoundError when nobody knows it. Raises OverloadedError or
        NotLeaderError.
        """

        def reply(outcome: str | PerdureError) -> None:
            if outcome == outcomes.NOT_FOUND:
                outcome = InvocationNotFoundError(
                    f"invocation {invocation_id_text(invocation_id)} is not known, or not any more"
                )
            if isinstance(outcome, PerdureError):
                on_reply(Rejected(invocation_id, _refusal(outcome)))
            else:
                on_reply(Acknowledged(invocation_id))

        self._operate(cancel(invocation_id), reply)

    def _operate(self, operation: Signal, reply: Callable[[str | PerdureError], None]) -> None:
        partition = self._admitting(operation.invocation_id)
        try:
            partition.operate(operation, reply)
        except PerdureError as error:
            raise _refusal(error) from None

    # What there is -------------------------------------------------------------------------------

    def service_names(self) -> list[str]:
        """The services that can be called now, sorted."""
        return self._gateway.targets.service_names()

    def is_keyed(self, service: str) -> bool:
        """Whether targets of the service have a key. Raises UnknownServiceError."""
        targets = find_handlers(self._gateway.targets, service).values()
        return any(target.target_kind != KIND_SERVICE for target in targets)

    def _content_type(self, invocation: Invocation) -> str | None:
        handlers = self._gateway.targets.handlers(invocation.service) or {}
        target = handlers.get(invocation.handler)
        return "application/json" if target is None else target.output_content_type


def _completed(answer: Answer, content_type: str | None) -> Completed:
    invocation = answer.invocation
    expires_ns = invocation.expires_ns if answer.stored else 0
    failure = invocation.failure
    if failure is None:
        return Completed(
            answer.invocation_id, invocation.output or b"", None, content_type, expires_ns
        )
    return Completed(
        answer.invocation_id,
        b"",
        InvocationFailure(failure.code, failure.message, failure.metadata),
        content_type,
        expires_ns,
    )


def _refusal(error: PerdureError) -> PerdureError:
    """An error of the floors below as front doors know it."""
    if isinstance(error, NotLeadingError | LogClosedError | StorageError):
        return NotLeaderError(error.message)
    if isinstance(error, RecordTooLargeError):
        return BodyTooLargeError(error.message)
    if isinstance(error, PeerOverloadedError):
        return OverloadedError(error.message)
    return error
