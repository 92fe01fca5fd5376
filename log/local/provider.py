"""The provider of local loglets: all logs of a node in one store, with one writer."""

from typing import Final

from ...core.clock import Clock
from ...core.errors import StorageError
from ...core.ids import LogId
from ..at_home import ProviderAtHome
from ..chain import Segment, loglet_id
from ..errors import LogClosedError, LogletLostError
from ..log_store import LogStore
from ..placement import Placement, Replica
from .loglet import LocalLoglet
from .writer import LogWriter

KIND: Final = "local"


class LocalProvider(ProviderAtHome):
    """Loglets on this node's own disk.

    Where other nodes share the metadata, segments name the disk that they are on. On any other
    disk they would look as if they were empty and open, and be ended before their first record.
    """

    def __init__(
        self,
        *,
        store: LogStore,
        writer: LogWriter,
        clock: Clock,
        node: str,
        disk: Replica | None = None,
        generation: int = 0,
    ) -> None:
        """Keep loglets in `store`, written by `writer`; `node` is named as their sequencer.

        Args:
            disk: what segments call the disk of `store`; None where no other node sees them.
            generation: of the node.
        """
        placement = None if disk is None else Placement(generation, 1, 1, (disk,))
        super().__init__(KIND, node, placement)
        self._store = store
        self._writer = writer
        self._clock = clock
        self._open: dict[int, LocalLoglet] = {}
        # Per log, the first segment index that was kept by the last deletion.
        self._first_kept: dict[int, int] = {}

    def open(self, segment: Segment) -> LocalLoglet:
        """The segment's loglet.

        Raises LogletLostError for one that was deleted or is on another disk, CorruptBatchError or
        StorageError.
        """
        params = segment.params
        loglet = self._open.get(params.loglet)
        if loglet is None:
            log = (params.loglet >> 32) - 1
            if segment.index < self._first_kept.get(log, 0):
                raise LogletLostError(
                    f"segment {segment.index} of log {log} was trimmed and deleted"
                )
            self._check_disk(log, segment)
            loglet = self._open[params.loglet] = LocalLoglet(
                params.loglet,
                store=self._store,
                writer=self._writer,
                clock=self._clock,
                epoch=params.epoch,
                record_time_floor_ns=params.record_time_ns,
            )
        return loglet

    def _check_disk(self, log: int, segment: Segment) -> None:
        """Refuse what is on another disk. Raises LogletLostError."""
        if self._placement is None:
            return
        (own,) = self._placement.members
        placement = segment.params.placement
        members = () if placement is None else placement.members
        if [(item.node, item.storage) for item in members] != [(own.node, own.storage)]:
            disk = " and ".join(f"{item.storage!r} of node {item.node}" for item in members)
            raise LogletLostError(
                f"segment {segment.index} of log {log} is on disk {disk or 'of no name'} alone, "
                f"and this is disk {own.storage!r} of node {own.node}: have the node that orders "
                f"the log keep it on log-servers (perdure logs reconfigure {log} --provider "
                "replicated) and take a snapshot, so that the segment is trimmed. A disk that was "
                "replaced has to be brought back"
            )

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        """Remove everything below the first kept segment's loglet. Raises LogClosedError."""
        if self._writer.failure is not None:
            raise LogClosedError(f"the log takes no more changes: {self._writer.failure}")
        self._first_kept[log] = max(first_kept, self._first_kept.get(log, 0))
        first, end = loglet_id(log, 0), loglet_id(log, first_kept)
        # Not only `segments`: one that stayed empty left the chain when it was replaced.
        for loglet in [item for item in self._open if first <= item < end]:
            self._open.pop(loglet).close()
        try:
            self._store.delete(first, end)
        except StorageError as error:
            self._writer.fail(error)
            raise LogClosedError(f"the log takes no more changes: {error}") from error

    def forget(self, log: LogId, first_kept: int) -> None:
        """What is on this disk is for `delete` to remove."""
