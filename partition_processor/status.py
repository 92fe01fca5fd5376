"""What a partition processor tells about itself."""

import msgspec

from .tables.skipped import Skip


class PartitionStatus(msgspec.Struct, frozen=True):
    """One partition on this node, as ``perdure partitions list`` shows it.

    Attributes:
        role: ``leader``; ``follower`` of another node; ``candidate``, and ``replaying`` before
            that, on its way to the lead; ``absent``; ``stopped`` (see `error`).
        applied_lsn: last position applied to the store; 0 before the first.
        tail_lsn: first unwritten position of the log, as a follower last saw it.
        lag: committed records not applied yet, tail_lsn - 1 - applied_lsn.
        invocations: live and completed invocations by status name.
        error: why it stopped, empty otherwise.
        durable_lsn: last position whose effect on the store is known to survive a crash.
        parked_lsn: of the record that cannot be applied, where that is why it stopped; else 0.
        aside: its rows were found not to be those of the other copies: it never leads, until it is
            filled anew.
        unserved: invocations that no worker which is connected to this node is there for.
    """

    partition: int
    node: str
    role: str
    leader_epoch: int
    applied_lsn: int
    tail_lsn: int
    lag: int
    invocations: dict[str, int]
    error: str = ""
    durable_lsn: int = 0
    parked_lsn: int = 0
    aside: bool = False
    unserved: int = 0

    @property
    def counts(self) -> bool:
        """Whether this node has a copy that may be gone on from, now or once it is not parked."""
        stopped = self.role == "stopped" and not self.parked_lsn
        return self.role != "absent" and not stopped and not self.aside


class StoppedCopy(msgspec.Struct, frozen=True):
    """A copy of a partition that has stopped on a node, as that node tells.

    Attributes:
        applied_lsn: last position applied there.
        parked: at a record that cannot be applied; else it does not count any more.
    """

    node: str
    applied_lsn: int
    parked: bool


class SnapshotStatus(msgspec.Struct, frozen=True):
    """The newest snapshot of a partition that a node knows of.

    Attributes:
        lsn: the last one whose effect is in it.
        digest: chained digest of everything applied by then, hex.
        created_ns: when it was taken, nanoseconds since 1970.
    """

    name: str
    lsn: int
    epoch: int
    digest: str
    rows: int
    bytes: int
    node: str
    created_ns: int


class PartitionDetail(msgspec.Struct, frozen=True):
    """One partition in full, as ``perdure partitions inspect`` shows it.

    Attributes:
        key_first: first 64-bit partition key of its range.
        key_last: last one.
        digest: chained digest of everything applied, hex.
        running: attempts open on workers now.
        waiting_for_worker: invocations that no connected worker can take.
        snapshot: the newest one; None when there is none, or none are taken.
        skipped: the records that it has gone on without, by LSN.
        stopped: the copies that have stopped, of all nodes that are known to have one.
    """

    status: PartitionStatus
    key_first: int
    key_last: int
    digest: str
    running: int
    waiting_for_worker: int
    snapshot: SnapshotStatus | None = None
    skipped: list[Skip] = []
    stopped: list[StoppedCopy] = []
