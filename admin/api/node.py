"""The node itself over admin REST: who it is, that it lives, its metrics."""

from ... import __version__
from ...core.metrics import CONTENT_TYPE, Metrics
from ..view import AdminView
from .routes import Request, Route, Text


class NodeApi:
    """``/health``, ``/version`` and ``/metrics``."""

    def __init__(self, view: AdminView, metrics: Metrics) -> None:
        """Take what is shown."""
        self._view = view
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/health", self.health),
            Route("GET", "/version", self.version),
            Route("GET", "/metrics", self.metrics),
        ]

    async def health(self, request: Request) -> dict[str, str]:
        """That the node works. Raises ClusterNotJoinedError while it joins its cluster."""
        self._view.check_started()
        return {"status": "ok", "node": self._view.node_name}

    async def version(self, request: Request) -> dict[str, str]:
        """Who it is and which release it runs."""
        return {
            "version": __version__,
            "node": self._view.node_name,
            "cluster": self._view.cluster,
        }

    async def metrics(self, request: Request) -> Text:
        """The metrics, as scrapers read them."""
        return Text(CONTENT_TYPE, self._metrics.render())
