"""What admin REST answers about snapshots."""

from typing import Literal

import msgspec

from ...partition_processor.snapshots.manifest import Manifest
from .times import time_text


class SnapshotView(msgspec.Struct, frozen=True):
    """One snapshot.

    Attributes:
        name: its directory, within the partition's.
        lsn: the last one whose effect is in it; the log goes on behind it.
        digest: chained digest of everything applied by then, hex.
        bytes: of its rows.
    """

    partition: int
    name: str
    lsn: int
    epoch: int
    log: int
    digest: str
    rows: int
    bytes: int
    files: int
    node: str
    created_at: str


class SnapshotProblem(msgspec.Struct, frozen=True):
    """Something that lies where snapshots are and is none that can be used."""

    code: str
    message: str


class SnapshotList(msgspec.Struct, frozen=True):
    """The snapshots of some partitions, newest first for each.

    Attributes:
        place: where they are kept.
    """

    place: str
    snapshots: list[SnapshotView]
    problems: list[SnapshotProblem]


class SnapshotOutcome(msgspec.Struct, frozen=True):
    """What became of one partition's snapshot.

    Attributes:
        status: ``unchanged`` when nothing was applied since the newest one, which is given.
        problem: why it ``failed``.
    """

    partition: int
    status: Literal["created", "unchanged", "failed"]
    snapshot: SnapshotView | None
    problem: SnapshotProblem | None = None


class SnapshotsCreated(msgspec.Struct, frozen=True):
    """What became of the snapshots that were asked for."""

    snapshots: list[SnapshotOutcome]


def snapshot_view(manifest: Manifest) -> SnapshotView:
    """A snapshot as it is shown."""
    return SnapshotView(
        partition=manifest.partition,
        name=manifest.name,
        lsn=manifest.lsn,
        epoch=manifest.epoch,
        log=manifest.log,
        digest=manifest.digest,
        rows=manifest.rows,
        bytes=manifest.bytes,
        files=len(manifest.files),
        node=manifest.node,
        created_at=time_text(manifest.created_ns),
    )
