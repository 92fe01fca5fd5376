"""Watches one partition's log: applies it record by record and checks what must hold after each.

It is the replay on an empty store, too: what the leader's digest is at any LSN, this one's must be,
however the records were batched there and however often the leader began anew from its store.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from ...core.ids import InvocationId
from ...core.protocol import messages
from ...core.protocol.messages import SIGNAL
from ...core.storage.kv import PutOrDelete
from ...core.storage.memory import MemoryStore
from ...log.types import Batch, Record
from ...partition_processor import effects as effect
from ...partition_processor.context import PartitionRange
from ...partition_processor.lifecycle.notify import is_satisfied
from ...partition_processor.machine import Machine, RecordFailedError
from ...partition_processor.records import (
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    KIND_OBJECT_EXCLUSIVE,
    AttemptChunk,
    AttemptFailed,
)
from ...partition_processor.tables import keys
from ...partition_processor.tables.events import decode_event
from ...partition_processor.tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_COMPLETED,
    STATUS_NAMES,
    STATUS_PAUSED,
    STATUS_PENDING,
    STATUS_RUNNING,
    STATUS_SCHEDULED,
    STATUS_SUSPENDED,
    Failure,
    Invocation,
    decode_invocation,
)
from ...partition_processor.tables.locks import Lock, decode_lock
from ...partition_processor.tables.progress import Progress, encode_progress
from ...partition_processor.transaction import Transaction
from ...proto.generated.service_protocol_pb2 import Notification
from ..simulation.violation import require
from .open_effects import OpenEffects
from .stage import TRANSIENT
from .state_seen import check_state_seen, is_current

RECORDED_ONCE: Final = "each step is recorded once"
SUPERSEDED: Final = "what a replaced attempt writes changes nothing"
ONCE: Final = "each invocation completes exactly once"
LOCKS: Final = "locks are neither lost nor shared"
SAME_DIGEST: Final = "replay gives the same digest"
ROWS_AGREE: Final = "rows agree with each other"
WAKES: Final = "no invocation sleeps through what it waits for"
APPLIES: Final = "every record can be applied"
REPLAYS: Final = "handlers replay what they did"

_HOLDING: Final = (STATUS_RUNNING, STATUS_BACKING_OFF, STATUS_SUSPENDED, STATUS_PAUSED)
_ACTIVE: Final = (STATUS_RUNNING, STATUS_BACKING_OFF)
_EXCUSES: Final = (408, 503)
"""Codes of failed attempts that are the history's own doing."""
_decode_chunk: Final = msgspec.msgpack.Decoder(AttemptChunk).decode
_decode_failed: Final = msgspec.msgpack.Decoder(AttemptFailed).decode

Object = tuple[str, str]
Result = tuple[bytes | None, Failure | None]


def _is(row: Invocation | None, statuses: tuple[int, ...]) -> bool:
    return row is not None and row.status in statuses


class Observer:
    """One partition as its log tells it.

    Attributes:
        store: its rows; several partitions share one.
        invocations: by id, as the rows have them.
        progress: after each LSN; index 0 is before the first.
        results: of every invocation that completed; more than one where an id began anew, after
            its first invocation had been purged.
    """

    def __init__(
        self,
        own: PartitionRange,
        store: MemoryStore,
        forget: Callable[[InvocationId], None],
    ) -> None:
        """Begin before the first record; `forget` hears of invocations that are purged."""
        self.own = own
        self.store = store
        self._forget = forget
        self._progress_row = keys.PROGRESS + own.first
        self.transaction = Transaction(store)
        self._machine = Machine(self.transaction, Progress(), own)
        self.progress = [self._machine.progress()]
        self._open_effects = OpenEffects(self.transaction, store, own)
        self.invocations: dict[InvocationId, Invocation] = {}
        self.results: dict[InvocationId, list[Result]] = {}
        self._completed: set[InvocationId] = set()
        self.locks: dict[bytes, Lock] = {}
        self._holders: dict[Object, InvocationId] = {}
        self._queues: dict[Object, list[InvocationId]] = {}
        self._active: set[bytes] = set()
        self._timers: dict[InvocationId, set[bytes]] = {}
        self._counts = [0] * len(STATUS_NAMES)

    def committed(self, batch: Batch) -> None:
        """Apply a batch of the log one record at a time."""
        for number, record in enumerate(batch.records):
            offset = batch.first_offset + number
            self._apply(Batch(offset, batch.record_time_ns, batch.epoch, [record]), record)

    def _apply(self, batch: Batch, record: Record) -> None:
        machine = self._machine
        counts = machine.context.counts_once(record)
        chunk = _decode_chunk(record.body) if record.kind == ATTEMPT_CHUNK else None
        current = chunk is not None and is_current(self.invocations, chunk)
        if chunk is not None and current and counts:
            check_state_seen(self.store, chunk, self.invocations[chunk.invocation_id])
        try:
            machine.apply_batch(batch, 1)
        except RecordFailedError as error:
            require(False, APPLIES, error)
        operations = self.transaction.take()
        progress = machine.progress()
        self.store.write([*operations, (self._progress_row, encode_progress(progress))])
        self.progress.append(progress)
        effects = machine.take_effects()
        if counts:
            self._look_at(record)
        wrote = chunk is not None and not current and bool(operations)
        require(not wrote, SUPERSEDED, f"{chunk} wrote {operations}")
        answered = [item for item in effects if isinstance(item, effect.Answer)]
        for item in answered:
            self._answered(item)
        self._follow(operations, [item.invocation_id for item in answered])
        require(
            list(progress.counts) == self._counts,
            ROWS_AGREE,
            f"LSN {progress.applied_lsn}: counted {progress.counts}, rows say {self._counts}",
        )
        self._open_effects.follow(record, effects, counts=counts)

    def _look_at(self, record: Record) -> None:
        """Attempts may fail for what a history does to them, and for nothing else."""
        if record.kind != ATTEMPT_FAILED:
            return
        failed = _decode_failed(record.body)
        excused = failed.code in _EXCUSES or TRANSIENT in failed.message
        require(excused, REPLAYS, f"[{failed.code}] {failed.message} {failed.stacktrace}")

    def _answered(self, item: effect.Answer) -> None:
        invocation_id, row = item.invocation_id, item.invocation
        again = invocation_id in self._completed
        require(not again, ONCE, f"{invocation_id.hex()} completes again: {item}")
        self._completed.add(invocation_id)
        self.results.setdefault(invocation_id, []).append((row.output, row.failure))

    # Rows ----------------------------------------------------------------------------------------

    def _follow(self, operations: list[PutOrDelete], answered: list[InvocationId]) -> None:
        """Take the rows that a record changed, and check those that belong together."""
        changed: dict[InvocationId, Invocation | None] = {}
        before: dict[InvocationId, Invocation | None] = {}
        for key, value in operations:
            table = key[:1]
            if table == keys.INVOCATIONS:
                invocation_id = InvocationId(key[1:])
                before[invocation_id] = self.invocations.get(invocation_id)
                changed[invocation_id] = None if value is None else decode_invocation(value)
            elif table == keys.ACTIVE:
                (self._active.discard if value is None else self._active.add)(key[1:])
            elif table == keys.OWN_TIMERS:
                self._take_timer(InvocationId(key[1:25]), key, written=value is not None)
            elif table == keys.LOCKS:
                if value is None:
                    self.locks.pop(key[1:], None)
                else:
                    self.locks[key[1:]] = decode_lock(value)
            elif table == keys.EVENTS and value is not None:
                event = decode_event(value)
                require(event.code != 571, REPLAYS, event)
        for invocation_id in answered:
            row = changed.get(invocation_id)
            if row is not None and row.status != STATUS_COMPLETED:
                # Kept for no time at all, and begun anew by the same record.
                was = before.pop(invocation_id)
                before[invocation_id] = None
                if was is not None:
                    self._counts[was.status] -= 1
                self._forgotten(invocation_id)
        objects = self._take_invocations(before, changed)
        for each in objects:
            self._check_object(each, changed)

    def _take_timer(self, invocation_id: InvocationId, row: bytes, *, written: bool) -> None:
        timers = self._timers.setdefault(invocation_id, set())
        (timers.add if written else timers.discard)(row)
        if not timers:
            del self._timers[invocation_id]

    def _take_invocations(
        self,
        before: dict[InvocationId, Invocation | None],
        changed: dict[InvocationId, Invocation | None],
    ) -> list[Object]:
        """The new rows; the objects that they touch."""
        objects: list[Object] = []
        for invocation_id, row in changed.items():
            was = before[invocation_id]
            if was is not None:
                self._counts[was.status] -= 1
            if row is None:
                self.invocations.pop(invocation_id, None)
                self._forgotten(invocation_id)
            else:
                self._counts[row.status] += 1
                self.invocations[invocation_id] = row
                self._check_row(invocation_id, was, row)
            either = row or was
            if either is not None and either.target_kind == KIND_OBJECT_EXCLUSIVE:
                assert either.key is not None
                objects.append((either.service, either.key))
        return list(dict.fromkeys(objects))

    def _forgotten(self, invocation_id: InvocationId) -> None:
        completed = invocation_id in self._completed
        require(completed, ONCE, f"{invocation_id.hex()} is forgotten before it completed")
        # The same id may begin again; whoever waits for this one's result has had it.
        self._completed.discard(invocation_id)
        self._forget(invocation_id)

    def _check_row(
        self, invocation_id: InvocationId, was: Invocation | None, row: Invocation
    ) -> None:
        name = f"{invocation_id.hex()} ({STATUS_NAMES[row.status]})"
        if was is not None:
            again = was.status == STATUS_COMPLETED and row.status != STATUS_COMPLETED
            require(not again, ONCE, f"{name} runs after it completed")
            require(row.attempt >= was.attempt, ROWS_AGREE, f"{name}: attempts go back")
        active = (invocation_id in self._active) == (row.status in _ACTIVE)
        require(active, ROWS_AGREE, f"{name}: its active row says something else")
        timers = len(self._timers.get(invocation_id, ()))
        require(timers == row.timers, ROWS_AGREE, f"{name}: {timers} timers, {row.timers} counted")
        if row.status == STATUS_SUSPENDED:
            waiting = row.waiting
            assert waiting is not None
            require(not is_satisfied(waiting, row), WAKES, f"{name} has {waiting}")
        if row.status == STATUS_COMPLETED:
            has_result = row.output is not None or row.failure is not None
            require(has_result, ONCE, f"{name} has no result")

    # Locks ---------------------------------------------------------------------------------------

    def _check_object(self, which: Object, changed: dict[InvocationId, Invocation | None]) -> None:
        """One holder at a time, and the next is who waited longest."""
        rows = self.invocations
        holder = self._holders.get(which)
        if holder is not None and not _is(rows.get(holder), _HOLDING):
            holder = None
        # Who ended while waiting leaves the queue; who starts is the first of it.
        queue = [
            each
            for each in self._queues.get(which, ())
            if _is(rows.get(each), (STATUS_PENDING, *_HOLDING))
        ]
        arrived: list[InvocationId] = []
        started = False
        for invocation_id, row in changed.items():
            if row is None or (row.service, row.key) != which or invocation_id == holder:
                continue
            if row.target_kind != KIND_OBJECT_EXCLUSIVE:
                continue
            if row.status == STATUS_PENDING and invocation_id not in queue:
                arrived.append(invocation_id)
            elif row.status in _HOLDING:
                require(holder is None, LOCKS, f"{which}: two hold it")
                first = queue.pop(0) if queue else invocation_id
                require(first == invocation_id, LOCKS, f"{which}: not who waited longest has it")
                holder, started = invocation_id, True
        queue += arrived
        require(holder is not None or not queue, LOCKS, f"{which}: free, and somebody waits")
        self._queues[which] = queue
        if holder is None:
            self._holders.pop(which, None)
        else:
            self._holders[which] = holder
        if started or holder is None:
            self._check_lock_row(which, holder)

    def _check_lock_row(self, which: Object, holder: InvocationId | None) -> None:
        suffix = keys.object_suffix(*which)
        lock = next((lock for row, lock in self.locks.items() if row[8:] == suffix), None)
        require(
            (None if lock is None else lock.holder) == holder,
            LOCKS,
            f"{which}: the row says {lock}, {holder!r} holds it",
        )

    # The end -------------------------------------------------------------------------------------

    def running(self) -> dict[InvocationId, int]:
        """The attempts that run, by invocation."""
        rows = ((InvocationId(each), self.invocations[InvocationId(each)]) for each in self._active)
        return {
            invocation_id: row.attempt
            for invocation_id, row in rows
            if row.status == STATUS_RUNNING
        }

    def own_timers(self) -> set[tuple[InvocationId, int]]:
        """Whom timers will wake, and by which completion."""
        return {
            (invocation_id, int.from_bytes(row[-4:], "big"))
            for invocation_id, rows in self._timers.items()
            for row in rows
        }

    def unfinished(self) -> list[tuple[InvocationId, Invocation]]:
        """The invocations that have not completed."""
        return [item for item in self.invocations.items() if item[1].status != STATUS_COMPLETED]

    @property
    def messages_left(self) -> int:
        """How many messages to other partitions the outbox holds."""
        return self._open_effects.messages

    def check_settled(self) -> None:
        """Nothing is left of what belongs to those who have not completed, when all have."""
        for table in (
            keys.ACTIVE,
            keys.LOCKS,
            keys.INBOX,
            keys.TIMERS,
            keys.OWN_TIMERS,
            keys.OUTBOX,
        ):
            rows = list(self.store.scan(table, keys.prefix_end(table)))
            require(not rows, ROWS_AGREE, f"left in table {table!r} at the end: {rows[:3]}")
        waiting = self._counts[STATUS_SCHEDULED] + self._counts[STATUS_PENDING]
        require(waiting == 0, ROWS_AGREE, "somebody still waits to begin")

    def check_journals(self) -> None:
        """Every journal holds a completion once, and as many entries as its row says."""
        for invocation_id, row in self.invocations.items():
            completions: set[int] = set()
            entries = 0
            for chunk in self.transaction.journal(invocation_id, row):
                for message_type, start, end in messages.split_frames(chunk.frames):
                    entries += 1
                    if message_type < messages.NOTIFICATION_FIRST or message_type == SIGNAL:
                        continue
                    number = Notification.FromString(chunk.frames[start:end]).completion_id
                    again = number in completions
                    require(not again, RECORDED_ONCE, f"{invocation_id.hex()}: {number} twice")
                    completions.add(number)
            counted = entries == row.entries
            require(counted, ROWS_AGREE, f"{invocation_id.hex()}: {entries} entries, {row}")

    def check_empty(self) -> None:
        """When everything was kept long enough, nothing of any invocation is left."""
        for table in (keys.INVOCATIONS, keys.JOURNAL, keys.EVENTS, keys.EXPIRY):
            rows = list(self.store.scan(table, keys.prefix_end(table)))
            require(not rows, ROWS_AGREE, f"left in table {table!r} after all: {rows[:3]}")
