"""The digest: a chain over each record's operations in order, deletes and all."""

import xxhash

from perdure.log.types import Record

from .support import Partition, add, greet
from .test_replay import history


def bin_bytes(value: bytes) -> bytes:
    """MessagePack of bytes, written out by hand."""
    for code, width in ((0xC4, 1), (0xC5, 2), (0xC6, 4)):
        if len(value) < 1 << 8 * width:
            return bytes([code]) + len(value).to_bytes(width, "big") + value
    raise AssertionError(len(value))


def twin(digest: bytes, operations: list[tuple[bytes, bytes | None]]) -> bytes:
    """The chain's next value, computed another way."""
    if not operations:
        return digest
    count = len(operations)
    data = digest + (bytes([0x80 + count]) if count < 16 else b"\xde" + count.to_bytes(2, "big"))
    for key, value in operations:
        data += bin_bytes(key) + (b"\xc0" if value is None else bin_bytes(value))
    return xxhash.xxh3_128_digest(data)


class NotingPartition(Partition):
    """Keeps what each batch writes."""

    def apply_noting(self, record: Record) -> list[tuple[bytes, bytes | None]]:
        """Apply one record and give its operations."""
        taken: list[list[tuple[bytes, bytes | None]]] = []
        take = self.transaction.take

        def noting() -> list[tuple[bytes, bytes | None]]:
            taken.append(take())
            return taken[-1].copy()

        self.transaction.take = noting  # type: ignore[method-assign]
        try:
            self.apply_records([record])
        finally:
            self.transaction.take = take  # type: ignore[method-assign]
        return taken[0]


def test_the_digest_is_the_chain_over_every_put_and_delete() -> None:
    deletes = 0
    for seed in range(8):
        records = history(seed, length=60).history
        partition = NotingPartition()
        digest = bytes(16)
        for record in records:
            operations = partition.apply_noting(record)
            deletes += sum(value is None for _, value in operations)
            digest = twin(digest, operations)
            assert partition.digest == digest
    assert deletes > 20


def test_a_delete_an_empty_value_and_nothing_are_three_things() -> None:
    digests: set[bytes] = set()
    for change in (None, b"", "absent"):
        partition = Partition()
        partition.apply(greet(1), add(2))
        transaction = partition.transaction
        transaction.put(b"s-one", b"1")
        if change is None:
            transaction.delete(b"s-two")
        elif isinstance(change, bytes):
            transaction.put(b"s-two", change)
        digests.add(transaction.commit_record(partition.digest))

    assert len(digests) == 3


def test_where_a_key_ends_and_its_value_begins_counts() -> None:
    digests: set[bytes] = set()
    for key, value in ((b"ab", b"c"), (b"a", b"bc"), (b"abc", b"")):
        transaction = Partition().transaction
        transaction.put(key, value)
        digests.add(transaction.commit_record(bytes(16)))

    assert len(digests) == 3
