"""Bodies of the commands that are not in every call, written by protobuf.

Names of entries are for people; None leaves one out.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as pb
from . import texts
from .wire import failure

_VOID: Final = pb.Void()


class Target(msgspec.Struct, frozen=True, gc=False):
    """Whom to call and with what.

    Attributes:
        parameter: the request's body.
        key: of a virtual object or workflow; None for services.
    """

    service: str
    handler: str
    parameter: bytes
    key: str | None = None
    idempotency_key: str | None = None
    headers: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """``Service/handler``, for messages."""
        return f"{self.service}/{self.handler}"


def _name(name: str | None) -> str | None:
    return None if name is None else texts.clean_text(name)


def clear_all_state(name: str | None) -> bytes:
    """Body of a ClearAllState command."""
    return pb.ClearAllStateCommand(name=_name(name)).SerializeToString()


def get_lazy_state_keys(completion_id: int, name: str | None) -> bytes:
    """Body of a GetLazyStateKeys command."""
    return pb.GetLazyStateKeysCommand(
        result_completion_id=completion_id, name=_name(name)
    ).SerializeToString()


def get_eager_state_keys(keys: list[bytes], name: str | None) -> bytes:
    """Body of a GetEagerStateKeys command with the keys that were there."""
    return pb.GetEagerStateKeysCommand(
        value=pb.StateKeys(keys=keys), name=_name(name)
    ).SerializeToString()


def sleep(wake_ms: int, completion_id: int, name: str | None) -> bytes:
    """Body of a Sleep command; `wake_ms` counts from 1970."""
    return pb.SleepCommand(
        wake_up_time=wake_ms, result_completion_id=completion_id, name=_name(name)
    ).SerializeToString()


def call(
    target: Target,
    completion_ids: tuple[int, int],
) -> bytes:
    """Body of a Call command; the completions are those of the invocation id and the result."""
    return pb.CallCommand(
        service_name=target.service,
        handler_name=target.handler,
        parameter=target.parameter,
        headers=_headers(target.headers),
        key=target.key or "",
        idempotency_key=target.idempotency_key,
        invocation_id_notification_idx=completion_ids[0],
        result_completion_id=completion_ids[1],
    ).SerializeToString()


def one_way_call(
    target: Target,
    completion_id: int,
    invoke_ms: int,
) -> bytes:
    """Body of a OneWayCall command; `invoke_ms` counts from 1970, 0 is at once."""
    return pb.OneWayCallCommand(
        service_name=target.service,
        handler_name=target.handler,
        parameter=target.parameter,
        invoke_time=invoke_ms,
        headers=_headers(target.headers),
        key=target.key or "",
        idempotency_key=target.idempotency_key,
        invocation_id_notification_idx=completion_id,
    ).SerializeToString()


def _headers(headers: Mapping[str, str] | None) -> list[pb.Header]:
    return [pb.Header(key=key, value=value) for key, value in (headers or {}).items()]


def cancel(invocation_id: str) -> bytes:
    """Body of the SendSignal command that asks an invocation to cancel itself."""
    return pb.SendSignalCommand(
        target_invocation_id=invocation_id, idx=messages.SIGNAL_CANCEL, void=_VOID
    ).SerializeToString()


def resolve_signal(invocation_id: str, name: str, content: bytes) -> bytes:
    """Body of a SendSignal command with a value."""
    return pb.SendSignalCommand(
        target_invocation_id=invocation_id, name=name, value=pb.Value(content=content)
    ).SerializeToString()


def reject_signal(invocation_id: str, name: str, code: int, message: str) -> bytes:
    """Body of a SendSignal command with a failure."""
    return pb.SendSignalCommand(
        target_invocation_id=invocation_id, name=name, failure=failure(code, message)
    ).SerializeToString()


def resolve_awakeable(awakeable_id: str, content: bytes) -> bytes:
    """Body of a CompleteAwakeable command with a value."""
    return pb.CompleteAwakeableCommand(
        awakeable_id=awakeable_id, value=pb.Value(content=content)
    ).SerializeToString()


def reject_awakeable(awakeable_id: str, code: int, message: str) -> bytes:
    """Body of a CompleteAwakeable command with a failure."""
    return pb.CompleteAwakeableCommand(
        awakeable_id=awakeable_id, failure=failure(code, message)
    ).SerializeToString()


def get_promise(key: str, completion_id: int) -> bytes:
    """Body of a GetPromise command."""
    return pb.GetPromiseCommand(key=key, result_completion_id=completion_id).SerializeToString()


def peek_promise(key: str, completion_id: int) -> bytes:
    """Body of a PeekPromise command."""
    return pb.PeekPromiseCommand(key=key, result_completion_id=completion_id).SerializeToString()


def resolve_promise(key: str, content: bytes, completion_id: int) -> bytes:
    """Body of a CompletePromise command with a value."""
    return pb.CompletePromiseCommand(
        key=key, completion_value=pb.Value(content=content), result_completion_id=completion_id
    ).SerializeToString()


def reject_promise(key: str, code: int, message: str, completion_id: int) -> bytes:
    """Body of a CompletePromise command with a failure."""
    return pb.CompletePromiseCommand(
        key=key, completion_failure=failure(code, message), result_completion_id=completion_id
    ).SerializeToString()


def attach_invocation(invocation_id: str, completion_id: int) -> bytes:
    """Body of an AttachInvocation command."""
    return pb.AttachInvocationCommand(
        invocation_id=invocation_id, result_completion_id=completion_id
    ).SerializeToString()


def get_invocation_output(invocation_id: str, completion_id: int) -> bytes:
    """Body of a GetInvocationOutput command."""
    return pb.GetInvocationOutputCommand(
        invocation_id=invocation_id, result_completion_id=completion_id
    ).SerializeToString()


def suspension(completions: list[int], signals: list[int], names: list[str]) -> bytes:
    """Body of a Suspension: any one of these wakes the invocation."""
    return pb.Suspension(
        waiting_completions=completions, waiting_signals=signals, waiting_named_signals=names
    ).SerializeToString()
