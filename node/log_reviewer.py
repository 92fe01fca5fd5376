"""LogReviewer: how well segments of every kind are kept in a cluster, and where logs are to go on.

In a cluster of one node its own disk may keep a log, without a log-server in between. As soon as
another node belongs to the cluster, it is to read the log as well, so the log goes on on
log-servers; what was written before reaches others in a snapshot.
"""

from typing import Final

from ..core.ids import LogId
from ..log.chain import Segment
from ..log.errors import LogUnavailableError
from ..log.local.provider import KIND as LOCAL
from ..log.replicated.provider import ReplicatedProvider
from ..log.upkeep import Review, SegmentHealth
from .cluster.parts import ClusterParts

_SHOWN_MAX: Final = 3


class LogReviewer:
    """The `Reviewer` of a node in a cluster."""

    def __init__(self, replicated: ReplicatedProvider, cluster: ClusterParts) -> None:
        """Take who judges replicated segments, and the cluster as it is now."""
        self._replicated = replicated
        self._cluster = cluster

    def refusal(self, kind: str) -> str:
        """Why no new segment may be of a kind, with a way out; empty where it may."""
        others = self._others()
        if kind != LOCAL or not others:
            return ""
        return (
            f"{others} could not read what is on the disk of {self._cluster.me.name} alone, nor "
            "lead its partition; keep it on log-servers (--provider replicated)"
        )

    def review(self, log: LogId, segment: Segment) -> Review:
        """Whether the log, whose last segment this is, is to go on elsewhere."""
        if segment.kind != LOCAL:
            return self._replicated.review(log, segment)
        others = self._others()
        if not others:
            return Review()
        reasons = (f"{others} cannot read it",)
        kind = self._replicated.kind
        try:
            self._replicated.params(log, segment.index + 1, segment.params.epoch, 0)
        except LogUnavailableError as error:
            return Review(reasons, str(error), kind)
        return Review(reasons, kind=kind)

    def health(self, segment: Segment) -> SegmentHealth | None:
        """How well a segment is kept; None for one that is for this node alone."""
        if segment.kind != LOCAL:
            return self._replicated.health(segment)
        if not (others := self._others()):
            return None
        on = segment.params.sequencer
        return SegmentHealth("under-replicated", (f"{on} alone has it, {others} cannot read it",))

    def chase(self, log: LogId, first: Segment) -> None:
        """Tell log-servers that were away what is gone of a log."""
        self._replicated.chase(log, first)

    def _others(self) -> str:
        """The names of the other nodes of the cluster, empty where there are none."""
        me = self._cluster.me
        names = [node.name for node in self._cluster.nodes().nodes if node.id != me.id]
        more = len(names) - _SHOWN_MAX
        return ", ".join(names[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
