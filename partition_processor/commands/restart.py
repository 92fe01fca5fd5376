"""Restart: a completed invocation runs again under a new id, from its input or a later entry."""

from collections.abc import Iterator
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from ...core.ids import InvocationId
from ...core.protocol import messages
from ...log.types import Record
from ...proto.generated import service_protocol_pb2 as wire
from .. import outcomes
from ..context import ApplyContext
from ..entries.registry import ENTRIES
from ..journal_append import append_frames
from ..lifecycle.begin import begin
from ..records import KIND_WORKFLOW_RUN, Restart
from ..tables import id_sets
from ..tables.invocations import STATUS_COMPLETED, STATUS_SCHEDULED, Invocation

_CHUNK_BYTES_MAX: Final = 1024 * 1024
"""Of entries that are copied as one chunk; one entry may be larger."""

_NEVER_COMPLETED: Final = 0
"""No command may have this completion id."""


def apply_restart(context: ApplyContext, command: Restart, record: Record) -> None:
    """Copy the part of the journal that is kept, and begin."""
    context.done(record, _restart(context, command))


def _restart(context: ApplyContext, command: Restart) -> str:
    transaction = context.transaction
    old = transaction.invocation(command.invocation_id)
    if old is None:
        return outcomes.NOT_FOUND
    if old.status != STATUS_COMPLETED:
        return outcomes.NOT_COMPLETED
    if old.target_kind == KIND_WORKFLOW_RUN:
        return outcomes.UNSUPPORTED
    if old.entries == 0:
        return outcomes.JOURNAL_GONE
    if transaction.invocation(command.new_id) is not None:
        return outcomes.UNCHANGED
    copied = _copied(context, command.invocation_id, old, max(1, command.entries))
    time_ns = context.record_time_ns
    invocation = Invocation(
        STATUS_SCHEDULED,
        old.service,
        old.handler,
        old.key,
        old.target_kind,
        0,
        time_ns,
        0,
        (),
        0,
        traceparent=old.traceparent,
        deployment=command.deployment,
        last_entry_ns=time_ns,
        completion_retention_ns=command.completion_retention_ns,
        journal_retention_ns=min(command.journal_retention_ns, command.completion_retention_ns),
        issued=copied.issued,
        notified=copied.notified,
        signals=tuple(copied.signals),
        restarted_from=command.invocation_id,
        # What chance gave the kept entries must come again.
        seed=old.seed or int.from_bytes(command.invocation_id[16:24], "big"),
        modified_ns=time_ns,
        born_lsn=context.lsn,
    )
    for frames in _chunks(copied.frames):
        invocation = append_frames(
            context, command.new_id, invocation, b"".join(frames), len(frames)
        )
    context.counts[STATUS_SCHEDULED] += 1
    begin(context, command.new_id, invocation)
    return outcomes.DONE


def _chunks(frames: list[bytes]) -> Iterator[list[bytes]]:
    """The frames in groups that each can be sent to a worker, however long the journal is."""
    group: list[bytes] = []
    size = 0
    for frame in frames:
        if group and size + len(frame) > _CHUNK_BYTES_MAX:
            yield group
            group, size = [], 0
        group.append(frame)
        size += len(frame)
    if group:
        yield group


class _Copied(msgspec.Struct):
    """Entries of the old journal, and the sets that go with them."""

    frames: list[bytes] = []
    issued: bytes = b""
    notified: bytes = b""
    signals: list[int | str] = []


def _copied(
    context: ApplyContext, invocation_id: InvocationId, old: Invocation, kept: int
) -> _Copied:
    """The first `kept` entries, and of the later ones the completions of commands among them.

    A command whose completion never came cannot be kept: nothing would complete it for the new
    invocation. So the copy ends before the first such command.
    """
    frames = [
        (message_type, chunk.frames[start - messages.FRAME_HEADER_BYTES : end])
        for chunk in context.transaction.journal(invocation_id, old)
        for message_type, start, end in messages.split_frames(chunk.frames)
    ]
    copied = _Copied(frames=[], signals=[])
    wanted: set[int] = set()
    for position, (message_type, frame) in enumerate(frames):
        body = frame[messages.FRAME_HEADER_BYTES :]
        if message_type >= messages.NOTIFICATION_FIRST:
            notification = wire.Notification.FromString(body)
            if notification.WhichOneof("id") == "completion_id":
                number = notification.completion_id
                if position < kept or number in wanted:
                    copied.frames.append(frame)
                    copied.notified = id_sets.with_number(copied.notified, number)
            elif position < kept:
                copied.frames.append(frame)
                copied.signals.append(notification.signal_name or notification.signal_index)
            continue
        if position >= kept or message_type == messages.OUTPUT_COMMAND:
            kept = min(kept, position)
            continue
        numbers = _ids_of(message_type, body)
        if not all(id_sets.contains(old.notified, number) for number in numbers):
            kept = position
            continue
        copied.frames.append(frame)
        for number in numbers:
            wanted.add(number)
    return copied


def _ids_of(message_type: int, body: bytes) -> tuple[int, ...]:
    if message_type == messages.RUN_COMMAND:
        try:
            return (wire.RunCommand.FromString(body).result_completion_id,)
        except DecodeError:
            return (_NEVER_COMPLETED,)  # Nobody looks into a step's body when it is stored.
    entry = ENTRIES.get(message_type)
    if entry is None or entry.completion_ids is None or entry.read is None:
        return ()
    return entry.completion_ids(entry.read(body))
