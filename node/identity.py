"""Who a base directory belongs to: written once at first start, compared at every other."""

from pathlib import Path
from typing import Final

import msgspec

from ..core.errors import PerdureError, StorageCorruptError, StorageFormatError
from ..core.random import Random
from ..metadata.api import MetadataStore, VersionedValue
from ..metadata.values import read_modify_write

IDENTITY_KEY: Final = "cluster"
BASE_FORMAT: Final = 1
"""Of the base directory as a whole; raised when an older release could not read it."""


class WrongClusterError(PerdureError):
    """The base directory belongs to another cluster or node."""

    code = "PD1101"


class PartitionCountError(PerdureError):
    """The partition count is not the one the cluster was set up with."""

    code = "PD1102"


def check_base_dir(base_dir: Path, *, alone: bool) -> None:
    """Refuse a directory of the other kind of node. Raises WrongClusterError.

    A node that is alone keeps its metadata beside its log, one of a cluster does not.
    """
    has_own_metadata = (base_dir / "metadata").exists()
    if alone and not has_own_metadata:
        raise WrongClusterError(
            f"{base_dir} belongs to a node of a cluster: name its metadata servers with "
            "cluster.metadata_servers, or give another --base-dir"
        )
    if not alone and has_own_metadata:
        raise WrongClusterError(
            f"{base_dir} belongs to a node that was started alone, and a cluster cannot take over "
            "what it holds: give another --base-dir, or leave cluster.metadata_servers out"
        )


class Identity(msgspec.Struct, frozen=True):
    """What a base directory was set up as.

    Attributes:
        fingerprint: drawn at first start, so that two clusters of one name stay apart.
    """

    format: int
    cluster: str
    node: str
    partition_count: int
    fingerprint: str


class _Format(msgspec.Struct, frozen=True):
    format: int


async def confirm_identity(
    metadata: MetadataStore,
    *,
    base_dir: str,
    cluster: str,
    node: str,
    partition_count: int,
    random: Random,
) -> Identity:
    """Set the base directory up, or check that it is what the options say.

    Raises WrongClusterError, PartitionCountError, StorageFormatError or StorageCorruptError, each
    before anything was changed.
    """
    identity = Identity(BASE_FORMAT, cluster, node, partition_count, f"{random.bits(64):016x}")

    def change(current: VersionedValue | None) -> bytes | None:
        nonlocal identity
        if current is not None:
            identity = _compare(current.value, base_dir, identity)
            return None
        return msgspec.json.encode(identity)

    await read_modify_write(metadata, IDENTITY_KEY, change)
    return identity


async def stored_identity(metadata: MetadataStore) -> Identity | None:
    """What a base directory was set up as, None before it was. Cancelling is safe."""
    found = await metadata.get(IDENTITY_KEY)
    return None if found is None else msgspec.json.decode(found.value, type=Identity)


def _compare(current: bytes, base_dir: str, wanted: Identity) -> Identity:
    try:
        # The format first: a newer release may have changed every other field.
        stored_format = msgspec.json.decode(current, type=_Format).format
        if stored_format > BASE_FORMAT:
            raise StorageFormatError(
                f"{base_dir} was written in format {stored_format}, this release reads up to "
                f"{BASE_FORMAT}: run the release that wrote it or a newer one"
            )
        found = msgspec.json.decode(current, type=Identity)
    except msgspec.MsgspecError as error:
        raise StorageCorruptError(
            f"{base_dir}: the identity does not decode ({error}); restore the directory"
        ) from None
    if found.cluster != wanted.cluster:
        raise WrongClusterError(
            f"{base_dir} belongs to cluster {found.cluster!r}, not {wanted.cluster!r}: choose "
            "another --base-dir, or set node.cluster to the name it has"
        )
    if found.node != wanted.node:
        raise WrongClusterError(
            f"{base_dir} belongs to node {found.node!r}, not {wanted.node!r}: choose another "
            "--base-dir, or set node.name to the name it has"
        )
    if found.partition_count != wanted.partition_count:
        raise PartitionCountError(
            f"{base_dir} was set up with {found.partition_count} partitions and the options say "
            f"{wanted.partition_count}: the count is fixed at first start, so set "
            f"partitions.count={found.partition_count} or start with an empty --base-dir"
        )
    return found
