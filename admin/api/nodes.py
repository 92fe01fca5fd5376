"""What one node of the cluster tells about itself, asked of any of them."""

import asyncio
from typing import Final

from ...core.errors import TransportError
from ..elsewhere import Forwarded, Question
from ..errors import NoSuchResourceError
from ..view import AdminView
from .answering import answer_of
from .routes import Request, Route, Routes

ANSWER_SECONDS: Final = 5.0
"""So long a node is waited for."""


class NodesApi:
    """``/cluster/nodes/{name}/ask``: a node's own answers, passed on as they are."""

    def __init__(self, view: AdminView, own: Routes) -> None:
        """Take the node, and what each node answers about itself."""
        self._view = view
        self._own = own

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("GET", "/cluster/nodes/{name}/ask/{path*}", self.ask)]

    async def ask(self, request: Request) -> Forwarded:
        """What a node answers to ``GET /{path}``, this one or another.

        Raises NoSuchResourceError, and TransportError where it cannot be reached or does not
        answer in time. Cancelling is safe.
        """
        name, path = request.parts
        if name == self._view.node_name:
            route, parts = self._own.find("GET", f"/{path}")
            return answer_of(await route.answer(Request(parts, request.query)))
        status = await self._view.cluster_view.status()
        others = self._view.others
        if others is None or status.node(name) is None:
            known = ", ".join(node.name for node in status.nodes)
            raise NoSuchResourceError(f"no node is called {name[:64]!r}; the nodes are: {known}")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await others.ask(name, Question("GET", f"/{path}", request.query))
        except TimeoutError:
            raise TransportError(
                f"node {name} has not answered node {others.me} within {ANSWER_SECONDS:g} seconds"
            ) from None
