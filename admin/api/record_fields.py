"""What the commands of a partition's log say, field by field and in a line."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...core.ids import InvocationId, invocation_id_text
from ...core.protocol import messages
from ...partition_processor.records import (
    COMMAND_TYPES,
    KIND_NAMES,
    AnnounceLeader,
    Attach,
    AttemptChunk,
    AttemptFailed,
    Command,
    CompareDigest,
    Deliver,
    Invoke,
    Once,
    PatchState,
    Purge,
    PurgeExpired,
    Respond,
    Restart,
    Resume,
    Signal,
    TimersFired,
    TruncateOutbox,
)
from ...partition_processor.tables.invocations import Failure, Sink
from .entry_view import entry_name, signal_text
from .times import time_text
from .value_view import failure_view, key_text, short_text, value_view

ITEMS_SHOWN: Final = 100
"""So many timers, messages or changes of one record are shown."""
TEXT_SHOWN: Final = 4096
"""So many characters of a text are shown."""
_IDS: Final = ("invocation_id", "new_id", "parent")
_INSTANTS: Final = ("due_ns", "start_ns", "expires_ns", "before_ns", "from_ns")
_SHOWN_ELSEWHERE: Final = {
    # A chunk's frames are listed by their names; an input is the first entry of a journal.
    AttemptChunk: ("frames",),
    Invoke: ("input_frames",),
    Deliver: ("messages",),
    Once: ("body",),
}
_decoders: Final = {
    kind: msgspec.msgpack.Decoder(command).decode for kind, command in COMMAND_TYPES.items()
}


def decode_command(kind: int, body: bytes) -> Command | None:
    """The command of a body, None for an unknown kind.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError.
    """
    decode = _decoders.get(kind)
    return None if decode is None else decode(body)


def invocations_of(command: Command) -> set[InvocationId]:
    """Every invocation that a command does something to."""
    if isinstance(command, TimersFired):
        return {timer.invocation_id for timer in command.timers}
    if isinstance(command, Deliver):
        about: set[InvocationId] = set()
        for _, inner in delivered(command):
            if inner is not None:
                about |= invocations_of(inner)
        return about
    if isinstance(command, Once):
        operation = _operation(command)
        return set() if operation is None else invocations_of(operation)
    found = {getattr(command, name, None) for name in ("invocation_id", "new_id")}
    return {invocation_id for invocation_id in found if invocation_id is not None}


def _operation(command: Once) -> Command | None:
    """The operation that is applied once; None for one that cannot be read."""
    try:
        return decode_command(command.kind, command.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def delivered(command: Deliver) -> list[tuple[int, Command | None]]:
    """The messages of another partition by kind; None for one that cannot be read."""
    found: list[tuple[int, Command | None]] = []
    for kind, body in command.messages:
        try:
            found.append((kind, decode_command(kind, body)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found.append((kind, None))
    return found


def fields_of(command: Command) -> dict[str, Any]:
    """Everything that a command says and that is not shown elsewhere."""
    hidden = _SHOWN_ELSEWHERE.get(type(command), ())
    fields = {
        name: _plain(name, getattr(command, name))
        for name in command.__struct_fields__
        if name not in hidden
    }
    if isinstance(command, Deliver):
        fields["messages"] = [
            {"kind": _kind(kind), **({} if inner is None else fields_of(inner))}
            for kind, inner in delivered(command)[:ITEMS_SHOWN]
        ]
    if isinstance(command, Once):
        operation = _operation(command)
        fields |= {"kind": _kind(command.kind), "operation_id": command.operation_id.hex()}
        fields["operation"] = None if operation is None else fields_of(operation)
    return {name: value for name, value in fields.items() if value is not None}


def _plain(name: str, value: Any) -> Any:
    if name in _IDS and value is not None:
        return invocation_id_text(value)
    if name in _INSTANTS:
        return time_text(value) if value else None
    if isinstance(value, bytes):
        return value.hex() if name in ("partition_key", "expected") else value_view(value)
    if isinstance(value, str):
        return value if len(value) <= TEXT_SHOWN else f"{value[:TEXT_SHOWN]}…"
    if isinstance(value, Failure):
        return failure_view(value)
    if name == "changes":
        return [
            {"name": key_text(key), "value": None if item is None else value_view(item)}
            for key, item in value[:ITEMS_SHOWN]
        ]
    if name == "held":
        return [item.hex() for item in value] or None
    if isinstance(value, msgspec.Struct):
        return {field: _plain(field, getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, tuple):
        return [_plain("", item) for item in value[:ITEMS_SHOWN]] or None
    return value


def line_of(command: Command) -> str:
    """A line about a command; what stands in columns of its own is left out."""
    describe = _LINES.get(type(command))
    return "" if describe is None else describe(command)


def _kind(kind: int) -> str:
    return KIND_NAMES.get(kind, f"kind {kind}")


def _outcome(value: bytes | None, failure: Failure | None) -> str:
    if failure is not None:
        return f"failure [{failure.code}] {failure.message}"
    return "void" if value is None else short_text(value)


def _sink(sink: Sink) -> str:
    return f"{entry_name(sink.frame_type)} {sink.completion_id} of {_id(sink.invocation_id)}"


def _id(invocation_id: InvocationId) -> str:
    return invocation_id_text(invocation_id)


def _some(items: list[str]) -> str:
    more = len(items) - ITEMS_SHOWN
    return "; ".join(items[:ITEMS_SHOWN]) + (f"; {more} more" if more > 0 else "")


def _invoke(command: Invoke) -> str:
    parts = (command.service, command.key, command.handler)
    line = "/".join(part for part in parts if part is not None)
    if command.start_ns:
        line += f" at {time_text(command.start_ns)}"
    if command.parent is not None:
        line += f" for {_id(command.parent)}"
    return line


def _attempt_failed(command: AttemptFailed) -> str:
    if command.pause:
        return "then it is paused"
    if command.delay_ns is None:
        return "then it fails"
    return f"then another in {command.delay_ns / 1e9:.3g} s"


def _announce_leader(command: AnnounceLeader) -> str:
    return f"{command.node} leads under epoch {command.generation}"


def _timers_fired(command: TimersFired) -> str:
    return _some(
        [
            f"{'start' if timer.number == 0 else f'sleep {timer.number}'} of "
            f"{_id(timer.invocation_id)} due {time_text(timer.due_ns)}"
            for timer in command.timers
        ]
    )


def _signal(command: Signal) -> str:
    what = signal_text(command.invocation_id, command.index, command.name)
    if command.index == messages.SIGNAL_CANCEL and not command.name:
        return what
    return f"{what}: {_outcome(command.value, command.failure)}"


def _respond(command: Respond) -> str:
    what = f"{entry_name(command.frame_type)} {command.completion_id}"
    return f"{what}: {_outcome(command.value, command.failure)}"


def _attach(command: Attach) -> str:
    wants = "waits for the result" if command.wait else "asks for the result"
    return f"{_sink(command.sink)} {wants}"


def _resume(command: Resume) -> str:
    return "" if command.deployment is None else f"on {command.deployment}"


def _purge(command: Purge) -> str:
    return "the journal" if command.journal_only else "everything"


def _restart(command: Restart) -> str:
    where = "" if command.deployment is None else f" on {command.deployment}"
    return f"as {_id(command.new_id)} with {command.entries} entries kept{where}"


def _patch_state(command: PatchState) -> str:
    changes = [
        f"{key_text(key)} cleared" if value is None else f"{key_text(key)} = {short_text(value)}"
        for key, value in command.changes
    ]
    if command.replace:
        changes.append("everything else cleared")
    if command.expected is not None:
        changes.append(f"if of version {command.expected.hex()}")
    return f"{command.service}/{command.key}: {_some(changes)}"


def _purge_expired(command: PurgeExpired) -> str:
    return f"up to {command.count_max} that expired before {time_text(command.before_ns)}"


def _deliver(command: Deliver) -> str:
    items = [_delivered_line(kind, inner) for kind, inner in delivered(command)]
    last = command.first + len(items) - 1
    return f"partition {command.source}, {command.first} to {last}: {_some(items)}"


def _delivered_line(kind: int, command: Command | None) -> str:
    if command is None:
        return f"{_kind(kind)} that cannot be read"
    target = getattr(command, "invocation_id", None)
    about = "" if target is None else f" {_id(target)}"
    return f"{_kind(kind)}{about} {line_of(command)}".rstrip()


def _once(command: Once) -> str:
    return _delivered_line(command.kind, _operation(command))


def _truncate_outbox(command: TruncateOutbox) -> str:
    return f"partition {command.destination} has taken everything up to {command.last}"


def _compare_digest(command: CompareDigest) -> str:
    return f"the leader had digest {command.digest.hex()} at LSN {command.lsn}"


_LINES: Final[dict[type, Callable[[Any], str]]] = {
    Invoke: _invoke,
    AttemptFailed: _attempt_failed,
    AnnounceLeader: _announce_leader,
    TimersFired: _timers_fired,
    Signal: _signal,
    Respond: _respond,
    Attach: _attach,
    Resume: _resume,
    Purge: _purge,
    Restart: _restart,
    PatchState: _patch_state,
    PurgeExpired: _purge_expired,
    Deliver: _deliver,
    TruncateOutbox: _truncate_outbox,
    Once: _once,
    CompareDigest: _compare_digest,
}
