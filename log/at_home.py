"""Loglets that only the node which has them can order: what their providers have in common."""

from ..core.ids import LogId
from .chain import SegmentParams, loglet_id
from .errors import UnfitSequencerError
from .loglet import SequencerNode
from .placement import Placement


def at_home(kind: str, own: str, node: str) -> None:
    """Segments of a kind are ordered at this node alone. Raises UnfitSequencerError."""
    if node != own:
        raise UnfitSequencerError(
            f"a segment of kind {kind!r} is ordered by the node that has it, {own}, and not by "
            f"{node}: name {own}, or keep the log on log-servers (--provider replicated)"
        )


class ProviderAtHome:
    """The part of a `LogletProvider` that names this node as the sequencer of each segment."""

    def __init__(self, kind: str, node: str, placement: Placement | None = None) -> None:
        """Make loglets of a kind at a node; segments say `placement` of where they are kept."""
        self._kind = kind
        self._node = node
        self._placement = placement

    @property
    def kind(self) -> str:
        """The name that segments carry."""
        return self._kind

    async def meet(self, node: str) -> SequencerNode | None:
        """Nobody else has these. Raises UnfitSequencerError unless it is this node."""
        at_home(self._kind, self._node, node)
        return None

    def params(
        self,
        log: LogId,
        index: int,
        epoch: int,
        record_time_ns: int,
        sequencer: SequencerNode | None = None,
    ) -> SegmentParams:
        """What a new segment is made with."""
        assert sequencer is None, "nobody else was met"
        loglet = loglet_id(log, index)
        return SegmentParams(loglet, epoch, record_time_ns, self._node, self._placement)
