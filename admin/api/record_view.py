"""Decoding records of a partition's log for people."""

from typing import Any, Final

import msgspec

from ...core.errors import MalformedMessageError
from ...core.ids import InvocationId, invocation_id_text
from ...core.protocol import messages
from ...log.types import Record
from ...partition_processor.records import (
    KIND_NAMES,
    AnnounceLeader,
    AttemptChunk,
    AttemptFailed,
    Command,
    Invoke,
)
from .log_answers import ConditionView, ProducerView, RecordView
from .record_fields import decode_command, fields_of, invocations_of, line_of
from .times import time_text

FRAMES_SHOWN: Final = 100
_TEXT_SHOWN: Final = 500
_LINE_SHOWN: Final = 2000
_LONE_FRAMES: Final = ("SUSPENSION", "ERROR", "END", "SIGNAL")
_FRAME_NAMES: Final[dict[int, str]] = {
    number: name.title().replace("_", "")
    for name, number in vars(messages).items()
    if name.endswith(("_COMMAND", "_COMPLETION")) or name in _LONE_FRAMES
}


class RecordBodyError(ValueError):
    """A body does not decode as what its kind says."""


def kind_name(kind: int) -> str:
    """The name of a kind of record; a number that this release does not know stands for itself."""
    return KIND_NAMES.get(kind, f"kind {kind}")


def decode_record(record: Record) -> Command | None:
    """The body of a record, None for an unknown kind. Raises RecordBodyError."""
    try:
        return decode_command(record.kind, record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordBodyError(f"the body does not decode: {error}") from None


def is_about(record: Record, invocation_id: InvocationId) -> bool:
    """Whether a record is about an invocation."""
    # Most are not, and to search the bytes is far cheaper than to decode them.
    if bytes(invocation_id) not in record.body:
        return False
    try:
        command = decode_record(record)
    except RecordBodyError:
        return True  # Whoever looks for the invocation wants to see just this.
    return command is not None and invocation_id in invocations_of(command)


def view_record(lsn: int, segment: int, time_ns: int, record: Record) -> RecordView:
    """A record at its place, for people."""
    producer = None
    if record.producer is not None:
        producer = ProducerView(record.producer.hex(), record.producer_epoch, record.sequence)
    body: dict[str, Any]
    try:
        body = _view_command(decode_record(record))
    except RecordBodyError as error:
        body = {"problem": str(error)[:_TEXT_SHOWN]}
    return RecordView(
        lsn=lsn,
        segment=segment,
        time=time_text(time_ns),
        time_ns=time_ns,
        kind=kind_name(record.kind),
        keys="all" if record.keys is None else [key.hex() for key in record.keys],
        conditions=[ConditionView(key.hex(), since) for key, since in record.conditions],
        epoch=record.epoch,
        sequence=record.sequence,
        producer=producer,
        attempt=record.attempt,
        body_bytes=len(record.body),
        traceparent=record.traceparent,
        **body,
    )


def _view_command(command: Command | None) -> dict[str, Any]:
    """The fields of a `RecordView` that a body gives."""
    if command is None:
        return {"problem": "this release does not know the kind"}
    fields: dict[str, Any] = {"fields": fields_of(command)}
    line = line_of(command)
    if line:
        fields["detail"] = line[:_LINE_SHOWN]
    if isinstance(command, AnnounceLeader):
        fields["leader"] = command.node
        return fields
    invocation_id = getattr(command, "invocation_id", None)
    if invocation_id is not None:
        fields["invocation"] = invocation_id_text(invocation_id)
    if isinstance(command, Invoke):
        fields["service"] = command.service
        fields["handler"] = command.handler
        fields["object_key"] = command.key
    elif isinstance(command, AttemptChunk):
        try:
            fields["frames"] = _frame_names(command.frames)
        except MalformedMessageError as error:
            fields["problem"] = f"the frames do not parse: {error}"[:_TEXT_SHOWN]
    elif isinstance(command, AttemptFailed):
        fields["failure"] = f"{command.code} {command.message}"[:_TEXT_SHOWN]
    return fields


def _frame_names(frames: bytes) -> list[str]:
    """Type names in order. Raises MalformedMessageError."""
    names: list[str] = []
    for frame_type, _, _ in messages.split_frames(frames):
        if len(names) == FRAMES_SHOWN:
            return [*names, "…"]
        names.append(_FRAME_NAMES.get(frame_type, f"{frame_type:#06x}"))
    return names
