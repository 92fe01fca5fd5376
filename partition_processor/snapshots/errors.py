"""What can go wrong with snapshots. None of it stops the node."""

from ...core.errors import PerdureError


class SnapshotsOffError(PerdureError):
    """No place for snapshots is set, so none can be taken, listed or restored."""

    code = "PD0920"

    def __init__(self) -> None:
        """Say how to set one."""
        super().__init__(
            "this node takes no snapshots: set snapshots.directory to a directory that outlives "
            "the node's own disk, and restart it"
        )


class SnapshotRepositoryError(PerdureError):
    """The place where snapshots are kept did not take or give something."""

    code = "PD0921"
    retryable = True


class SnapshotCorruptError(PerdureError):
    """A file of a snapshot is missing, or is not what its checksum says."""

    code = "PD0922"


class ForeignSnapshotError(PerdureError):
    """A snapshot, or the place for them, belongs to another cluster or partition."""

    code = "PD0923"


class SnapshotMissingError(PerdureError):
    """A partition can be built neither from its log, which was trimmed, nor from a snapshot."""

    code = "PD0924"


class SnapshotRefusedError(PerdureError):
    """A snapshot of the partition cannot be taken now."""

    code = "PD0925"
    retryable = True


class SnapshotFormatError(PerdureError):
    """A snapshot was written in a format that this release does not know."""

    code = "PD0926"


class SnapshotAheadError(PerdureError):
    """A snapshot has more applied than the log has records: they are not of one history."""

    code = "PD0927"
