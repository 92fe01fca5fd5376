"""What one record costs does not depend on how many there are beside it."""

from itertools import chain

import pytest

from perdure.core.storage.memory import MemoryStore
from perdure.log.types import Batch, Record
from perdure.partition_processor import transaction as transaction_module
from perdure.partition_processor.records import KINDS, Kill, encode_command
from perdure.partition_processor.tables import keys
from perdure.partition_processor.transaction import BoundedCache, Transaction

from .support import Partition, add, identity


class CountingKey(bytes):
    """A key that counts how often it is compared by order."""

    compared = 0

    def __le__(self, other: bytes) -> bool:
        CountingKey.compared += 1
        return bytes(self) <= other

    def __ge__(self, other: bytes) -> bool:
        CountingKey.compared += 1
        return bytes(self) >= other


def test_a_scan_does_not_look_at_the_other_writes_of_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The digest takes bytes, and nothing that is derived from them.
    monkeypatch.setattr(transaction_module, "_encode_operations", lambda _record: b"")
    transaction = Transaction(MemoryStore())
    ids = [identity(number, key=str(number)) for number in range(2_000)]
    for invocation_id in ids:
        transaction.put(CountingKey(keys.own_timer_row(invocation_id, 1)), b"v")
    transaction.commit_record(bytes(16))
    CountingKey.compared = 0
    for invocation_id in ids[:100]:
        prefix = keys.OWN_TIMERS + invocation_id
        ((row, _),) = transaction.scan(prefix, keys.prefix_end(prefix))
        assert row == prefix + b"\0\0\0\1"
    # Some share a partition key; a hundred walks over everything would be 200 000.
    assert CountingKey.compared < 20_000


def test_a_scan_sees_the_record_over_the_batch_over_the_store_and_nothing_rolled_back() -> None:
    store = MemoryStore()
    prefix = keys.JOURNAL + identity(1)
    rows = [prefix + bytes((number,)) for number in range(6)]
    store.write([(rows[0], b"store"), (rows[1], b"store"), (rows[2], b"store")])
    transaction = Transaction(store)
    transaction.put(rows[1], b"batch")
    transaction.put(rows[3], b"batch")
    transaction.delete(rows[2])
    transaction.commit_record(bytes(16))
    transaction.put(rows[4], b"rolled back")
    transaction.delete(rows[0])
    transaction.rollback_record()
    transaction.put(rows[3], b"record")
    transaction.put(keys.JOURNAL + identity(2), b"another's")
    found = transaction.scan(prefix, keys.prefix_end(prefix))
    assert found == [(rows[0], b"store"), (rows[1], b"batch"), (rows[3], b"record")]
    assert transaction.scan(prefix, keys.prefix_end(prefix), 2) == found[:2]
    transaction.delete_all(prefix)
    assert transaction.scan(prefix, keys.prefix_end(prefix)) == []
    transaction.commit_record(bytes(16))
    store.write(transaction.take())
    assert [key for key, _ in store.scan(b"", b"\xff")] == [keys.JOURNAL + identity(2)]


@pytest.mark.parametrize("entries_max", [1, 3, 64])
def test_a_cache_forgets_its_oldest_entries_and_never_the_newest(entries_max: int) -> None:
    cache: BoundedCache[int, int] = BoundedCache(entries_max)
    for number in chain(range(200), range(200)):
        cache.put(number, number)
        assert cache.get(number) == number
        held = sum(cache.get(other) is not None for other in range(200))
        assert held <= entries_max
    assert cache.get(0) is None


def test_a_scan_of_invocations_and_of_several_partition_keys_sees_the_batch_too() -> None:
    partition = Partition()
    first, second = add(1, "a"), add(2, "b")
    partition.apply(first)
    for command in (second, Kill(first.invocation_id)):
        record = Record(KINDS[type(command)], encode_command(command), (), 1, None, 0)
        batch = Batch(partition.machine.context.lsn + 1, 1_000, 1, [record])
        partition.machine.apply_batch(batch, 1)
    scan = partition.transaction.scan
    for table, ids in (
        (keys.INVOCATIONS, [first.invocation_id, second.invocation_id]),
        (keys.ACTIVE, [second.invocation_id]),
    ):
        assert [row[1:] for row, _ in scan(table, keys.prefix_end(table))] == ids
    one = keys.INVOCATIONS + second.invocation_id[:8]
    assert [row[1:] for row, _ in scan(one, keys.prefix_end(one))] == [second.invocation_id]
