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
"""So long a node is waited for that is to tell something."""
DONE_SECONDS: Final = 60.0
"""So long a node is waited for that is to do something."""


class NodesApi:
    """``/cluster/nodes/{name}/ask``: a node's own answers, passed on as they are."""

    def __init__(self, view: AdminView, own: Routes) -> None:
        """Take the node, and what each node answers about itself."""
        self._view = view
        self._own = own

    def routes(self) -> list[Route]:
        """All of them."""
        path = "/cluster/nodes/{name}/ask/{path*}"
        return [Route("GET", path, self.ask), Route("POST", path, self.have_done)]

    async def ask(self, request: Request) -> Forwarded:
        """What a node answers to ``GET /{path}``, this one or another.

        Raises NoSuchResourceError, AdminMethodError, and TransportError where it cannot be reached
        or does not answer in time. Cancelling is safe.
        """
        return await self._pass_on("GET", request, ANSWER_SECONDS)

    async def have_done(self, request: Request) -> Forwarded:
        """What a node answers to ``POST /{path}``. Raises as `ask`.

        After TransportError, or when cancelled, it may have been done.
        """
        return await self._pass_on("POST", request, DONE_SECONDS)

    async def _pass_on(self, method: str, request: Request, seconds: float) -> Forwarded:
        name, path = request.parts
        if name == self._view.node_name:
            route, parts = self._own.find(method, f"/{path}")
            return answer_of(await route.answer(Request(parts, request.query, request.body)))
        status = await self._view.cluster_view.status()
        others = self._view.others
        if others is None or status.node(name) is None:
            known = ", ".join(node.name for node in status.nodes)
            raise NoSuchResourceError(f"no node is called {name[:64]!r}; the nodes are: {known}")
        try:
            async with asyncio.timeout(seconds):
                return await others.ask(
                    name, Question(method, f"/{path}", request.query, request.body)
                )
        except TimeoutError:
            raise TransportError(
                f"node {name} has not answered node {others.me} within {seconds:g} seconds"
            ) from None
