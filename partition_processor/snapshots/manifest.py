"""What a snapshot consists of, and what is written about it: names, metadata, the pointer.

Below the repository's root::

    cluster                                     whose snapshots these are
    partition-3/latest                          the newest one, by name
    partition-3/<lsn>-<node>-<random>/rows-1    rows, in files of bounded size
    partition-3/<lsn>-<node>-<random>/metadata  written last: without it there is no snapshot
    partition-3/<lsn>-<node>-<random>/damaged   why it is not used any more, if somebody found out

``<lsn>`` has 20 digits, so that names sort by LSN; ``<node>`` is a hash of the node's name, by
which a node knows what it left unfinished; ``<random>`` keeps apart what two nodes write at once.
Metadata is JSON around JSON: the inner text, and its checksum.
"""

from typing import Final, TypeVar

import msgspec
import xxhash

from ..status import SnapshotStatus
from .errors import SnapshotCorruptError, SnapshotFormatError

FORMAT: Final = 1
"""Of everything here; raised when an older release could not read it."""

CLUSTER: Final = "cluster"
LATEST: Final = "latest"
METADATA: Final = "metadata"
DAMAGED: Final = "damaged"
METADATA_BYTES_MAX: Final = 4 * 1024 * 1024

_Kind = TypeVar("_Kind", bound=msgspec.Struct)


class ClusterName(msgspec.Struct, frozen=True):
    """A cluster; `fingerprint` keeps two of one name apart."""

    name: str
    fingerprint: str


class ClusterMark(msgspec.Struct, frozen=True):
    """Whose snapshots a repository keeps."""

    format: int
    cluster: ClusterName


class SnapshotFile(msgspec.Struct, frozen=True):
    """One file of rows.

    Attributes:
        name: within the snapshot.
        bytes: its length.
        checksum: xxh3_128 of all of it, hex.
    """

    name: str
    bytes: int
    rows: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True):
    """A snapshot's metadata.

    Attributes:
        name: of the snapshot, within its partition.
        partition_count: how many partitions the cluster has.
        log: the log that goes on after `lsn`.
        lsn: the last one whose effect is in it.
        epoch: highest leader epoch announced by then.
        digest: chain over everything applied up to `lsn`, hex.
        progress: the progress row, which is in no file of rows.
        rows: in all files.
        bytes: of all files.
        node: that took it.
        created_ns: wall clock of that node, nanoseconds since 1970.
    """

    format: int
    name: str
    cluster: ClusterName
    partition: int
    partition_count: int
    log: int
    lsn: int
    epoch: int
    digest: str
    progress: bytes
    rows: int
    bytes: int
    node: str
    created_ns: int
    files: tuple[SnapshotFile, ...]

    def status(self) -> SnapshotStatus:
        """What is told of it to people."""
        return SnapshotStatus(
            name=self.name,
            lsn=self.lsn,
            epoch=self.epoch,
            digest=self.digest,
            rows=self.rows,
            bytes=self.bytes,
            node=self.node,
            created_ns=self.created_ns,
        )


class Latest(msgspec.Struct, frozen=True):
    """The pointer to a partition's newest snapshot."""

    format: int
    name: str
    lsn: int


class _Sealed(msgspec.Struct, frozen=True):
    checksum: str
    content: msgspec.Raw


class _Format(msgspec.Struct, frozen=True):
    format: int


def partition_folder(partition: int) -> str:
    """Where a partition's snapshots are."""
    return f"partition-{partition}"


def snapshot_name(lsn: int, node: str, random_bits: int) -> str:
    """A name that no other snapshot has."""
    return f"{lsn:020d}-{node_mark(node)}-{random_bits:08x}"


def node_mark(node: str) -> str:
    """A node in the names of its snapshots, whatever letters its own name has."""
    return f"{xxhash.xxh3_64_intdigest(node.encode()):016x}"


def lsn_of(name: str) -> int | None:
    """The LSN in a snapshot's name; None when this is no such name."""
    digits, dash, rest = name.partition("-")
    if dash and rest and len(digits) == 20 and digits.isascii() and digits.isdigit():
        return int(digits)
    return None


def checksum(data: bytes) -> str:
    """As `SnapshotFile.checksum`."""
    return xxhash.xxh3_128_hexdigest(data)


def encode(value: msgspec.Struct) -> bytes:
    """A value with its checksum, readable by people."""
    content = msgspec.json.encode(value)
    return msgspec.json.encode(_Sealed(checksum(content), msgspec.Raw(content))) + b"\n"


def decode(data: bytes, kind: type[_Kind], where: str) -> _Kind:
    """What `encode` wrote.

    Args:
        where: the file, for the text of an error.

    Raises SnapshotCorruptError or SnapshotFormatError.
    """
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        content = bytes(sealed.content)
        if checksum(content) != sealed.checksum:
            raise SnapshotCorruptError(
                f"{where} has checksum {checksum(content)}, not {sealed.checksum} as it says: it "
                "is damaged"
            )
        written = msgspec.json.decode(content, type=_Format).format
        if written > FORMAT:
            raise SnapshotFormatError(
                f"{where} was written in format {written}, this release reads up to {FORMAT}: run "
                "the release that wrote it or a newer one"
            )
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorruptError(f"{where} does not decode ({error}): it is damaged") from None
