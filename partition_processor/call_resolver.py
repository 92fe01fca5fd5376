"""Finding the targets of calls that handlers make: which ids, which kind of handler, how long kept.

Apply may ask for no configuration and no chance, so whoever appends the frames does it, before.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from ..core.errors import MalformedMessageError
from ..core.ids import InvocationId
from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as wire
from .deployments import Target, Targets
from .minting import Minter
from .records import KIND_SERVICE, KIND_WORKFLOW_RUN, CallTarget

CALLED_KEY_BYTES_MAX: Final = 2048
CODE_UNKNOWN_CALLEE: Final = 404
CODE_BAD_CALL: Final = 400

_MESSAGES: Final[dict[int, Callable[[bytes], Any]]] = {
    messages.CALL_COMMAND: wire.CallCommand.FromString,
    messages.ONE_WAY_CALL_COMMAND: wire.OneWayCallCommand.FromString,
}


class UnresolvedCall(msgspec.Struct, frozen=True):
    """Why a call has no target."""

    code: int
    message: str


class Resolution(msgspec.Struct, frozen=True):
    """The targets of a chunk's calls, in order.

    Attributes:
        end: up to here the frames can be appended; before the first call without a target.
        problem: of that call, None when all have one.
    """

    calls: tuple[CallTarget, ...]
    end: int
    problem: UnresolvedCall | None


class CallResolver:
    """Looks calls up in what is offered now."""

    def __init__(self, targets: Callable[[], Targets], minter: Minter) -> None:
        """Look up in `targets()`; draw ids from `minter`."""
        self._targets = targets
        self._minter = minter

    def resolve(self, frames: bytes, caller: InvocationId) -> Resolution:
        """The targets of all calls among the frames. Frames that do not parse are left to apply."""
        calls: list[CallTarget] = []
        try:
            for message_type, start, end in messages.split_frames(frames):
                read = _MESSAGES.get(message_type)
                if read is None:
                    continue
                target = self._resolve(read(frames[start:end]), message_type, caller)
                if isinstance(target, UnresolvedCall):
                    header = start - messages.FRAME_HEADER_BYTES
                    return Resolution(tuple(calls), header, target)
                calls.append(target)
        except (MalformedMessageError, DecodeError):
            return Resolution(tuple(calls), len(frames), None)
        return Resolution(tuple(calls), len(frames), None)

    def _resolve(
        self, command: Any, message_type: int, caller: InvocationId
    ) -> CallTarget | UnresolvedCall:
        service, handler = command.service_name, command.handler_name
        handlers = self._targets().handlers(service)
        target = None if handlers is None else handlers.get(handler)
        if target is None:
            what = "service" if handlers is None else "handler"
            return UnresolvedCall(
                CODE_UNKNOWN_CALLEE,
                f"the handler calls {service}/{handler}, and no deployment offers that {what}: "
                "start a worker that does; the call is tried again",
            )
        key = command.key or None
        idempotency_key = command.idempotency_key if command.HasField("idempotency_key") else None
        problem = _problem(target, key, idempotency_key)
        if problem:
            return UnresolvedCall(
                CODE_BAD_CALL, f"the handler calls {service}/{handler} wrongly: {problem}"
            )
        kind = target.target_kind
        # What is waited for runs best beside its caller: both ends are then one record. One-way
        # calls come in swarms; they are spread.
        waits = message_type == messages.CALL_COMMAND
        invocation_id = self._minter.mint(
            kind, service, key, handler, idempotency_key, beside=caller if waits else None
        )
        known_again = idempotency_key is not None or kind == KIND_WORKFLOW_RUN
        completion_ns, journal_ns = target.handling.retentions_ns(known_again=known_again)
        return CallTarget(invocation_id, kind, completion_ns, journal_ns)


def _problem(target: Target, key: str | None, idempotency_key: str | None) -> str:
    """What is wrong with a call of a handler that exists; empty when nothing is."""
    if target.target_kind == KIND_SERVICE:
        if key is not None:
            return "a plain service takes no key"
    elif key is None:
        return "a virtual object or workflow needs a key, which must not be empty"
    elif len(key.encode()) > CALLED_KEY_BYTES_MAX:
        return f"the key is longer than {CALLED_KEY_BYTES_MAX} bytes"
    if idempotency_key is not None:
        if not idempotency_key:
            return "the idempotency key is empty; leave it out instead"
        if target.target_kind == KIND_WORKFLOW_RUN:
            return "a workflow runs once per key, so its run takes no idempotency key"
    return ""
