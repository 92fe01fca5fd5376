"""The contract of KvStore (`core/storage/kv.py`) as tests.

A test file derives a class from `KvStoreSuite` and gives it a fixture ``harness``.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import pytest

from perdure.core.errors import StorageError
from perdure.core.storage.kv import KvStore


class KvHarness(Protocol):
    """How the suite gets at one implementation."""

    def open(self) -> KvStore:
        """Open the store, with what the one opened before has left; the test need not close it."""
        ...

    def failing_writes(self, store: KvStore) -> AbstractContextManager[None]:
        """Within this context, a write of two MiB fails."""
        ...


def items(store: KvStore, start: bytes = b"", end: bytes = b"\xff" * 8) -> dict[bytes, bytes]:
    """Everything in a range, in the order that a scan gave it."""
    return dict(store.scan(start, end))


class KvStoreSuite:
    """Every sentence of the contract that can be tested without killing the machine."""

    def test_missing_key_is_none(self, harness: KvHarness) -> None:
        store = harness.open()

        assert store.get(b"nobody") is None

    def test_write_is_visible_at_once(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", b"1"), (b"b", b"2")])

        assert store.get(b"a") == b"1"
        assert items(store) == {b"a": b"1", b"b": b"2"}

    def test_later_operation_on_the_same_key_wins(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2"), (b"a", b"3")])
        store.write([(b"c", b"1"), (b"c", None)])

        assert items(store) == {b"a": b"3", b"b": b"2"}

    def test_empty_key_empty_value_and_empty_batch_are_allowed(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([])
        store.write([(b"", b""), (b"\x00", b"zero")])

        assert store.get(b"") == b""
        assert list(store.scan(b"", b"\x01")) == [(b"", b""), (b"\x00", b"zero")]

    def test_deleting_a_missing_key_does_nothing(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", None)])

        assert items(store) == {}

    def test_large_values_come_back_whole(self, harness: KvHarness) -> None:
        store = harness.open()
        value = bytes(range(256)) * 4096 * 5
        store.write([(b"large", value)])

        assert store.get(b"large") == value

    def test_keys_order_as_unsigned_bytes_shorter_first(self, harness: KvHarness) -> None:
        store = harness.open()
        keys = [b"", b"\x00", b"\x00\x00", b"a", b"a\x00", b"a\x7f", b"a\x80", b"b", b"\xff"]
        store.write([(key, key) for key in reversed(keys)])

        assert [key for key, _ in store.scan(b"", b"\xff\xff")] == keys
        assert [key for key, _ in store.scan(b"", b"\xff\xff", reverse=True)] == keys[::-1]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_scan_takes_the_start_and_leaves_the_end(
        self, harness: KvHarness, reverse: bool
    ) -> None:
        store = harness.open()
        store.write([(b"%d" % number, b"x") for number in range(10)])

        def scanned(start: bytes, end: bytes) -> list[bytes]:
            keys = [key for key, _ in store.scan(start, end, reverse=reverse)]
            return keys[::-1] if reverse else keys

        assert scanned(b"3", b"6") == [b"3", b"4", b"5"]
        assert scanned(b"3\x00", b"5\x00") == [b"4", b"5"]
        assert scanned(b"", b"1") == [b"0"]
        assert scanned(b"8", b"\xff") == [b"8", b"9"]
        assert scanned(b"4", b"4") == []
        assert scanned(b"6", b"3") == []
        assert scanned(b":", b"\xff") == []
        assert scanned(b"", b"0") == []

    @pytest.mark.parametrize("reverse", [False, True])
    def test_scan_sees_the_store_as_it_was(self, harness: KvHarness, reverse: bool) -> None:
        store = harness.open()
        before = [(b"%03d" % number, b"old") for number in range(0, 200, 2)]
        store.write([*before])
        scan = store.scan(b"", b"\xff", reverse=reverse)
        # Nothing has been asked of the scan yet: it still sees what was there when it was made.
        store.write([(b"%03d" % number, b"new") for number in range(200)])
        seen = [next(scan)]
        store.delete_range(b"", b"\xff")
        seen += scan

        assert seen == (before[::-1] if reverse else before)
        assert items(store) == {}

    def test_several_scans_run_side_by_side(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", b"1"), (b"b", b"2")])
        up = store.scan(b"", b"c")
        down = store.scan(b"", b"c", reverse=True)

        assert [next(up), next(down), next(up), next(down)] == [
            (b"a", b"1"),
            (b"b", b"2"),
            (b"b", b"2"),
            (b"a", b"1"),
        ]
        assert next(up, None) is None
        assert next(up, None) is None
        assert next(down, None) is None

    def test_scans_outlive_the_bounds_they_were_given(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"%03d" % number, b"x%d" % number) for number in range(300)])

        def scan(first: int, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
            # The bounds are objects of their own that nobody else holds.
            return store.scan(b"%03d" % first, b"%03d" % (first + 100), reverse=reverse)

        scans = [scan(first, reverse) for first in range(200) for reverse in (False, True)]
        gc.collect()
        # What is freed too early is overwritten by these.
        junk = [b"%03d" % number for number in range(5_000)]
        seen: list[list[tuple[bytes, bytes]]] = [[] for _ in scans]
        for _ in range(100):
            for row, running in zip(seen, scans, strict=True):
                row.append(next(running))

        for position, row in enumerate(seen):
            first = position // 2
            expected = [(b"%03d" % key, b"x%d" % key) for key in range(first, first + 100)]
            assert row == (expected[::-1] if position % 2 else expected)
        assert all(next(running, None) is None for running in scans)
        assert len(junk) == 5_000

    def test_delete_range_takes_the_start_and_leaves_the_end(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"%d" % number, b"x") for number in range(6)])
        store.delete_range(b"1", b"4")
        store.delete_range(b"5", b"5")
        store.delete_range(b"5", b"0")

        assert list(items(store)) == [b"0", b"4", b"5"]
        assert store.get(b"1") is None

    def test_delete_range_is_ordered_with_writes(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", b"before")])
        store.delete_range(b"", b"z")
        store.write([(b"b", b"after")])
        store.close()
        store = harness.open()

        assert items(store) == {b"b": b"after"}

    def test_reclaim_changes_nothing_that_can_be_read(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"%03d" % number, b"x" * 1_000) for number in range(200)])
        store.delete_range(b"", b"150")
        store.write([(b"007", b"again"), (b"199", None)])
        scan = store.scan(b"", b"\xff")
        first = next(scan)
        for start, end in ((b"", b"150"), (b"", b"\xff"), (b"5", b"5"), (b"5", b"1"), (b"a", b"b")):
            store.reclaim(start, end)
        expected = [b"007", *(b"%03d" % number for number in range(150, 199))]

        assert [first[0], *(key for key, _ in scan)] == expected
        assert list(items(store)) == expected
        assert store.get(b"000") is None
        store.write([(b"000", b"new")])
        store.close()
        assert list(items(harness.open())) == [b"000", *expected]

    def test_reclaim_runs_beside_the_writer(self, harness: KvHarness) -> None:
        store = harness.open()
        outcomes: list[str] = []
        started = threading.Event()

        def reclaim() -> None:
            try:
                while True:
                    store.reclaim(b"", b"\xff")
                    started.set()
            except StorageError as closed:
                outcomes.append(closed.message)

        thread = threading.Thread(target=reclaim)
        thread.start()
        started.wait()
        for number in range(500):
            store.write([(b"%03d" % number, b"x" * 1_000)])
            store.delete_range(b"", b"%03d" % max(0, number - 9))
        seen = list(items(store))
        # It ends what runs, and what comes later is refused.
        store.close()
        thread.join()

        assert seen == [b"%03d" % number for number in range(490, 500)]
        assert len(outcomes) == 1
        assert "closed" in outcomes[0]
        assert list(items(harness.open())) == seen

    def test_content_survives_close_and_open(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", b"1"), (b"b", b"2")])
        store.sync()
        store.write([(b"a", None), (b"c", b"3")])
        store.close()
        store = harness.open()

        assert items(store) == {b"b": b"2", b"c": b"3"}

    def test_closed_store_refuses_everything(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", b"1"), (b"b", b"2")])
        scan = store.scan(b"", b"z")
        assert next(scan) == (b"a", b"1")
        store.close()
        store.close()

        for use in (
            lambda: store.get(b"a"),
            lambda: store.write([(b"a", b"2")]),
            lambda: store.delete_range(b"a", b"b"),
            lambda: list(store.scan(b"", b"z")),
            lambda: next(scan),
            lambda: store.reclaim(b"a", b"b"),
            store.sync,
        ):
            with pytest.raises(StorageError, match="closed"):
                use()

    def test_running_scan_does_not_keep_a_closed_store_open(self, harness: KvHarness) -> None:
        store = harness.open()
        store.write([(b"a", b"1"), (b"b", b"2")])
        scan = store.scan(b"", b"z")
        next(scan)
        store.close()

        assert items(harness.open()) == {b"a": b"1", b"b": b"2"}

    def test_sync_runs_beside_the_writer(self, harness: KvHarness) -> None:
        store = harness.open()
        done = threading.Event()
        failures: list[BaseException] = []

        def sync() -> None:
            try:
                while not done.is_set():
                    store.sync()
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=sync) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(500):
            store.write([(b"%d" % number, b"x" * 100), (b"last", b"%d" % number)])
        done.set()
        for thread in threads:
            thread.join()
        store.close()
        store = harness.open()

        assert failures == []
        assert store.get(b"last") == b"499"
        assert len(items(store)) == 501

    def test_close_waits_for_a_sync_in_another_thread(self, harness: KvHarness) -> None:
        store = harness.open()
        outcomes: list[str] = []
        started = threading.Event()

        def sync() -> None:
            try:
                while True:
                    store.sync()
                    started.set()
            except StorageError as closed:
                outcomes.append(closed.message)

        thread = threading.Thread(target=sync)
        thread.start()
        started.wait()
        store.write([(b"a", b"1")])
        store.close()
        thread.join()

        assert len(outcomes) == 1
        assert "closed" in outcomes[0]
        assert items(harness.open()) == {b"a": b"1"}

    def test_failed_write_poisons_the_store_until_it_is_opened_again(
        self, harness: KvHarness
    ) -> None:
        store = harness.open()
        store.write([(b"a", b"1")])
        store.sync()
        store.write([(b"b", b"2")])
        with harness.failing_writes(store), pytest.raises(StorageError):
            store.write([(b"c", b"3" * 1024 * 1024), (b"d", b"4" * 1024 * 1024)])

        uses: list[Callable[[], None]] = [
            lambda: store.write([(b"e", b"5")]),
            lambda: store.delete_range(b"a", b"b"),
            lambda: store.reclaim(b"a", b"b"),
            store.sync,
        ]
        for use in uses:
            with pytest.raises(StorageError):
                use()
        # The cause is gone and the store opens: what was synced is there, the failed batch is not.
        store.close()
        store = harness.open()
        store.write([(b"f", b"6")])
        store.sync()

        assert items(store) == {b"a": b"1", b"b": b"2", b"f": b"6"}
