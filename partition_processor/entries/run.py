"""RUN: a step begins; its completion comes from the worker itself, as a proposal."""

from ...proto.generated import service_protocol_pb2 as wire
from .appending import Appending
from .entry import Entry


def _apply_completion(chunk: Appending, notification: wire.Notification, _end: int) -> None:
    chunk.notified(notification.completion_id)


def _completion_id(notification: wire.Notification) -> tuple[int, ...]:
    return (notification.completion_id,)


RUN = Entry()
RUN_COMPLETION = Entry(wire.Notification.FromString, _apply_completion, _completion_id)
