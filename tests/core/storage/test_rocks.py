"""RocksStore on real disks: killed processes, torn logs, full disks, flipped bits, locks."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.core.errors import StorageCorruptError, StorageError, StorageLockedError
from perdure.core.random import SeededRandom
from perdure.core.storage.rocks import RocksStore

from ...conformance.kv_store import items

KEYS_PER_BATCH = 3


def batch(number: int) -> list[tuple[bytes, bytes | None]]:
    """Batch `number`: some keys of its own and one that all share."""
    own: list[tuple[bytes, bytes | None]] = [
        (b"%08d/%d" % (number, part), b"x" * 50) for part in range(KEYS_PER_BATCH)
    ]
    return [*own, (b"last", b"%d" % number)]


def surviving_batches(path: Path) -> int:
    """How many batches are there; fails unless they are whole and a prefix of what was written."""
    store = RocksStore.open(path)
    content = items(store)
    store.close()
    count = int(content.pop(b"last", b"-1")) + 1
    assert sorted(content) == [key for number in range(count) for key, _ in batch(number)[:-1]]
    return count


WRITER = """
import sys
from pathlib import Path
from perdure.core.storage.rocks import RocksStore

path, first = sys.argv[1], int(sys.argv[2])
store = RocksStore.open(path, write_buffer_bytes=256 * 1024)
number = first
while True:
    # As `batch` in the test does.
    store.write(
        [(b"%08d/%d" % (number, part), b"x" * 50) for part in range(3)]
        + [(b"last", b"%d" % number)]
    )
    if number % 7 == 0:
        store.sync()
        print(number, flush=True)
    number += 1
"""


def test_killed_process_loses_nothing_acknowledged_and_leaves_a_prefix(tmp_path: Path) -> None:
    random = SeededRandom(7)
    first = 0
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(first)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(1 + int(random.fraction() * 200)):
                acknowledged = int(writer.stdout.readline())
            # Somewhere in a later write, sync or flush.
            writer.kill()
            for line in writer.stdout:
                # The last line may be cut short.
                acknowledged = int(line) if line.endswith("\n") else acknowledged
        survivors = surviving_batches(tmp_path)
        assert survivors > acknowledged
        first = survivors


def test_torn_log_leaves_a_prefix_with_everything_synced(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path / "store")
    synced = 20
    for number in range(synced):
        store.write(batch(number))
    store.sync()
    (log,) = (tmp_path / "store").glob("*.log")
    synced_bytes = log.stat().st_size
    for number in range(synced, 60):
        store.write(batch(number))
    written_bytes = log.stat().st_size
    random = SeededRandom(3)
    counts = []
    for attempt in range(40):
        # The power fails: of what was not synced, some bytes are there and some may be wrong.
        image = tmp_path / f"image-{attempt}"
        shutil.copytree(tmp_path / "store", image, ignore=shutil.ignore_patterns("LOCK"))
        kept = synced_bytes + int(random.fraction() * (written_bytes - synced_bytes))
        damaged = synced_bytes + int(random.fraction() * (written_bytes - synced_bytes))
        content = bytearray((image / log.name).read_bytes()[: kept if attempt % 2 else None])
        if damaged < len(content):
            content[damaged] ^= 0xFF
        (image / log.name).write_bytes(content)
        counts.append(surviving_batches(image))
        shutil.rmtree(image)
    store.close()

    assert min(counts) >= synced
    assert max(counts) < 60
    assert len(set(counts)) > 5


def test_large_synced_batches_survive_the_switch_of_logs(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path, write_buffer_bytes=64 * 1024)
    for number in range(2_000):
        store.write(batch(number))
    store.sync()
    store.close()

    assert surviving_batches(tmp_path) == 2_000


FILLER = """
import resource, sys
from perdure.core.errors import StorageError
from perdure.core.storage.rocks import RocksStore

path, write_buffer_bytes, file_bytes_max = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# As on a full disk, writes fail from some byte on; Python ignores SIGXFSZ, so they do fail.
resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
store = RocksStore.open(path, write_buffer_bytes=write_buffer_bytes, compression=False)
number = 0
try:
    while True:
        store.write(
            [(b"%08d/%d" % (number, part), b"x" * 50) for part in range(3)]
            + [(b"last", b"%d" % number)]
        )
        if number % 10 == 0:
            store.sync()
            print("acknowledged", number, flush=True)
        number += 1
except StorageError as error:
    print("failed", error.code, error, flush=True)
for use in (store.sync, lambda: store.write([])):
    try:
        use()
    except StorageError:
        print("refused", flush=True)
store.close()
print("closed", flush=True)
"""


@pytest.mark.parametrize(
    ("write_buffer_bytes", "file_bytes_max"),
    # The log fails first; the logs stay short, and merging tables in the background fails first.
    [(32 * 1024 * 1024, 256 * 1024), (128 * 1024, 256 * 1024)],
    ids=["log", "tables"],
)
def test_full_disk_fails_clearly_and_keeps_what_was_acknowledged(
    tmp_path: Path, write_buffer_bytes: int, file_bytes_max: int
) -> None:
    filler = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path), f"{write_buffer_bytes}", f"{file_bytes_max}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = filler.stdout.splitlines()
    acknowledged = [int(line.split()[1]) for line in lines if line.startswith("acknowledged")]
    survivors = surviving_batches(tmp_path)

    (failed,) = [line for line in lines if line.startswith("failed")]
    assert "PD0101" in failed
    assert str(tmp_path) in failed
    assert "File too large" in failed
    assert "ulimit -f" in failed
    assert lines[-3:] == ["refused", "refused", "closed"]
    assert survivors > acknowledged[-1]


def test_directory_open_in_this_process_is_refused(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path)
    with pytest.raises(StorageLockedError, match="stop that process") as refused:
        RocksStore.open(tmp_path)
    store.close()

    assert refused.value.code == "PD0104"
    RocksStore.open(tmp_path).close()


def test_directory_open_in_another_process_is_refused(tmp_path: Path) -> None:
    holder_code = (
        "import sys\n"
        "from perdure.core.storage.rocks import RocksStore\n"
        "store = RocksStore.open(sys.argv[1])\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder_code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StorageLockedError, match="another process"):
            RocksStore.open(tmp_path)
        holder.kill()
    RocksStore.open(tmp_path).close()


def test_flipped_bit_in_a_table_is_told_by_get_and_by_scan(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path, compression=False)
    store.write([(b"%06d" % number, b"x" * 100) for number in range(2_000)])
    store.close()
    # Opening moves what the log holds into a table.
    store = RocksStore.open(tmp_path)
    store.close()
    (table,) = tmp_path.glob("*.sst")
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    store = RocksStore.open(tmp_path)

    failures = 0
    for number in range(2_000):
        try:
            assert store.get(b"%06d" % number) == b"x" * 100
        except StorageCorruptError:
            failures += 1
    assert 0 < failures < 2_000
    for reverse in (False, True):
        scan = store.scan(b"", b"\xff", reverse=reverse)
        with pytest.raises(StorageCorruptError, match="checksum mismatch"):
            list(scan)
    # Nothing was written wrong, so writing goes on.
    store.write([(b"more", b"1")])
    store.close()


def test_damaged_manifest_is_corruption(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path)
    store.write([(b"a", b"1")])
    store.close()
    (manifest,) = tmp_path.glob("MANIFEST-*")
    manifest.write_bytes(manifest.read_bytes()[:10])

    with pytest.raises(StorageCorruptError, match="restore"):
        RocksStore.open(tmp_path)


def test_impossible_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="cannot open the store"):
            RocksStore.open(path)


def test_wrong_types_are_bugs_and_poison_nothing(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path)
    for key, value in (("text", b"value"), (b"key", "text"), (bytearray(b"key"), b"value")):
        with pytest.raises((KeyError, ValueError)):
            store.write([(b"first", b"1"), (key, value)])  # type: ignore[list-item]
    store.write([(b"second", b"2")])
    content = items(store)
    store.close()

    assert content == {b"second": b"2"}


def test_store_knows_its_path(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path)
    store.close()

    assert store.path == str(tmp_path)
