"""The provider of local loglets: all logs of a node in one store, with one writer."""

from typing import Final

from ...core.clock import Clock
from ...core.errors import StorageError
from ...core.ids import LogId
from ..chain import Segment, SegmentParams, loglet_id
from ..errors import LogClosedError, LogletLostError
from ..log_store import LogStore
from .loglet import LocalLoglet
from .writer import LogWriter

KIND: Final = "local"


class LocalProvider:
    """Loglets on this node's own disk."""

    def __init__(self, *, store: LogStore, writer: LogWriter, clock: Clock, node: str) -> None:
        """Keep loglets in `store`, written by `writer`; `node` is named as their sequencer."""
        self._store = store
        self._writer = writer
        self._clock = clock
        self._node = node
        self._open: dict[int, LocalLoglet] = {}
        # Per log, the first segment index that was kept by the last deletion.
        self._first_kept: dict[int, int] = {}

    @property
    def kind(self) -> str:
        """``local``."""
        return KIND

    def params(self, log: LogId, index: int, epoch: int, record_time_ns: int) -> SegmentParams:
        """What a new segment is made with."""
        return SegmentParams(loglet_id(log, index), epoch, record_time_ns, self._node)

    def open(self, segment: Segment) -> LocalLoglet:
        """The segment's loglet.

        Raises LogletLostError for one that was deleted, CorruptBatchError or StorageError.
        """
        params = segment.params
        loglet = self._open.get(params.loglet)
        if loglet is None:
            log = (params.loglet >> 32) - 1
            if segment.index < self._first_kept.get(log, 0):
                raise LogletLostError(
                    f"segment {segment.index} of log {log} was trimmed and deleted"
                )
            loglet = self._open[params.loglet] = LocalLoglet(
                params.loglet,
                store=self._store,
                writer=self._writer,
                clock=self._clock,
                epoch=params.epoch,
                record_time_floor_ns=params.record_time_ns,
            )
        return loglet

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
