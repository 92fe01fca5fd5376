"""A partition's interpreter on a memory store, fed record by record or batch by batch."""

from perdure.core.ids import InvocationId
from perdure.core.protocol import messages
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.input_frames import input_frame
from perdure.log.types import Batch, Record
from perdure.partition_processor.effects import Effect
from perdure.partition_processor.machine import Machine
from perdure.partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_SERVICE,
    KINDS,
    AttemptChunk,
    Command,
    Invoke,
    encode_command,
)
from perdure.partition_processor.tables import keys
from perdure.partition_processor.tables.progress import (
    Progress,
    decode_progress,
    encode_progress,
)
from perdure.partition_processor.transaction import Transaction
from perdure.proto.generated import service_protocol_pb2 as wire

PROGRESS_ROW = keys.PROGRESS + bytes(8)


class Partition:
    """A machine with its store; `apply` commits each batch as the processor would."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.reopen()
        self.history: list[Record] = []

    def reopen(self) -> None:
        """Forget everything but the store."""
        stored = self.store.get(PROGRESS_ROW)
        progress = Progress() if stored is None else decode_progress(stored)
        self.transaction = Transaction(self.store)
        self.machine = Machine(self.transaction, progress)

    def apply(self, *commands: Command, epoch: int = 1, time_ns: int = 1_000) -> list[Effect]:
        """Apply one batch and give its effects."""
        return self.apply_records(
            [
                Record(KINDS[type(command)], encode_command(command), (), epoch, None, 0)
                for command in commands
            ],
            time_ns,
        )

    def apply_records(self, records: list[Record], time_ns: int = 1_000) -> list[Effect]:
        """Apply one batch of records and give its effects."""
        first = self.machine.context.lsn + 1
        self.history += records
        try:
            self.machine.apply_batch(Batch(first, time_ns, 1, records), 1)
        finally:
            operations = self.transaction.take()
            operations.append((PROGRESS_ROW, encode_progress(self.machine.progress())))
            self.store.write(operations)
        return self.machine.take_effects()

    @property
    def digest(self) -> bytes:
        """The digest of everything applied."""
        return self.machine.progress().digest

    def content(self) -> dict[bytes, bytes]:
        """All rows."""
        return dict(self.store.scan(b"", b"\xff"))


def identity(number: int, key: str | None = None) -> InvocationId:
    """An invocation id; invocations of one object share its partition key."""
    routing = (0 if key is None else 1 + sum(key.encode())).to_bytes(8, "big")
    return InvocationId(routing + number.to_bytes(16, "big"))


def greet(number: int, body: bytes = b'"Ann"') -> Invoke:
    """A call of a plain service."""
    frames = input_frame(b"", body)
    return Invoke(identity(number), "Greeter", "greet", None, KIND_SERVICE, frames)


def add(number: int, key: str = "k", kind: int = KIND_OBJECT_EXCLUSIVE) -> Invoke:
    """A call of a virtual object."""
    return Invoke(identity(number, key), "Counter", "add", key, kind, input_frame(b"", b"1"))


def frames(*items: tuple[int, bytes]) -> bytes:
    """Frames of (type, body)."""
    return b"".join(messages.frame(*item) for item in items)


OUTPUT_OK = (
    messages.OUTPUT_COMMAND,
    wire.OutputCommand(value=wire.Value(content=b'"ok"')).SerializeToString(),
)
END = (messages.END, b"")
RUN = (
    messages.RUN_COMMAND,
    wire.RunCommand(result_completion_id=1, name="step").SerializeToString(),
)
RUN_DONE = (
    messages.RUN_COMPLETION,
    wire.Notification(completion_id=1, value=wire.Value(content=b"7")).SerializeToString(),
)


def set_state(key: bytes, value: bytes) -> tuple[int, bytes]:
    """A SetState command."""
    message = wire.SetStateCommand(key=key, value=wire.Value(content=value))
    return messages.SET_STATE_COMMAND, message.SerializeToString()


def clear_state(key: bytes) -> tuple[int, bytes]:
    """A ClearState command."""
    return messages.CLEAR_STATE_COMMAND, wire.ClearStateCommand(key=key).SerializeToString()


def failing_output(code: int, message: str) -> tuple[int, bytes]:
    """An Output command with a terminal failure."""
    output = wire.OutputCommand(failure=wire.Failure(code=code, message=message))
    return messages.OUTPUT_COMMAND, output.SerializeToString()


def answer(invocation_id: InvocationId, *more: tuple[int, bytes], attempt: int = 1) -> AttemptChunk:
    """The whole answer of an attempt."""
    return AttemptChunk(invocation_id, attempt, "dp-1", frames(*more, OUTPUT_OK, END))
