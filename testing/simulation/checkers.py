"""What must hold in every world: checked at each answer, after each crash and at the end."""

import json
from itertools import pairwise

from ...core.errors import PerdureError
from ...core.ids import InvocationId
from ...core.protocol import messages
from ...core.storage.memory import MemoryStore
from ...ingress.requests import Completed
from ...log.types import Batch
from ...partition_processor.context import WHOLE, PartitionRange
from ...partition_processor.machine import Machine
from ...partition_processor.records import (
    ATTEMPT_CHUNK,
    INVOKE,
    KIND_OBJECT_EXCLUSIVE,
    AttemptChunk,
)
from ...partition_processor.tables import keys
from ...partition_processor.tables.invocations import (
    STATUS_COMPLETED,
    STATUS_PENDING,
    STATUS_SCHEDULED,
    Invocation,
    decode_invocation,
)
from ...partition_processor.tables.journal import decode_chunk
from ...partition_processor.tables.locks import decode_lock
from ...partition_processor.tables.progress import Progress, decode_progress, encode_progress
from ...partition_processor.transaction import Transaction
from .disk import SimulationDisk
from .observer import LogObserver, LogRecord
from .violation import InvariantViolation, require
from .workload import COUNTER, History, Operation


def check_answer(operation: Operation, reply: Completed) -> None:
    """A result is never taken back, and no operation of a world fails for good."""
    require(
        reply.failure is None, "no operation fails for good", f"{operation.name}: {reply.failure}"
    )
    if operation.answered_ns is not None:
        require(
            reply.value == operation.value,
            "an answer never changes",
            f"{operation.name}: {reply.value!r} after {operation.value!r}",
        )
    if operation.invocation_id is not None:
        require(
            reply.invocation_id == operation.invocation_id,
            "one request is one invocation",
            operation.name,
        )


def check_survival(committed: list[LogRecord], found: list[LogRecord], history: History) -> None:
    """After a crash: the log starts with all that was committed, and has all that was told."""
    require(
        found[: len(committed)] == committed,
        "what was committed survives a crash",
        f"{len(committed)} records were committed, {len(found)} are there",
    )
    invoked: set[InvocationId | None] = set()
    ended: set[InvocationId | None] = set()
    for item in found:
        if item.record.kind == INVOKE:
            invoked.add(item.invocation_id())
        elif item.record.kind == ATTEMPT_CHUNK:
            ended.add(item.invocation_id())
    for operation in history.acknowledged():
        require(
            operation.invocation_id in invoked,
            "what was acknowledged is in the log",
            f"{operation.name} is not",
        )
        if operation.answered_ns is not None:
            require(
                operation.invocation_id in ended,
                "what was answered is in the log",
                f"{operation.name} has no answer in it",
            )


# The end of a world ------------------------------------------------------------------------------


def check_end(disks: dict[str, SimulationDisk], observer: LogObserver, history: History) -> None:
    """Everything that must hold once all work is done. Raises InvariantViolation."""
    store_rows = disks["store"].rows()
    records = observer.read(disks["log"].rows())
    check_survival(records, records, history)
    check_rows(store_rows, history)
    check_replay(records, store_rows)
    check_rot_is_found(disks["log"], observer)


def check_rows(store_rows: dict[bytes, bytes], history: History) -> None:
    """What partitions hold once all work is done. Raises InvariantViolation."""
    invocations = _invocations(store_rows)
    _check_nothing_is_left(store_rows, invocations)
    _check_results(history, invocations)
    _check_counters(store_rows, history)
    _check_journals(invocations)


def _invocations(rows: dict[bytes, bytes]) -> dict[InvocationId, Invocation]:
    return {
        InvocationId(key[1:]): decode_invocation(value)
        for key, value in sorted(rows.items())
        if key.startswith(keys.INVOCATIONS)
    }


def _check_nothing_is_left(
    rows: dict[bytes, bytes], invocations: dict[InvocationId, Invocation]
) -> None:
    for table, name in (
        (keys.LOCKS, "lock"),
        (keys.INBOX, "inbox"),
        (keys.ACTIVE, "active"),
        (keys.TIMERS, "timer"),
        (keys.OWN_TIMERS, "own timer"),
        (keys.OUTBOX, "outbox"),
    ):
        left = [key for key in rows if key.startswith(table)]
        require(not left, "nothing is left that was under way", f"{name} rows: {left[:3]}")
    for invocation_id, invocation in invocations.items():
        require(
            invocation.status == STATUS_COMPLETED,
            "every invocation completes",
            f"{invocation_id.hex()} {invocation.service}/{invocation.handler}",
        )


def _check_results(history: History, invocations: dict[InvocationId, Invocation]) -> None:
    """One row per operation, no row of nobody's, and each holds what the client was told."""
    expected = {operation.invocation_id for operation in history.operations} | history.others
    # What a handler has called is that client's as well.
    strangers = [
        item.hex()
        for item, invocation in invocations.items()
        if item not in expected and invocation.parent not in invocations
    ]
    require(not strangers, "every invocation is some client's", strangers)
    for operation in history.operations:
        assert operation.invocation_id is not None
        invocation = invocations.get(operation.invocation_id)
        require(
            invocation is not None and invocation.output == operation.value,
            "the stored result is the answer",
            operation.name,
        )


def _check_counters(rows: dict[bytes, bytes], history: History) -> None:
    """Each add counts once: the counts form one sequence, in an order that clients can believe."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history.operations:
        if operation.request.service == COUNTER:
            assert operation.request.key is not None
            by_key.setdefault(operation.request.key, []).append(operation)
    for key, operations in by_key.items():
        operations.sort(key=lambda item: int(item.value))
        count = 0
        for operation in operations:
            count += operation.amount
            require(
                int(operation.value) == count,
                "each add counts exactly once",
                f"{key}: {operation.name} added {operation.amount} and got "
                f"{operation.value.decode()}, not {count}",
            )
        state = [
            value
            for row, value in rows.items()
            if row.startswith(keys.STATE) and keys.object_suffix(COUNTER, key) in row
        ]
        require(
            [json.loads(value) for value in state] == [count],
            "the counter's state is the sum of its adds",
            f"{key}: {state} instead of {count}",
        )
        _check_order(key, operations)


def _check_order(key: str, operations: list[Operation]) -> None:
    """Real time: who was answered before another was invoked comes before it.

    Raises InvariantViolation. `operations` are in the order of their counts.
    """
    earliest_answer_ns: float = float("inf")
    for operation in reversed(operations):
        require(
            operation.invoked_ns <= earliest_answer_ns,
            "counts follow real time",
            f"{key}: {operation.name} was invoked after a later count was answered",
        )
        if operation.answered_ns is not None:
            earliest_answer_ns = min(earliest_answer_ns, operation.answered_ns)


def _check_journals(invocations: dict[InvocationId, Invocation]) -> None:
    """Attempts follow one another: none stores an entry after a later one has."""
    for invocation_id, invocation in invocations.items():
        chunks = [decode_chunk(value) for value in invocation.head]
        for before, after in pairwise(chunks):
            require(
                (before.attempt, before.record_time_ns) <= (after.attempt, after.record_time_ns),
                "no superseded attempt stores an entry",
                f"{invocation_id.hex()}: attempt {after.attempt} after {before.attempt}",
            )


def check_replay(
    records: list[LogRecord], live: dict[bytes, bytes], own: PartitionRange = WHOLE
) -> None:
    """The log applied to an empty store gives the rows and the digest of the live one.

    On the way, after each record: locks are neither shared nor lost, and no record counts whose
    attempt is over. Raises InvariantViolation.
    """
    store = MemoryStore()
    transaction = Transaction(store)
    machine = Machine(transaction, Progress(), own)
    progress_row = keys.PROGRESS + own.first
    announced = 0
    attempts = _AttemptModel()
    for item in records:
        digest = machine.progress().digest
        machine.apply_batch(Batch(item.lsn, item.time_ns, item.epoch, [item.record]), 1)
        operations = transaction.take()
        operations.append((progress_row, encode_progress(machine.progress())))
        store.write(operations)
        machine.take_effects()
        changed = machine.progress().digest != digest
        require(
            not changed or item.record.epoch >= announced,
            "nothing counts of a leader after another one was announced",
            f"LSN {item.lsn}: epoch {item.record.epoch}, announced {announced}",
        )
        announced = max(announced, machine.context.epoch)
        attempts.applied(item, changed, store)
        if any(key[:1] == keys.LOCKS for key, _ in operations):
            _check_locks(store)
    rows = dict(store.scan(b"", b"\xff"))
    replayed, found = (decode_progress(item[progress_row]) for item in (rows, live))
    require(
        replayed.digest == found.digest,
        "a replay gives the digest of the live store",
        f"at LSN {replayed.applied_lsn} and {found.applied_lsn}",
    )
    different = sorted(key for key in {*rows, *live} if rows.get(key) != live.get(key))
    require(not different, "a replay gives the rows of the live store", different[:3])


class _AttemptModel:
    """Which attempt of each invocation may still write, by the log alone."""

    def __init__(self) -> None:
        self._ended: dict[InvocationId, int] = {}

    def applied(self, item: LogRecord, changed: bool, store: MemoryStore) -> None:
        """Take note of a record; one that changed the store must be of an attempt in force."""
        if item.record.kind != ATTEMPT_CHUNK:
            return
        command = item.command()
        assert isinstance(command, AttemptChunk)
        invocation_id = command.invocation_id
        require(
            not changed or invocation_id not in self._ended,
            "nothing counts after the answer",
            f"LSN {item.lsn} of {invocation_id.hex()}",
        )
        value = store.get(keys.INVOCATIONS + invocation_id)
        require(value is not None, "only known invocations run", f"LSN {item.lsn}")
        assert value is not None
        invocation = decode_invocation(value)
        # A suspension that comes too late starts the next attempt in its own record.
        current = invocation.attempt - _suspends(command)
        require(
            not changed or command.attempt in (invocation.attempt, current),
            "only the current attempt counts",
            f"LSN {item.lsn}: attempt {command.attempt}, current is {invocation.attempt}",
        )
        if invocation.status == STATUS_COMPLETED:
            self._ended[invocation_id] = item.lsn


def _check_locks(store: MemoryStore) -> None:
    """Each lock's holder runs, nobody else of its object does, and all others wait in its inbox."""
    running: dict[bytes, list[InvocationId]] = {}
    waiting: dict[bytes, int] = {}
    end = keys.prefix_end(keys.INVOCATIONS)
    for key, value in store.scan(keys.INVOCATIONS, end):
        invocation_id = InvocationId(key[1:])
        invocation = decode_invocation(value)
        if invocation.target_kind != KIND_OBJECT_EXCLUSIVE:
            continue
        if invocation.status in (STATUS_COMPLETED, STATUS_SCHEDULED):
            continue
        assert invocation.key is not None
        lock_row = invocation_id[:8] + keys.object_suffix(invocation.service, invocation.key)
        if invocation.status == STATUS_PENDING:
            waiting[lock_row] = waiting.get(lock_row, 0) + 1
        else:
            running.setdefault(lock_row, []).append(invocation_id)
    held = {
        key[1:]: decode_lock(value)
        for key, value in store.scan(keys.LOCKS, keys.prefix_end(keys.LOCKS))
    }
    require(
        {row: [lock.holder] for row, lock in held.items()} == running,
        "a lock is held by the one invocation that runs",
        f"{len(held)} locks, {len(running)} objects at work",
    )
    for row, lock in held.items():
        require(
            lock.tail - lock.head == waiting.get(row, 0),
            "whoever waits for a lock is in its inbox",
            f"{lock.tail - lock.head} in the inbox, {waiting.get(row, 0)} wait",
        )


def check_rot_is_found(disk: SimulationDisk, observer: LogObserver) -> None:
    """A flipped bit in the log is found by whoever reads it."""
    if disk.rot(observer.rows_prefix) is None:
        return
    try:
        observer.read(disk.rows())
    except PerdureError:
        return
    raise InvariantViolation("a flipped bit is found", "the log reads as if nothing had happened")


def _suspends(command: AttemptChunk) -> bool:
    return any(
        message_type == messages.SUSPENSION
        for message_type, _, _ in messages.split_frames(command.frames)
    )
