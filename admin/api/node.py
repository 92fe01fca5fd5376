"""The node itself over admin REST: who it is, that it lives, its metrics."""

from ... import __version__
from ...core.metrics import CONTENT_TYPE, Metrics
from ..errors import PartitionsUnplacedError
from ..view import AdminView
from .routes import Request, Route, Text


class NodeApi:
    """``/live``, ``/ready``, ``/health`` and ``/metrics``."""

    def __init__(self, view: AdminView, metrics: Metrics) -> None:
        """Take what is shown."""
        self._view = view
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/live", self.live),
            Route("GET", "/ready", self.ready),
            Route("GET", "/health", self.health),
            Route("GET", "/metrics", self.metrics),
        ]

    async def live(self, request: Request) -> dict[str, str]:
        """That the process answers; a restart would not help it. Cancelling is safe.

        Asks nothing else: a node that waits for others must not be restarted for their absence.
        """
        return {"status": "ok", "node": self._view.node_name}

    async def ready(self, request: Request) -> dict[str, str]:
        """That requests may be sent here: it has joined, and knows where partitions are.

        Told from what the node knows, without asking others. That a partition has no leader for
        the moment does not count: no other node could answer for it either. Cancelling is safe.

        Raises:
            ClusterNotJoinedError: the node is joining its cluster.
            PartitionsUnplacedError: no placement has reached the node, or some partition is
                on no node.
        """
        self._view.check_started()
        partitions = (await self._view.cluster_view.status()).partitions
        unplaced = [row.partition for row in partitions if not row.replicas]
        if not partitions or unplaced:
            which = f"partition {unplaced[0]} has" if unplaced else "partitions have"
            raise PartitionsUnplacedError(
                f"{which} no place that node {self._view.node_name!r} knows of: the controller "
                "gives them one as soon as a node with the role worker is there. Try again"
            )
        return {"status": "ok", "node": self._view.node_name}

    async def health(self, request: Request) -> dict[str, str]:
        """That the node works. Raises ClusterNotJoinedError while it joins its cluster."""
        self._view.check_started()
        return {"status": "ok", "node": self._view.node_name}

    async def metrics(self, request: Request) -> Text:
        """The metrics, as scrapers read them."""
        return Text(CONTENT_TYPE, self._metrics.render())


class VersionApi:
    """``/version``."""

    def __init__(self, view: AdminView) -> None:
        """Take what is shown."""
        self._view = view

    def routes(self) -> list[Route]:
        """The one that there is; other nodes ask it too."""
        return [Route("GET", "/version", self.version)]

    async def version(self, request: Request) -> dict[str, str]:
        """Who it is and which release it runs."""
        return {
            "version": __version__,
            "node": self._view.node_name,
            "cluster": self._view.cluster,
        }
