"""What must hold among whole nodes: checked at each record that is applied, and in the end.

The letters are those of the log's checklist: L for the log, C for conditional appends, M for the
metadata, P for leadership.
"""

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ....log.types import LogBatch
from ....metadata.api import VersionedValue
from ....node.engine import NodeEngine
from ....partition_processor.context import PartitionRange
from ....partition_processor.manager import partition_range
from ....partition_processor.processor import PartitionProcessor
from ....partition_processor.records import ANNOUNCE_LEADER, AnnounceLeader
from ....partition_processor.tables import keys
from ....partition_processor.tables.progress import decode_progress
from ..checkers import check_replay, check_rows, check_survival
from ..observer import LogRecord
from ..violation import require
from .member import SimulatedMember

if TYPE_CHECKING:
    from .world import NodesWorld


class PartitionHistory:
    """Everything that any node has ever applied of one partition.

    Attributes:
        own: the partition's part of the key space.
        records: by LSN - 1.
        digests: by LSN, of whoever stood there between two batches.
        batches: by the LSN of its first record the last LSN of each batch.
        base_lsns: likewise where its segment begins.
    """

    def __init__(self, own: PartitionRange) -> None:
        """Start empty."""
        self.own = own
        self.records: dict[int, LogRecord] = {}
        self.digests: dict[int, tuple[bytes, str]] = {}
        self.batches: dict[int, int] = {}
        self.base_lsns: dict[int, int] = {}

    @property
    def announced(self) -> int:
        """How often somebody announced that it leads."""
        kinds = [item.record.kind for item in self.records.values()]
        return kinds.count(ANNOUNCE_LEADER)

    def applied(self, name: str, item: LogBatch, first_seen: Callable[[LogRecord], None]) -> None:
        """A node is about to apply a batch; `first_seen` is told of what nobody has read before."""
        batch = item.batch
        first_lsn = item.first_lsn
        last = self.batches.setdefault(first_lsn, item.last_lsn)
        self.base_lsns[first_lsn] = item.base_lsn
        require(last == item.last_lsn, "L11: a batch is never cut", f"LSN {first_lsn} at {name}")
        for lsn, record in enumerate(batch.records, first_lsn):
            new = LogRecord(lsn, batch.record_time_ns, batch.epoch, record)
            known = self.records.get(lsn)
            if known is None:
                known = self.records[lsn] = new
                first_seen(new)
            require(
                known == new,
                "L1: everybody reads the same record",
                f"partition {self.own.number}, LSN {lsn}: {name} reads {new}, before {known}",
            )

    def stands(self, name: str, lsn: int, digest: bytes) -> None:
        """A node has applied everything up to `lsn`."""
        known, who = self.digests.setdefault(lsn, (digest, name))
        require(
            known == digest,
            "P2: replicas at one LSN are the same",
            f"partition {self.own.number}, LSN {lsn}: {name} and {who}",
        )

    def all(self) -> list[LogRecord]:
        """Every record, without a gap."""
        records = [self.records[lsn] for lsn in sorted(self.records)]
        time_ns = 0
        for number, item in enumerate(records, 1):
            require(item.lsn == number, "L2: LSNs have no gap", f"{item.lsn} follows {number - 1}")
            require(item.time_ns >= time_ns, "record time never goes back", f"LSN {number}")
            time_ns = item.time_ns
        return records

    def check_conditions(self) -> None:
        """C1: of what a conditional record rests on, nothing was written meanwhile."""
        batch_of = sorted(self.batches)
        touched: dict[bytes, list[int]] = {}
        everything: list[int] = []
        for item in self.all():
            own_batch = batch_of[bisect_right(batch_of, item.lsn) - 1]
            for key, snapshot_lsn in item.record.conditions:
                for lsns in (touched.get(key, ()), everything):
                    between = [lsn for lsn in lsns if snapshot_lsn < lsn < own_batch]
                    require(
                        not between,
                        "C1: what was not to change has not changed",
                        f"partition {self.own.number}, LSN {item.lsn}: {key.hex()} since "
                        f"{snapshot_lsn}, but {between}",
                    )
            if item.record.keys is None:
                everything.append(item.lsn)
            for key in item.record.keys or ():
                touched.setdefault(key, []).append(item.lsn)

    def check_epochs(self) -> None:
        """P1: an epoch has one leader, and announced epochs only count when they grow."""
        leaders: dict[int, str] = {}
        for item in self.all():
            if item.record.kind == ANNOUNCE_LEADER:
                command = item.command()
                assert isinstance(command, AnnounceLeader)
                epoch = item.record.epoch
                who = leaders.setdefault(epoch, command.node)
                require(
                    who == command.node,
                    "P1: an epoch has one leader",
                    f"partition {self.own.number}, epoch {epoch}: {who} and {command.node}",
                )


class Checks:
    """Watches the nodes of a world."""

    def __init__(self, world: "NodesWorld", partitions: int) -> None:
        """Begin with nothing."""
        self._world = world
        self.partitions = [
            PartitionHistory(partition_range(number, partitions)) for number in range(partitions)
        ]
        self._versions: dict[str, dict[int, bytes]] = {}

    def topology_changed(self) -> None:
        """Nothing here depends on who reaches whom."""

    # While the world lives -----------------------------------------------------------------------

    def watch(self, member: SimulatedMember, engine: NodeEngine) -> None:
        """See what a node applies and what it reads of the metadata."""
        manager = engine.manager
        make = manager._make_processor

        def watched(processor: PartitionProcessor) -> PartitionProcessor:
            with self._world.first_violation():
                self._world.differing.opened(member.name, processor)
            apply = partial(self._apply, member, processor, processor.committed)
            processor.committed = apply  # type: ignore[method-assign]
            return processor

        for processor in manager.processors:
            watched(processor)
        # Whoever takes a partition up again begins with another one.
        manager._make_processor = lambda number: watched(make(number))
        metadata = engine.metadata
        get = metadata.get

        async def watched_get(key: str) -> VersionedValue | None:
            value = await get(key)
            if value is not None:
                with self._world.first_violation():
                    self._read(member.name, key, value)
            return value

        metadata.get = watched_get  # type: ignore[method-assign]

    def _read(self, name: str, key: str, value: VersionedValue) -> None:
        versions = self._versions.setdefault(key, {})
        known = versions.setdefault(value.version, value.value)
        require(
            known == value.value,
            "M1: a version has one value",
            f"{key}, version {value.version}, at {name}",
        )

    def _apply(
        self, member: SimulatedMember, processor: PartitionProcessor, commit: object, item: LogBatch
    ) -> None:
        number, differing = processor.partition, self._world.differing
        history = self.partitions[number]
        stopped = processor.role == "stopped"
        spoilt = False
        with self._world.first_violation():
            if not stopped:
                history.applied(member.name, item, partial(differing.seen, number))
                spoilt = differing.spoils(member.name, processor, item)
        commit(item)  # type: ignore[operator]
        with self._world.first_violation():
            faulty = any(disk.faulty for disk in member.disks.values())
            if spoilt and not faulty:
                differing.spoilt(member, processor)
            require(
                stopped or processor.role != "stopped" or faulty or spoilt,
                "no partition stops by itself",
                f"partition {processor.partition} of {member.name}: {processor.error}",
            )
            if processor.role != "stopped":
                progress = processor._machine.progress()
                history.stands(member.name, progress.applied_lsn, progress.digest)

    # In the end ----------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Whether no leader has anything under way, also what nobody waits for."""
        return not any(
            processor.role == "leader" and processor.active
            for member in self._world.members.values()
            if member.engine is not None and member.up
            for processor in member.engine.manager.processors
        )

    def agree(self) -> bool:
        """Whether all replicas of each partition have come equally far, and each is led."""
        for number in range(len(self.partitions)):
            lsns: set[int] = set()
            leads = 0
            for member in self._world.members.values():
                if member.engine is None or not member.up:
                    return False
                processor = member.engine.manager.processors[number]
                if processor.role == "absent":
                    continue
                leads += processor.role == "leader"
                lsns.add(processor.status().applied_lsn)
                if processor.role not in ("leader", "follower"):
                    return False
            if len(lsns) != 1 or leads != 1:
                return False
        return True

    def check_end(self) -> None:
        """Everything that must hold once all work is done."""
        history = self._world.history
        everything: dict[bytes, bytes] = {}
        records: list[LogRecord] = []
        for number, partition in enumerate(self.partitions):
            found = partition.all()
            records += found
            partition.check_conditions()
            partition.check_epochs()
            rows = self._rows_of(number)
            check_replay(found, rows, partition.own)
            everything.update(rows)
        check_survival(records, records, history)
        check_rows(everything, history)

    def _rows_of(self, number: int) -> dict[bytes, bytes]:
        """A partition's rows, the same at each of its replicas."""
        own = self.partitions[number].own
        progress_row = keys.PROGRESS + own.first
        found: dict[str, dict[bytes, bytes]] = {}
        for name, member in self._world.members.items():
            assert member.engine is not None
            if member.engine.manager.processors[number].role in ("leader", "follower"):
                found[name] = {
                    key: value
                    for key, value in member.disks["store"].rows().items()
                    if own.first <= key[1:9] <= own.last
                }
        newest = max(found, key=lambda name: decode_progress(found[name][progress_row]).applied_lsn)
        lsn = decode_progress(found[newest][progress_row]).applied_lsn
        for name, rows in found.items():
            same = decode_progress(rows[progress_row]).applied_lsn == lsn
            require(
                not same or rows == found[newest],
                "P2: replicas at one LSN are the same",
                f"partition {number}, LSN {lsn}: rows of {name} and {newest}",
            )
        return found[newest]
