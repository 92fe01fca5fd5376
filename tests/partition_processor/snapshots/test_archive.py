"""Taking snapshots: what one holds, crashes at every step, several nodes, and what is refused."""

from contextlib import suppress

import pytest

from perdure.core.random import Random, SeededRandom
from perdure.partition_processor.snapshots import directory
from perdure.partition_processor.snapshots import writer as writer_module
from perdure.partition_processor.snapshots.archive import Archive
from perdure.partition_processor.snapshots.errors import (
    ForeignSnapshotError,
    SnapshotCorruptError,
    SnapshotFormatError,
    SnapshotRefusedError,
    SnapshotRepositoryError,
)
from perdure.partition_processor.snapshots.manifest import (
    ClusterName,
    Latest,
    Manifest,
    decode,
    encode,
    partition_folder,
)
from perdure.partition_processor.snapshots.writer import SnapshotWriter
from perdure.partition_processor.tables import keys
from perdure.testing.simulation.files import SimulationFiles

from ..support import Partition, add, greet
from .lab import CLUSTER, PLACE, Rows, archive_on, finish, grown, restore, take, writer_of


def test_a_snapshot_and_its_log_give_the_rows_and_digest_of_the_original() -> None:
    for seed in range(12):
        original = grown(seed, length=120)
        records = original.history.copy()
        archive = archive_on(SimulationFiles())
        cut = SeededRandom(seed).bits(16) % len(records)
        first = Partition()
        first.apply_records(records[:cut] or records[:1])
        manifest = take(archive, first)
        # The original goes on; the snapshot does not.
        copy = restore(archive, manifest)
        assert (copy.digest, copy.content()) == (first.digest, first.content())
        assert manifest.digest == first.digest.hex()
        for record in records[manifest.lsn :]:
            copy.apply_records([record])

        assert copy.digest == original.digest
        assert copy.content() == original.content()


def test_a_snapshot_is_of_the_moment_it_was_begun_whatever_is_written_meanwhile() -> None:
    partition = grown()
    archive = archive_on(SimulationFiles())
    before = partition.content()
    writer = writer_of(archive, partition)
    steps = 0
    done = False
    while not done:
        partition.apply(greet(1000 + steps), add(2000 + steps))
        done = writer.step()
        steps += 1
    assert writer.manifest is not None
    copy = restore(archive, writer.manifest)

    assert writer.manifest.lsn == writer.lsn < partition.machine.context.lsn
    assert copy.content() == before


def test_only_the_partitions_own_rows_are_taken() -> None:
    own = Partition()
    own.apply(greet(1))
    row = keys.STATE + b"\x00" * 8 + b"x"
    own.store.write([(row, b"1"), (keys.RESTORING + b"\x00" * 8, b"a mark of this store alone")])
    manifest = take(archive_on(SimulationFiles()), own)

    assert manifest.rows == len(own.content()) - 2  # The progress row and the mark.


def test_rows_are_cut_into_blocks_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition()
    partition.apply(greet(1))
    rows = [(keys.STATE + bytes(8) + b"%06d" % number, b"v" * 300) for number in range(5000)]
    rows.append((keys.STATE + bytes(8) + b"x", b"w" * 1_000_000))
    partition.store.write(list(rows))
    files = SimulationFiles()
    archive = archive_on(files)
    writer = writer_of(archive, partition, file_bytes=400_000)
    read: list[int] = []
    next_rows = writer._next_rows

    def noting() -> list[tuple[bytes, bytes]]:
        found = next_rows()
        read.append(sum(len(key) + len(value) for key, value in found[:-1]))
        return found

    monkeypatch.setattr(writer, "_next_rows", noting)
    manifest = finish(writer)

    assert len(manifest.files) > 3
    assert len(read) > 10
    # However much there is, a step holds one block, and one row over it at most.
    assert max(read) < 128 * 1024
    assert (
        sum(file.rows for file in manifest.files) == manifest.rows == len(partition.content()) - 1
    )
    assert restore(archive, manifest).content() == partition.content()


def test_a_partition_without_rows_has_a_snapshot_without_files() -> None:
    partition = Partition()
    partition.apply(greet(1))
    partition.store.delete_range(b"a", b"p")
    archive = archive_on(SimulationFiles())
    manifest = take(archive, partition)

    assert (manifest.files, manifest.rows) == ((), 0)
    assert restore(archive, manifest).digest == partition.digest


def test_a_partition_that_applied_nothing_is_refused() -> None:
    with pytest.raises(SnapshotRefusedError, match="nothing to keep"):
        take(archive_on(SimulationFiles()), Partition())


# Crashes ---------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, so that there are many steps."""
    monkeypatch.setattr(writer_module, "ROWS_MAX", 8)


def check_whole(files: SimulationFiles, states: dict[int, Rows]) -> Manifest | None:
    """Everything that counts as a snapshot is one, and the pointer names one; the newest."""
    archive = archive_on(files)
    archive.claim()
    complete, problems = archive.complete(0)
    assert problems == []
    for manifest in complete:
        assert restore(archive, manifest).content() == states[manifest.lsn]
    latest = archive.latest(0)
    assert latest is None or latest in complete
    return latest


def crash_everywhere(chance: Random | None) -> tuple[int, int]:
    """Take a second snapshot and let the power fail at each of its operations in turn.

    Gives how many operations there are, and after how many the second one is the newest.
    """
    where = found_new = 0
    while True:
        partition = grown(length=20)
        files = SimulationFiles()
        archive = archive_on(files)
        archive.claim()
        first = take(archive, partition, seed=1)
        states = {first.lsn: partition.content()}
        partition.apply(greet(900), add(901))
        files.fail_at(where)
        reported = False
        try:
            second = take(archive, partition, seed=2, file_bytes=600)
            reported = True
            archive.remove_old(0, 1)
        except SnapshotRepositoryError:
            pass
        states[partition.machine.context.lsn] = partition.content()
        after = files.crash(chance)
        latest = check_whole(after, states)

        assert latest is not None
        if reported:
            # Told as taken: from then on a log is trimmed up to it.
            assert latest == second
            found_new += 1
        # The next try works, whatever the crash has left there, and clears it away.
        partition.apply(greet(902))
        again = archive_on(after)
        third = take(again, partition, seed=3)
        again.remove_old(0, 1)
        assert again.latest(0) == third
        folder = f"{PLACE}/{partition_folder(0)}"
        assert all(third.name in path for path in after.paths() if "rows" in path), where
        assert after.names(folder) == [third.name, "latest"]
        if files._fail_at is not None:
            return where, found_new
        where += 1


@pytest.mark.usefixtures("small_blocks")
def test_a_crash_at_any_step_leaves_the_former_snapshot_or_the_new_one_whole() -> None:
    operations, found_new = crash_everywhere(None)

    assert operations > 25
    assert 0 < found_new < operations
    for seed in range(4):
        crash_everywhere(SeededRandom(seed))


def publish_too_early(patch: pytest.MonkeyPatch) -> None:
    """The pointer before the metadata that it leads to."""
    publish = Archive.publish

    def early(self: Archive, manifest: Manifest) -> None:
        pointer = encode(Latest(1, manifest.name, manifest.lsn))
        name = f"{partition_folder(manifest.partition)}/latest"
        self.repository.replace(name, self.repository.read(name, 0, 1 << 20), pointer)
        publish(self, manifest)

    patch.setattr(Archive, "publish", early)


def commit_without_sync(patch: pytest.MonkeyPatch) -> None:
    """A name for bytes that are not durable."""

    def commit(self: directory._Object) -> None:
        assert self._file is not None
        with self._repository._told():
            self._files.rename(self._partial, self._path)
            self._files.sync_directory(self._path.rpartition("/")[0])
            self._file = None

    patch.setattr(directory._Object, "commit", commit)


def forget_the_directory(patch: pytest.MonkeyPatch) -> None:
    """Names that are not durable."""
    patch.setattr(SimulationFiles, "sync_directory", lambda *_: None)


def remove_rows_first(patch: pytest.MonkeyPatch) -> None:
    """Old snapshots lose their rows before their metadata."""
    delete = directory.DirectoryRepository.delete

    def rows_first(self: directory.DirectoryRepository, name: str) -> None:
        folder = name.rpartition("/")[0]
        for other in self.names(folder):
            if other.startswith("rows"):
                delete(self, f"{folder}/{other}")
        delete(self, name)

    patch.setattr(directory.DirectoryRepository, "delete", rows_first)


@pytest.mark.parametrize(
    "breakage", [publish_too_early, commit_without_sync, forget_the_directory, remove_rows_first]
)
def test_the_crashes_find_a_broken_order(
    breakage: "type[object]", monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage(monkeypatch)

    with pytest.raises((AssertionError, SnapshotCorruptError)):
        crash_everywhere(None)


@pytest.mark.usefixtures("small_blocks")
def test_a_full_disk_fails_the_snapshot_and_nothing_else() -> None:
    partition = grown(length=20)
    where = 0
    while True:
        files = SimulationFiles()
        archive = archive_on(files)
        first = take(archive, partition, seed=1)
        files.fail_at(where, poison=False)
        with suppress(SnapshotRepositoryError):
            take(archive, partition, seed=2)
        beyond = files._fail_at is not None
        files.fail_at(None)
        # Whatever was refused, the process goes on and the next one is as good as any.
        latest = archive.latest(0)
        assert latest is not None
        assert latest.lsn == first.lsn
        third = take(archive, partition, seed=3)
        archive.remove_old(0, 1)
        assert restore(archive, third).content() == partition.content()
        if beyond:
            break
        where += 1
    assert where > 10


# Several nodes ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_blocks")
def test_two_nodes_that_write_at_once_do_not_hurt_each_other() -> None:
    records = grown(length=40).history
    for seed in range(60):
        random = SeededRandom(seed)
        files = SimulationFiles()
        writers: list[tuple[Archive, SnapshotWriter, Rows]] = []
        for number, cut in ((1, 20), (2, 20 + random.bits(1) * 15)):
            partition = Partition()
            partition.apply_records(records[:cut])
            archive = archive_on(files, node=f"node-{number}")
            writer = writer_of(
                archive, partition, node=f"node-{number}", seed=number, file_bytes=600
            )
            writers.append((archive, writer, partition.content()))
        archives = [archive for archive, _, _ in writers]
        running = list(writers)
        while running:
            item = running[random.bits(8) % len(running)]
            if item[1].step():
                running.remove(item)
            # Neither clears away what the other is about to finish.
            if not random.bits(3):
                mine = [archive for archive in archives if archive not in [i[0] for i in running]]
                for archive in mine:
                    archive.remove_old(0, 2)
        newest = max(writer.lsn for _, writer, _ in writers)
        for archive, writer, content in writers:
            assert writer.manifest is not None
            assert restore(archive, writer.manifest).content() == content
            latest = archive.latest(0)
            assert latest is not None
            assert latest.lsn == newest


def test_the_pointer_never_goes_back() -> None:
    files = SimulationFiles()
    slow, fast = archive_on(files, node="slow"), archive_on(files, node="fast")
    partition = grown(length=20)
    late = writer_of(slow, partition, node="slow")
    partition.apply(greet(900))
    newest = take(fast, partition, seed=5)
    finish(late)

    assert slow.latest(0) == newest
    assert [manifest.lsn for manifest in slow.complete(0)[0]] == [newest.lsn, late.lsn]


def test_a_pointer_that_changes_while_it_is_read_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = SimulationFiles()
    partition = grown(length=20)
    replace = directory.DirectoryRepository.replace
    other = archive_on(files, node="other")
    once = [True]

    def interrupted(
        self: directory.DirectoryRepository, name: str, expected: bytes | None, value: bytes
    ) -> bool:
        if once.pop() if once else False:
            ahead = Partition()
            ahead.apply_records(partition.history)
            ahead.apply(greet(900))
            take(other, ahead, seed=9)
        return replace(self, name, expected, value)

    monkeypatch.setattr(directory.DirectoryRepository, "replace", interrupted)
    archive = archive_on(files)
    mine = take(archive, partition)

    latest = archive.latest(0)
    assert latest is not None
    assert latest.lsn == mine.lsn + 1


def test_old_ones_go_and_those_of_others_that_are_unfinished_stay() -> None:
    files = SimulationFiles()
    archive, other = archive_on(files), archive_on(files, node="other")
    partition = grown(length=20)
    taken: list[Manifest] = []
    for number in range(5):
        partition.apply(greet(900 + number))
        taken.append(take(archive, partition, seed=number))
    unfinished = writer_of(other, partition, node="other", seed=77)
    unfinished.step()
    own = writer_of(archive, partition, seed=78)
    own.step()
    own.abandon()

    assert archive.remove_old(0, 2) == 3
    assert archive.complete(0)[0] == taken[:2:-1]
    assert finish(unfinished) in archive.complete(0)[0]
    assert own._name not in archive.names(0)
    with pytest.raises(SnapshotRefusedError):
        own.step()


# What is refused -------------------------------------------------------------------------------


def test_a_repository_of_another_cluster_is_refused_with_the_way_out() -> None:
    files = SimulationFiles()
    archive_on(files).claim()
    archive_on(files).claim()
    for cluster in (ClusterName("perdure", "f" * 16), ClusterName("other", CLUSTER.fingerprint)):
        with pytest.raises(ForeignSnapshotError) as refused:
            archive_on(files, cluster=cluster).claim()
        assert CLUSTER.fingerprint in str(refused.value)
        assert "set snapshots.directory" in str(refused.value)


def moved(files: SimulationFiles, old: str, new: str) -> None:
    """Copy a snapshot's files, as somebody does who tidies up by hand."""
    for path in files.paths():
        if path.startswith(old):
            target = new + path.removeprefix(old)
            files.make_directory(target.rpartition("/")[0])
            file = files.create(target)
            file.write(files.read(path, 0, 1 << 30) or b"")


def test_a_snapshot_of_another_cluster_or_partition_is_refused() -> None:
    files = SimulationFiles()
    partition = grown(length=20)
    manifest = take(archive_on(files), partition)
    folder = f"{PLACE}/partition-0/{manifest.name}"
    moved(files, folder, f"{PLACE}/partition-4/{manifest.name}")
    moved(files, folder, f"{PLACE}/partition-0/{manifest.name}x")

    with pytest.raises(ForeignSnapshotError, match="is a snapshot of partition 0, not of 4"):
        archive_on(files).manifest(4, manifest.name)
    with pytest.raises(SnapshotCorruptError, match="name its directory so"):
        archive_on(files).manifest(0, manifest.name + "x")
    other = archive_on(files, cluster=ClusterName("perdure", "f" * 16))
    with pytest.raises(ForeignSnapshotError, match=r"set snapshots\.directory"):
        other.manifest(0, manifest.name)
    complete, problems = archive_on(files).complete(0)
    assert complete == [manifest]
    assert [problem.code for problem in problems] == ["PD0922"]


def test_metadata_says_when_it_is_damaged_or_too_new() -> None:
    text = encode(Latest(1, "a", 1))
    assert decode(text, Latest, "x") == Latest(1, "a", 1)
    for place in range(len(text) - 1):
        damaged = bytearray(text)
        damaged[place] ^= 1
        with pytest.raises(SnapshotCorruptError, match=r"^x "):
            decode(bytes(damaged), Latest, "x")
    with pytest.raises(SnapshotFormatError, match="format 2"):
        decode(encode(Latest(2, "a", 1)), Latest, "x")


def test_every_table_is_in_a_snapshot_but_for_progress_and_mark() -> None:
    letters = {
        value
        for name, value in vars(keys).items()
        if name.isupper() and isinstance(value, bytes) and len(value) == 1
    }

    assert letters - set(keys.TABLES) == {keys.PROGRESS, keys.RESTORING, keys.ASIDE}
    assert len(keys.TABLES) == len(set(keys.TABLES))
