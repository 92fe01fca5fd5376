"""A partition on a memory store and an archive on simulated files, without a loop."""

from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.partition_processor.snapshots.archive import Archive
from perdure.partition_processor.snapshots.directory import DirectoryRepository
from perdure.partition_processor.snapshots.manifest import ClusterName, Manifest
from perdure.partition_processor.snapshots.reader import SnapshotReader
from perdure.partition_processor.snapshots.restore import StoreRestore
from perdure.partition_processor.snapshots.writer import SnapshotWriter
from perdure.testing.simulation.files import SimulationFiles

from ..support import Partition
from ..test_replay import history

CLUSTER = ClusterName("perdure", "0123456789abcdef")
PLACE = "/snapshots"

Rows = dict[bytes, bytes]


def archive_on(
    files: SimulationFiles, *, node: str = "node-1", cluster: ClusterName = CLUSTER
) -> Archive:
    """The archive of a node."""
    return Archive(DirectoryRepository(PLACE, files), cluster, node)


def writer_of(
    archive: Archive, partition: Partition, *, node: str = "node-1", seed: int = 0, **more: int
) -> SnapshotWriter:
    """A snapshot that is begun now."""
    return SnapshotWriter(
        archive,
        partition.store,
        partition.own,
        log=partition.own.number,
        node=node,
        random_bits=SeededRandom(seed).bits(32),
        created_ns=1_700_000_000_000_000_000,
        **more,
    )


def finish(writer: SnapshotWriter) -> Manifest:
    """Do all steps of a snapshot."""
    while not writer.step():
        pass
    assert writer.manifest is not None
    return writer.manifest


def take(archive: Archive, partition: Partition, *, seed: int = 0, **more: int) -> Manifest:
    """A whole snapshot of a partition as it is now."""
    return finish(writer_of(archive, partition, seed=seed, **more))


def restore(
    archive: Archive,
    manifest: Manifest,
    store: MemoryStore | None = None,
    own: Partition | None = None,
) -> Partition:
    """A partition built from a snapshot alone."""
    target = Partition(store) if own is None else own
    reader = SnapshotReader(archive, manifest)
    for _ in reader.verify():
        pass
    into = StoreRestore(target.store, target.own)
    into.begin(manifest.name)
    for rows in reader.blocks():
        into.add(rows)
    into.finish(manifest.progress)
    target.reopen()
    return target


def grown(seed: int = 1, length: int = 60) -> Partition:
    """A partition with rows of many tables."""
    return history(seed, length)
