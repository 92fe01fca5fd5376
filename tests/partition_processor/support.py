"""A partition's interpreter on a memory store, fed record by record or batch by batch."""

from perdure.core.ids import InvocationId
from perdure.core.protocol import messages
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.input_frames import input_frame
from perdure.log.types import Batch, Record
from perdure.partition_processor.context import WHOLE, PartitionRange
from perdure.partition_processor.effects import Done, Effect
from perdure.partition_processor.machine import Machine
from perdure.partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
    KINDS,
    AttemptChunk,
    CallTarget,
    Command,
    Invoke,
    encode_command,
)
from perdure.partition_processor.tables import keys
from perdure.partition_processor.tables.invocations import STATUS_NAMES, Invocation
from perdure.partition_processor.tables.progress import (
    Progress,
    decode_progress,
    encode_progress,
)
from perdure.partition_processor.transaction import Transaction
from perdure.proto.generated import service_protocol_pb2 as wire

from .frames import Entry, read_frames


class Partition:
    """A machine with its store; `apply` commits each batch as the processor would."""

    def __init__(self, store: MemoryStore | None = None, own: PartitionRange = WHOLE) -> None:
        self.store = store or MemoryStore()
        self.own = own
        self.progress_row = keys.PROGRESS + own.first
        self.reopen()
        self.history: list[Record] = []

    def reopen(self) -> None:
        """Forget everything but the store."""
        stored = self.store.get(self.progress_row)
        progress = Progress() if stored is None else decode_progress(stored)
        self.transaction = Transaction(self.store)
        self.machine = Machine(self.transaction, progress, self.own)

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
            operations.append((self.progress_row, encode_progress(self.machine.progress())))
            self.store.write(operations)
        return self.machine.take_effects()

    def send(
        self,
        invocation_id: InvocationId,
        *items: tuple[int, bytes],
        calls: tuple[CallTarget, ...] = (),
        time_ns: int = 1_000,
    ) -> list[Effect]:
        """Apply frames of the invocation's current attempt as one record."""
        attempt = self.invocation(invocation_id).attempt
        return self.apply(
            AttemptChunk(invocation_id, attempt, "dp-1", frames(*items), calls), time_ns=time_ns
        )

    def operate(self, command: Command, time_ns: int = 1_000) -> tuple[str, list[Effect]]:
        """Apply an operation that a client asked for: what it is told, and the other effects."""
        number = max(0, self.machine.context.sequence) + 1
        record = Record(KINDS[type(command)], encode_command(command), (), 1, None, number)
        effects = self.apply_records([record], time_ns)
        (done,) = [item for item in effects if isinstance(item, Done)]
        return done.outcome, [item for item in effects if not isinstance(item, Done)]

    def invocation(self, invocation_id: InvocationId) -> Invocation:
        """An invocation that exists."""
        invocation = self.transaction.invocation(invocation_id)
        assert invocation is not None, "there is no such invocation"
        return invocation

    def status(self, invocation_id: InvocationId) -> str:
        """An invocation's status by name; ``unknown`` when there is none."""
        invocation = self.transaction.invocation(invocation_id)
        return "unknown" if invocation is None else STATUS_NAMES[invocation.status]

    def journal(self, invocation_id: InvocationId) -> list[Entry]:
        """An invocation's journal, read."""
        invocation = self.invocation(invocation_id)
        chunks = self.transaction.journal(invocation_id, invocation)
        entries = [item for chunk in chunks for item in read_frames(chunk.frames)]
        assert len(entries) == invocation.entries
        return entries

    def rows(self, tables: bytes) -> list[bytes]:
        """The keys of these tables' rows."""
        return [key for key in self.content() if key[:1] in tables]

    def counts(self) -> dict[str, int]:
        """How many invocations have each status that any has; checked against the rows."""
        counts = dict(zip(STATUS_NAMES, self.machine.progress().counts, strict=True))
        rows = [self.status(InvocationId(key[1:])) for key in self.rows(keys.INVOCATIONS)]
        assert counts == {name: rows.count(name) for name in STATUS_NAMES}
        return {name: count for name, count in counts.items() if count}

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


def workflow(number: int, key: str = "w", *, handler: str = "run") -> Invoke:
    """A call of a workflow: its run, or a shared handler under another name."""
    kind = KIND_WORKFLOW_RUN if handler == "run" else KIND_WORKFLOW_SHARED
    return Invoke(identity(number, key), "Order", handler, key, kind, input_frame(b"", b"{}"))


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
