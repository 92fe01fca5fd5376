"""RocksStore in the profile of the log: trimmed data leaves the disk, whatever pins its files."""

import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from perdure.core.errors import StorageCorruptError, StorageError
from perdure.core.random import SeededRandom
from perdure.core.storage.rocks import RocksStore

from ...conformance.kv_store import items

MIB = 1024 * 1024
LOGLETS = 8
START, END = b"d", b"e"


def key(loglet: int, offset: int) -> bytes:
    """As the log makes its keys."""
    return b"d" + struct.pack(">QQ", loglet, offset)


def disk_bytes(path: Path, pattern: str = "*") -> int:
    """What the files of a store hold. Files that go while we look are empty by then."""
    total = 0
    for file in path.glob(pattern):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def comes_below(path: Path, limit: int, pattern: str = "*") -> None:
    """Assert that less than `limit` bytes stay. RocksDB deletes a file that is no longer needed
    only when the flushes and compactions that were running beside its last use have ended."""
    deadline = time.monotonic() + 60
    while disk_bytes(path, pattern) >= limit and time.monotonic() < deadline:
        time.sleep(0.01)
    assert disk_bytes(path, pattern) < limit


def open_log(path: Path) -> RocksStore:
    """A log's store that flushes every half MiB."""
    return RocksStore.open(path, profile="log", write_buffer_bytes=MIB // 2)


def append(store: RocksStore, random: SeededRandom, first: int, count: int) -> int:
    """Append `count` rounds of one value per loglet; gives their bytes."""
    total = 0
    for offset in range(first, first + count):
        # No two values are alike, and no compression helps.
        value = os.urandom(512 + int(random.fraction() * 7_000))
        store.write([(key(loglet, offset), value) for loglet in range(LOGLETS)])
        total += len(value) * LOGLETS
    return total


def trim(store: RocksStore, loglets: range, end: int) -> None:
    """Delete what is below `end` in each of the loglets."""
    for loglet in loglets:
        store.delete_range(key(loglet, 0), key(loglet, end))


def offsets(store: RocksStore, loglet: int) -> list[int]:
    """What a loglet holds; fails when a key is not its own."""
    found = []
    for name, _ in store.scan(key(loglet, 0), key(loglet + 1, 0)):
        number, offset = struct.unpack(">QQ", name[1:])
        assert number == loglet
        found.append(offset)
    return found


def test_directory_stays_small_when_the_log_is_trimmed(tmp_path: Path) -> None:
    store = open_log(tmp_path)
    random = SeededRandom(1)
    appended = 0
    largest = 0
    for first in range(0, 2_000, 100):
        appended += append(store, random, first, 100)
        trim(store, range(LOGLETS), first + 50)
        store.reclaim(START, END)
        largest = max(largest, disk_bytes(tmp_path))

    assert appended > 60 * MIB
    assert largest < 10 * MIB
    assert [offsets(store, loglet) for loglet in range(LOGLETS)] == [[*range(1_950, 2_000)]] * 8
    store.close()


def test_loglet_that_is_not_trimmed_does_not_keep_the_others_on_disk(tmp_path: Path) -> None:
    store = open_log(tmp_path)
    random = SeededRandom(2)
    appended = 0
    for first in range(0, 1_000, 100):
        appended += append(store, random, first, 100)
        trim(store, range(1, LOGLETS), first + 100)
        store.reclaim(START, END)
    living = appended // LOGLETS

    # Every file that was flushed holds values of the loglet that was not trimmed.
    assert appended > 30 * MIB
    comes_below(tmp_path, living + 6 * MIB, "*.blob")
    assert offsets(store, 0) == [*range(1_000)]
    store.close()
    store = open_log(tmp_path)
    assert offsets(store, 0) == [*range(1_000)]
    assert len(items(store)) == 1_000
    store.close()


def test_values_are_not_moved_while_most_of_them_live(tmp_path: Path) -> None:
    store = open_log(tmp_path)
    append(store, SeededRandom(3), 0, 800)
    store.reclaim(START, END)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.blob")}
    trim(store, range(3), 800)
    store.reclaim(START, END)
    after = {file.name: file.read_bytes() for file in tmp_path.glob("*.blob")}

    assert len(before) > 10
    assert after == before
    assert len(items(store)) == 800 * (LOGLETS - 3)
    store.close()


def test_whole_trim_empties_the_directory(tmp_path: Path) -> None:
    store = open_log(tmp_path)
    append(store, SeededRandom(4), 0, 500)
    store.write([(b"kmark", b"kept")])
    full = disk_bytes(tmp_path)
    trim(store, range(LOGLETS), 500)
    store.reclaim(START, END)

    assert full > 10 * MIB
    comes_below(tmp_path, 1, "*.blob")
    comes_below(tmp_path, MIB)
    assert items(store) == {b"kmark": b"kept"}
    store.close()


def test_close_does_not_wait_for_a_long_reclaim_and_loses_nothing(tmp_path: Path) -> None:
    store = open_log(tmp_path)
    append(store, SeededRandom(5), 0, 500)
    trim(store, range(1, LOGLETS), 500)
    store.write([(b"kmark", b"kept")])
    entered = threading.Event()
    outcomes: list[str] = []

    def reclaim() -> None:
        try:
            while True:
                entered.set()
                store.reclaim(START, END)
        except StorageError as closed:
            outcomes.append(closed.message)

    thread = threading.Thread(target=reclaim)
    thread.start()
    entered.wait()
    store.close()
    thread.join()
    store = open_log(tmp_path)

    assert len(outcomes) == 1
    assert "closed" in outcomes[0]
    assert offsets(store, 0) == [*range(500)]
    assert len(items(store)) == 501
    assert store.get(b"kmark") == b"kept"
    store.close()


def test_crash_keeps_a_prefix_of_writes_and_range_deletes(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path / "store", profile="log")
    states: list[set[int]] = [set()]
    synced_bytes = synced = 0
    for offset in range(60):
        store.write([(key(0, offset), b"x" * 300)])
        states.append(states[-1] | {offset})
        if offset % 4 == 3:
            trim(store, range(1), offset - 1)
            states.append({kept for kept in states[-1] if kept >= offset - 1})
        if offset == 20:
            store.sync()
            synced = len(states) - 1
            (log,) = (tmp_path / "store").glob("*.log")
            synced_bytes = log.stat().st_size
    written_bytes = log.stat().st_size
    random = SeededRandom(6)
    survivors = []
    for attempt in range(40):
        # The power fails: of what was not synced, the first bytes are there.
        image = tmp_path / f"image-{attempt}"
        shutil.copytree(tmp_path / "store", image, ignore=shutil.ignore_patterns("LOCK"))
        kept_bytes = synced_bytes + int(random.fraction() * (written_bytes - synced_bytes + 1))
        (image / log.name).write_bytes((image / log.name).read_bytes()[:kept_bytes])
        copy = RocksStore.open(image, profile="log")
        survivors.append(states.index(set(offsets(copy, 0))))
        copy.close()
        shutil.rmtree(image)
    store.close()

    assert min(survivors) >= synced
    assert len(set(survivors)) > 10


KILLED = """
import sys
from perdure.core.storage.rocks import RocksStore
from tests.core.storage.test_rocks_log import *

store = open_log(Path(sys.argv[1]))
random = SeededRandom(7)
for first in range(0, 10_000, 100):
    append(store, random, first, 100)
    trim(store, range(1, LOGLETS), first + 50)
    store.sync()
    print(first, flush=True)
    store.reclaim(START, END)
"""


@pytest.mark.parametrize("rounds", [3, 6])
def test_killed_beside_a_reclaim_loses_nothing(tmp_path: Path, rounds: int) -> None:
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as writer:
        assert writer.stdout is not None
        for _ in range(rounds):
            acknowledged = int(writer.stdout.readline())
        # In the reclaim, or in the appends after it.
        writer.kill()
        for line in writer.stdout:
            acknowledged = int(line) if line.endswith("\n") else acknowledged
    store = open_log(tmp_path)
    kept, trimmed = offsets(store, 0), offsets(store, 1)
    store.close()

    assert kept == [*range(len(kept))]
    assert len(kept) >= acknowledged + 100
    assert trimmed == [*range(trimmed[0], len(kept))]
    assert trimmed[0] in (acknowledged + 50, acknowledged + 150)


def test_flipped_bit_in_a_value_file_is_told(tmp_path: Path) -> None:
    store = open_log(tmp_path)
    append(store, SeededRandom(8), 0, 20)
    # Closing writes what is buffered to files.
    store.close()
    blob = max(tmp_path.glob("*.blob"), key=lambda file: file.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    store = open_log(tmp_path)

    for reverse in (False, True):
        scan = store.scan(START, END, reverse=reverse)
        with pytest.raises(StorageCorruptError):
            list(scan)
    store.close()


def test_directory_takes_the_profile_it_is_opened_with(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path)
    append(store, SeededRandom(11), 0, 100)
    store.reclaim(START, END)
    assert disk_bytes(tmp_path, "*.blob") == 0
    store.close()
    store = open_log(tmp_path)
    append(store, SeededRandom(9), 100, 200)
    store.reclaim(START, END)
    values = disk_bytes(tmp_path, "*.blob")
    assert values > 5 * MIB
    store.close()
    store = RocksStore.open(tmp_path)
    trim(store, range(LOGLETS), 200)
    append(store, SeededRandom(10), 300, 300)
    store.reclaim(START, END)
    comes_below(tmp_path, values + 1, "*.blob")
    store.close()
    store = open_log(tmp_path)

    assert [offsets(store, loglet) for loglet in range(LOGLETS)] == [[*range(200, 600)]] * LOGLETS
    store.close()
