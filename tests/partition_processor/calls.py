"""Calls between invocations, with the targets that a leader would have found for them."""

from typing import Any, NamedTuple

from perdure.core.ids import InvocationId, invocation_id_text
from perdure.partition_processor.effects import Effect, Notify
from perdure.partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KINDS,
    CallTarget,
    Deliver,
    DeliveredCommand,
    encode_command,
)

from .frames import Entry, entry, read_frames
from .support import Partition, identity

DAY_NS = 24 * 3600 * 10**9


class Called(NamedTuple):
    """A call as code sends it, and what the appender found out about it."""

    item: tuple[int, bytes]
    target: CallTarget


def called(
    number: int,
    *,
    ids: tuple[int, int] = (1, 2),
    key: str | None = None,
    kind: int | None = None,
    service: str = "",
    handler: str = "",
    retention_ns: int = DAY_NS,
    **fields: Any,
) -> Called:
    """A CALL of the invocation `number`: of a plain service, or with a key of an object."""
    if kind is None:
        kind = KIND_SERVICE if key is None else KIND_OBJECT_EXCLUSIVE
    names = {KIND_SERVICE: ("Greeter", "greet"), KIND_WORKFLOW_RUN: ("Order", "run")}
    usual = names.get(kind, ("Counter", "add"))
    item = entry(
        "CALL_COMMAND",
        service_name=service or usual[0],
        handler_name=handler or usual[1],
        key=key or "",
        invocation_id_notification_idx=ids[0],
        result_completion_id=ids[1],
        **fields,
    )
    return Called(item, CallTarget(identity(number, key), kind, retention_ns, retention_ns))


def sent(
    number: int, *, id_index: int = 1, key: str | None = None, at_ms: int = 0, **fields: Any
) -> Called:
    """A ONE_WAY_CALL of the invocation `number`."""
    kind = KIND_SERVICE if key is None else KIND_OBJECT_EXCLUSIVE
    item = entry(
        "ONE_WAY_CALL_COMMAND",
        service_name="Greeter" if key is None else "Counter",
        handler_name="greet" if key is None else "add",
        key=key or "",
        invoke_time=at_ms,
        invocation_id_notification_idx=id_index,
        **fields,
    )
    return Called(item, CallTarget(identity(number, key), kind, DAY_NS, DAY_NS))


def make(partition: Partition, caller: InvocationId, *calls: Called) -> list[Effect]:
    """Have the caller's attempt make these calls in one record."""
    return partition.send(
        caller, *(call.item for call in calls), calls=tuple(call.target for call in calls)
    )


def delivered(*commands: DeliveredCommand, source: int = 1, first: int = 1) -> Deliver:
    """What another partition's outbox holds, from its message `first` on."""
    return Deliver(
        source,
        first,
        tuple((KINDS[type(command)], encode_command(command)) for command in commands),
    )


def told(effects: list[Effect], invocation_id: InvocationId) -> list[Entry]:
    """What an invocation's attempt was told."""
    return [
        item
        for effect in effects
        if isinstance(effect, Notify) and effect.invocation_id == invocation_id
        for item in read_frames(effect.frames)
    ]


def text(number: int, key: str | None = None) -> str:
    """An invocation id's text."""
    return invocation_id_text(identity(number, key))
