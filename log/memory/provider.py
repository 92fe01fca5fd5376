"""The provider of memory loglets."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final

from ...core.clock import Clock
from ...core.ids import LogId
from ..at_home import ProviderAtHome
from ..chain import Segment, SegmentParams, loglet_id
from ..errors import LogletLostError
from ..loglet import SequencerNode
from .loglet import MemoryLoglet

KIND: Final = "memory"


class MemoryProvider(ProviderAtHome):
    """Loglets in this process. A chain that names one after a restart has lost that segment."""

    def __init__(
        self,
        *,
        loop: AbstractEventLoop,
        clock: Clock,
        node: str,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """Commit on `loop`; `on_turn` is called after each turn's commits."""
        super().__init__(KIND, node)
        self._loop = loop
        self._clock = clock
        self._on_turn = on_turn
        self._loglets: dict[int, MemoryLoglet] = {}
        # What new segments this process has asked for and not opened yet. Not only their ids: when
        # somebody else was first, the segment of that id is theirs.
        self._announced: dict[int, set[SegmentParams]] = {}

    def params(
        self,
        log: LogId,
        index: int,
        epoch: int,
        record_time_ns: int,
        sequencer: SequencerNode | None = None,
    ) -> SegmentParams:
        """What a new segment is made with."""
        params = super().params(log, index, epoch, record_time_ns, sequencer)
        self._announced.setdefault(params.loglet, set()).add(params)
        return params

    def open(self, segment: Segment) -> MemoryLoglet:
        """The segment's loglet. Raises LogletLostError when another process made it."""
        params = segment.params
        loglet = self._loglets.get(params.loglet)
        if loglet is None:
            if params not in self._announced.get(params.loglet, ()):
                raise LogletLostError(
                    f"segment {segment.index} from LSN {segment.base_lsn} on was kept in the "
                    "memory of a process that has ended: its records are gone; restore the log, "
                    "the store and the metadata from a backup of one time"
                )
            del self._announced[params.loglet]
            loglet = self._loglets[params.loglet] = MemoryLoglet(
                params.loglet,
                loop=self._loop,
                clock=self._clock,
                epoch=params.epoch,
                record_time_floor_ns=params.record_time_ns,
                on_turn=self._on_turn,
            )
        return loglet

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        """Forget the loglets."""
        first, end = loglet_id(log, 0), loglet_id(log, first_kept)
        # Not only `segments`: one that stayed empty left the chain when it was replaced.
        for loglet in [item for item in self._loglets if first <= item < end]:
            self._loglets.pop(loglet).close()
        for loglet in [item for item in self._announced if first <= item < end]:
            del self._announced[loglet]

    def forget(self, log: LogId, first_kept: int) -> None:
        """No other process trims what is in the memory of this one."""
