"""The transaction: what apply reads and writes, one record nested in one batch.

Writes of a record are kept apart until the record is through; then they join the batch's, and the
digest takes them in, in their order. A record that fails leaves nothing behind. Live invocations,
held locks and the state of objects in use are kept decoded in bounded caches.
"""

from collections.abc import Iterable
from itertools import chain, islice
from typing import Final, Generic, TypeVar

import msgspec
import xxhash

from ..core.ids import InvocationId
from ..core.storage.kv import KvStore, PutOrDelete
from .tables import keys
from .tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_PENDING,
    STATUS_RUNNING,
    Invocation,
    decode_invocation,
    encode_invocation,
)
from .tables.journal import Chunk, decode_chunk
from .tables.locks import Lock, decode_lock, encode_lock

Key = TypeVar("Key")
Value = TypeVar("Value")

_ABSENT: Final = object()
_encode_operations: Final = msgspec.msgpack.Encoder().encode
_GROUP_BYTES: Final = 9
_NOT_GROUPED: Final = (keys.INVOCATIONS, keys.LOCKS)
_KEPT_DECODED: Final = (STATUS_RUNNING, STATUS_BACKING_OFF, STATUS_PENDING)


class BoundedCache(Generic[Key, Value]):
    """A map that forgets its oldest entries when full; what it forgets is read from the store."""

    __slots__ = ("_entries", "_entries_max")

    def __init__(self, entries_max: int) -> None:
        """Hold at most `entries_max` entries."""
        self._entries: dict[Key, Value] = {}
        self._entries_max = entries_max

    def get(self, key: Key) -> Value | None:
        """The value, or None when it is not held."""
        return self._entries.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Hold the value, making room if need be."""
        entries = self._entries
        entries[key] = value
        if len(entries) > self._entries_max:
            # Several at once: finding the first one walks over where the deleted ones were.
            for oldest in list(islice(entries, max(1, self._entries_max // 16))):
                del entries[oldest]

    def discard(self, key: Key) -> None:
        """Forget the key if it is held."""
        self._entries.pop(key, None)


class Transaction:
    """Reads through this batch's writes; collects the writes of one record at a time."""

    LIVE_INVOCATIONS_MAX: Final = 20_000
    OBJECT_STATES_MAX: Final = 4_096
    OBJECT_STATE_BYTES_MAX: Final = 16 * 1024
    OBJECT_STATE_ENTRIES_MAX: Final = 64

    def __init__(self, store: KvStore) -> None:
        """Read from `store`; writing to it is the caller's, see `take`."""
        self._store = store
        self._batch: dict[bytes, bytes | None] = {}
        self._record: dict[bytes, bytes | None] = {}
        # For scans: the keys of both by table and partition key, but for the newest, which the next
        # scan sorts in. Few batches have any. Rolled back ones may be left.
        self._written: dict[bytes, dict[bytes, None]] = {}
        self._unsorted: list[bytes] = []
        self._record_invocations: dict[InvocationId, Invocation | None] = {}
        self._record_locks: dict[bytes, Lock | None] = {}
        self._record_states: list[tuple[bytes, bytes, bytes | None]] = []
        self._invocations: BoundedCache[InvocationId, Invocation] = BoundedCache(
            self.LIVE_INVOCATIONS_MAX
        )
        self._locks: BoundedCache[bytes, Lock] = BoundedCache(self.LIVE_INVOCATIONS_MAX)
        self._states: BoundedCache[bytes, dict[bytes, bytes]] = BoundedCache(self.OBJECT_STATES_MAX)

    # Raw rows ------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """A row as of this record."""
        value = self._record.get(key, _ABSENT)
        if value is _ABSENT:
            value = self._batch.get(key, _ABSENT)
            if value is _ABSENT:
                return self._store.get(key)
        return value  # type: ignore[return-value]

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row."""
        self._record[key] = value
        self._unsorted.append(key)

    def delete(self, key: bytes) -> None:
        """Delete a row."""
        self._record[key] = None
        self._unsorted.append(key)

    def _sort_in(self) -> None:
        """Have scans find the newest keys."""
        written = self._written
        for key in self._unsorted:
            written.setdefault(key[:_GROUP_BYTES], {})[key] = None
        self._unsorted.clear()

    def _written_rows(self, first: bytes, end: bytes) -> dict[bytes, bytes | None]:
        """What this batch, the record included, has written from `first` to before `end`."""
        group = first[:_GROUP_BYTES]
        candidates: Iterable[bytes]
        one_group = len(group) == _GROUP_BYTES and end <= keys.prefix_end(group)
        if one_group and group[:1] not in _NOT_GROUPED:
            self._sort_in()
            candidates = self._written.get(group, ())
        else:
            candidates = chain(self._batch, self._record)
        rows: dict[bytes, bytes | None] = {}
        for key in candidates:
            if first <= key < end:
                for source in (self._record, self._batch):
                    if key in source:
                        rows[key] = source[key]
                        break
        return rows

    def scan(
        self, first: bytes, end: bytes, count_max: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """The rows from `first` to before `end` as of this record, in order.

        Quick within one partition key; over several it looks at every write of the batch, and so
        it does in the tables of invocations and locks.
        """
        written = self._written_rows(first, end)
        rows = {key: value for key, value in written.items() if value is not None}
        stored = 0
        for key, value in self._store.scan(first, end):
            if key not in written:
                rows[key] = value
                stored += 1
                if stored == count_max:
                    break
        found = sorted(rows.items())
        return found if count_max is None else found[:count_max]

    def delete_all(self, prefix: bytes) -> None:
        """Delete every row whose key starts with `prefix`."""
        for key, _ in self.scan(prefix, keys.prefix_end(prefix)):
            self.delete(key)

    # Invocations ---------------------------------------------------------------------------------

    def invocation(self, invocation_id: InvocationId) -> Invocation | None:
        """An invocation as of this record, or None if it was never heard of."""
        if invocation_id in self._record_invocations:
            return self._record_invocations[invocation_id]
        invocation = self._invocations.get(invocation_id)
        if invocation is None:
            value = self.get(keys.INVOCATIONS + invocation_id)
            if value is not None:
                invocation = decode_invocation(value)
        return invocation

    def put_invocation(self, invocation_id: InvocationId, invocation: Invocation) -> None:
        """Write an invocation's row."""
        self._record_invocations[invocation_id] = invocation
        self._record[keys.INVOCATIONS + invocation_id] = encode_invocation(invocation)

    def delete_invocation(self, invocation_id: InvocationId) -> None:
        """Delete an invocation's row."""
        self._record_invocations[invocation_id] = None
        self._record[keys.INVOCATIONS + invocation_id] = None

    # Locks ---------------------------------------------------------------------------------------

    def lock(self, partition_key: bytes, object_name: bytes) -> Lock | None:
        """The lock of an object as of this record, or None when it is free."""
        row = partition_key + object_name
        if row in self._record_locks:
            return self._record_locks[row]
        lock = self._locks.get(row)
        if lock is None:
            value = self.get(keys.LOCKS + row)
            if value is not None:
                lock = decode_lock(value)
        return lock

    def put_lock(self, partition_key: bytes, object_name: bytes, lock: Lock | None) -> None:
        """Write an object's lock; None frees it."""
        row = partition_key + object_name
        self._record_locks[row] = lock
        self._record[keys.LOCKS + row] = None if lock is None else encode_lock(lock)

    # State ---------------------------------------------------------------------------------------

    def put_state(
        self, partition_key: bytes, object_name: bytes, key: bytes, value: bytes | None
    ) -> None:
        """Write one entry of an object's state; None clears it."""
        row = partition_key + object_name
        state_row = keys.STATE + row + key
        self._record[state_row] = value
        self._unsorted.append(state_row)
        self._record_states.append((row, key, value))

    def object_state(self, partition_key: bytes, object_name: bytes) -> dict[bytes, bytes]:
        """All state of an object, between records; the caller must not change the map."""
        row = partition_key + object_name
        state = self._states.get(row)
        if state is None:
            prefix = keys.STATE + row
            end = keys.prefix_end(prefix)
            start = len(prefix)
            state = {key[start:]: value for key, value in self._store.scan(prefix, end)}
            self._sort_in()
            for key in self._written.get(prefix[:_GROUP_BYTES], ()):
                if key.startswith(prefix) and key in self._batch:
                    value = self._batch[key]
                    if value is None:
                        state.pop(key[start:], None)
                    else:
                        state[key[start:]] = value
            if self._is_small(state):
                self._states.put(row, state)
        return state

    def state_now(self, partition_key: bytes, object_name: bytes) -> dict[bytes, bytes]:
        """All state of an object as of this record; the caller must not change the map."""
        state = self.object_state(partition_key, object_name)
        if self._record_states:
            row = partition_key + object_name
            changes = [item for item in self._record_states if item[0] == row]
            if changes:
                state = state.copy()
                for _, key, value in changes:
                    if value is None:
                        state.pop(key, None)
                    else:
                        state[key] = value
        return state

    def clear_state(self, partition_key: bytes, object_name: bytes) -> None:
        """Clear all state of an object."""
        for key in sorted(self.state_now(partition_key, object_name)):
            self.put_state(partition_key, object_name, key, None)

    def _is_small(self, state: dict[bytes, bytes]) -> bool:
        """Whether an object's state may be kept in memory."""
        return (
            len(state) <= self.OBJECT_STATE_ENTRIES_MAX
            and sum(map(len, state.values())) <= self.OBJECT_STATE_BYTES_MAX
        )

    # Journal -------------------------------------------------------------------------------------

    def journal(self, invocation_id: InvocationId, invocation: Invocation) -> list[Chunk]:
        """All chunks of an invocation in order, as of this record."""
        chunks = [decode_chunk(value) for value in invocation.head]
        if invocation.rows:
            start = keys.JOURNAL + invocation_id
            rows = self.scan(start, keys.prefix_end(start))
            chunks.extend(decode_chunk(value) for _, value in rows)
        return chunks

    # Record and batch ----------------------------------------------------------------------------

    def commit_record(self, digest: bytes) -> bytes:
        """Keep the record's writes; give the digest that follows `digest` by them."""
        if not self._record:
            return digest
        # MessagePack has the lengths and tells a delete from an empty value, so that no two lists
        # of operations read alike; it takes a third of the time of joining them here.
        operations = _encode_operations(self._record)
        self._batch.update(self._record)
        self._record = {}
        self._refresh_caches()
        return xxhash.xxh3_128_digest(digest + operations)

    def _refresh_caches(self) -> None:
        for invocation_id, invocation in self._record_invocations.items():
            # Those that wait for long would push out those that are worked on.
            if invocation is None or invocation.status not in _KEPT_DECODED:
                self._invocations.discard(invocation_id)
            else:
                self._invocations.put(invocation_id, invocation)
        self._record_invocations = {}
        if self._record_locks:
            for row, lock in self._record_locks.items():
                if lock is None:
                    self._locks.discard(row)
                else:
                    self._locks.put(row, lock)
            self._record_locks = {}
        if self._record_states:
            for row, key, value in self._record_states:
                state = self._states.get(row)
                if state is not None:
                    if value is None:
                        state.pop(key, None)
                    else:
                        state[key] = value
                        if not self._is_small(state):
                            self._states.discard(row)
            self._record_states = []

    def rollback_record(self) -> None:
        """Forget the record's writes."""
        self._record = {}
        self._record_invocations = {}
        self._record_locks = {}
        self._record_states = []

    def take(self) -> list[PutOrDelete]:
        """The batch's writes, for one atomic write; the batch is empty afterwards.

        Until the caller has written them, reads miss them: take and write without anything between.
        """
        operations = list(self._batch.items())
        self._batch = {}
        self._written = {}
        self._unsorted = []
        return operations

    def active(self, first: bytes, last: bytes) -> list[tuple[InvocationId, Invocation]]:
        """All invocations that have an attempt or wait for the next, of a range of partition keys.

        Those that an older release left there besides are given too.
        """
        found: list[tuple[InvocationId, Invocation]] = []
        end = keys.prefix_end(keys.ACTIVE + last)
        for key, _ in self._store.scan(keys.ACTIVE + first, end):
            invocation_id = InvocationId(key[1:])
            invocation = self.invocation(invocation_id)
            assert invocation is not None, f"active row without invocation: {invocation_id.hex()}"
            found.append((invocation_id, invocation))
        return found
