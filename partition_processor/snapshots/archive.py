"""The archive: which snapshots a repository keeps for a partition, and which is the newest.

Order is everything here: rows, then metadata, then the pointer, each durable before the next. What
has no metadata is no snapshot, whatever else of it lies there.
"""

from typing import Final

from ...core.errors import PerdureError
from .errors import ForeignSnapshotError, SnapshotCorruptError, SnapshotRepositoryError
from .manifest import (
    CLUSTER,
    DAMAGED,
    FORMAT,
    LATEST,
    METADATA,
    METADATA_BYTES_MAX,
    ClusterMark,
    ClusterName,
    Latest,
    Manifest,
    decode,
    encode,
    lsn_of,
    node_mark,
    partition_folder,
)
from .repository import SnapshotRepository

_POINTER_TRIES: Final = 10


class Archive:
    """The snapshots of one cluster. Every method may wait for the repository: not for the loop.

    Raises SnapshotRepositoryError wherever the repository does.
    """

    def __init__(self, repository: SnapshotRepository, cluster: ClusterName, node: str) -> None:
        """Take where they are kept, whose they are, and the node that looks."""
        self.repository = repository
        self.cluster = cluster
        self._node = node

    def claim(self) -> None:
        """Make the repository this cluster's, or see that it is.

        Raises ForeignSnapshotError, SnapshotCorruptError or SnapshotFormatError.
        """
        where = f"{self.repository.place}/{CLUSTER}"
        mark = encode(ClusterMark(FORMAT, self.cluster))
        found = self.repository.read(CLUSTER, 0, METADATA_BYTES_MAX)
        if found is None and not self.repository.replace(CLUSTER, None, mark):
            found = self.repository.read(CLUSTER, 0, METADATA_BYTES_MAX)
        if found is None:
            return
        owner = decode(found, ClusterMark, where).cluster
        if owner != self.cluster:
            raise ForeignSnapshotError(
                f"{self.repository.place} keeps the snapshots of cluster {owner.name!r} "
                f"({owner.fingerprint}), and this is cluster {self.cluster.name!r} "
                f"({self.cluster.fingerprint}): set snapshots.directory to a directory of its own"
            )

    def names(self, partition: int) -> list[str]:
        """What may be snapshots of a partition, by LSN, newest first."""
        found = self.repository.names(partition_folder(partition))
        return sorted((name for name in found if lsn_of(name) is not None), reverse=True)

    def manifest(self, partition: int, name: str) -> Manifest | None:
        """A snapshot's metadata; None when it was never finished.

        Raises SnapshotCorruptError, SnapshotFormatError or ForeignSnapshotError.
        """
        path = f"{partition_folder(partition)}/{name}/{METADATA}"
        where = f"{self.repository.place}/{path}"
        data = self.repository.read(path, 0, METADATA_BYTES_MAX)
        if data is None:
            return None
        manifest = decode(data, Manifest, where)
        if manifest.cluster != self.cluster:
            raise ForeignSnapshotError(
                f"{where} is a snapshot of cluster {manifest.cluster.name!r} "
                f"({manifest.cluster.fingerprint}), and this is cluster {self.cluster.name!r} "
                f"({self.cluster.fingerprint}): take it away, or set snapshots.directory to a "
                "directory of this cluster"
            )
        if manifest.partition != partition:
            raise ForeignSnapshotError(
                f"{where} is a snapshot of partition {manifest.partition}, not of {partition}: "
                f"move it to {partition_folder(manifest.partition)}"
            )
        if manifest.name != name:
            raise SnapshotCorruptError(
                f"{where} is of the snapshot {manifest.name}: name its directory so"
            )
        damaged = f"{partition_folder(partition)}/{name}/{DAMAGED}"
        reason = self.repository.read(damaged, 0, METADATA_BYTES_MAX)
        if reason is not None:
            raise SnapshotCorruptError(
                f"{reason.decode(errors='replace')} (found before; to have it tried again, remove "
                f"{self.repository.place}/{damaged})"
            )
        return manifest

    def mark_damaged(self, manifest: Manifest, reason: str) -> None:
        """Have a snapshot whose rows were found damaged count for nothing from now on.

        Else the log would be trimmed up to it again.
        """
        folder = partition_folder(manifest.partition)
        item = self.repository.write(f"{folder}/{manifest.name}/{DAMAGED}")
        try:
            item.write(reason.encode())
            item.commit()
        finally:
            item.abandon()

    def complete(self, partition: int) -> tuple[list[Manifest], list[PerdureError]]:
        """A partition's snapshots, newest first, and what is wrong with those left out."""
        found: list[Manifest] = []
        problems: list[PerdureError] = []
        for name in self.names(partition):
            try:
                manifest = self.manifest(partition, name)
            except SnapshotRepositoryError:
                raise
            except PerdureError as error:
                problems.append(error)
            else:
                if manifest is not None:
                    found.append(manifest)
        return found, problems

    def latest(self, partition: int) -> Manifest | None:
        """The snapshot that the pointer names; None when there is none yet.

        Raises SnapshotCorruptError, SnapshotFormatError or ForeignSnapshotError.
        """
        pointer = self._read_pointer(partition)[1]
        if pointer is None:
            return None
        manifest = self.manifest(partition, pointer.name)
        if manifest is None:
            raise SnapshotCorruptError(
                f"{self.repository.place}/{partition_folder(partition)}/{LATEST} names "
                f"{pointer.name}, which is not there: take a new snapshot with "
                f"perdure snapshots create --partition {partition}"
            )
        return manifest

    def publish(self, manifest: Manifest) -> None:
        """Finish a snapshot whose rows are durable: its metadata, then the pointer to it.

        The pointer never goes back: when another node was faster with a newer one, it stays.

        Raises SnapshotCorruptError, SnapshotFormatError or ForeignSnapshotError.
        """
        folder = partition_folder(manifest.partition)
        item = self.repository.write(f"{folder}/{manifest.name}/{METADATA}")
        try:
            item.write(encode(manifest))
            item.commit()
        finally:
            item.abandon()
        pointer = encode(Latest(FORMAT, manifest.name, manifest.lsn))
        for _ in range(_POINTER_TRIES):
            stored, present = self._read_pointer(manifest.partition, damaged_is_absent=True)
            if present is not None and present.lsn > manifest.lsn:
                return
            if self.repository.replace(f"{folder}/{LATEST}", stored, pointer):
                return
        raise SnapshotRepositoryError(
            f"snapshots in {self.repository.place}: other nodes wrote {folder}/{LATEST} each time "
            f"that this one tried; the snapshot {manifest.name} is there all the same"
        )

    def _read_pointer(
        self, partition: int, *, damaged_is_absent: bool = False
    ) -> tuple[bytes | None, Latest | None]:
        path = f"{partition_folder(partition)}/{LATEST}"
        data = self.repository.read(path, 0, METADATA_BYTES_MAX)
        if data is None:
            return None, None
        try:
            return data, decode(data, Latest, f"{self.repository.place}/{path}")
        except SnapshotCorruptError:
            if damaged_is_absent:
                return data, None
            raise

    def remove_old(self, partition: int, kept: int) -> int:
        """Delete all but the `kept` newest snapshots, and what this node left unfinished.

        Call it while this node takes no snapshot of the partition. Those of other clusters and
        damaged ones stay, for people to look at. Gives how many snapshots went.
        """
        folder = partition_folder(partition)
        own = f"-{node_mark(self._node)}-"
        pointer = self._read_pointer(partition, damaged_is_absent=True)[1]
        seen = removed = 0
        for name in self.names(partition):
            try:
                manifest = self.manifest(partition, name)
            except SnapshotRepositoryError:
                raise
            except PerdureError:
                continue
            if manifest is None:
                if own in name:
                    self.repository.delete_all(f"{folder}/{name}")
                continue
            seen += 1
            if seen > kept and (pointer is None or pointer.name != name):
                # First what makes it a snapshot: a crash in between leaves no half of one.
                self.repository.delete(f"{folder}/{name}/{METADATA}")
                self.repository.delete_all(f"{folder}/{name}")
                removed += 1
        return removed
