"""Admin REST: what the node tells about itself, as JSON, and its metrics for scrapers.

It is an embedded granian of its own: the second server in a process was measured at half a
megabyte of memory, three sleeping threads and no CPU while idle.
"""

from typing import Final

from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]

from ..core.errors import PerdureError
from ..core.http_server import Headers, HttpProtocol, HttpScope, HttpServer
from ..core.metrics import Metrics
from .api.answering import answer_error, answer_of
from .api.cluster import ClusterApi
from .api.deployments import DeploymentsApi
from .api.invocations import InvocationsApi
from .api.logs import LogsApi
from .api.node import NodeApi, VersionApi
from .api.nodes import NodesApi
from .api.partitions import PartitionsApi
from .api.reach import Reach
from .api.routes import Request, Routes, Text
from .api.services import ServicesApi
from .api.snapshots import SnapshotsApi
from .api.state import StateApi
from .api.workers import WorkersApi
from .elsewhere import Forwarded
from .errors import AdminBodyTooLargeError, AdminContentTypeError, AdminMethodError
from .view import AdminView

OPTION: Final = "listen.admin"

_JSON: Final = "application/json"
_GRACE_SECONDS: Final = 0.5
_DRAIN_BODIES: Final = 16
"""How many limits of an oversized body are read and dropped, so that the answer is seen."""


class AdminServer:
    """Serves admin REST until it is stopped."""

    def __init__(self, view: AdminView, metrics: Metrics) -> None:
        """Take what is shown."""
        reach = Reach(view)
        workers = WorkersApi(view, reach)
        self._logs = LogsApi(view, reach)
        self._routes = Routes(
            [
                *NodeApi(view, metrics).routes(),
                *VersionApi(view).routes(),
                *ClusterApi(view).routes(),
                *NodesApi(view, peer_routes(view)).routes(),
                *PartitionsApi(view).routes(),
                *self._logs.routes(),
                *SnapshotsApi(view, reach).routes(),
                *ServicesApi(view, workers).routes(),
                *DeploymentsApi(view, reach, workers).routes(),
                *InvocationsApi(view, reach).routes(),
                *StateApi(view, reach).routes(),
            ]
        )
        self._server = HttpServer(self, OPTION)

    async def start(self, address: str) -> str:
        """Listen on ``host:port``; gives the bound address. Raises AddressInUseError."""
        return await self._server.start(address)

    async def stop(self) -> None:
        """Stop listening, answer who waits for records, and drop what is open."""
        self._logs.close()
        await self._server.stop(_GRACE_SECONDS)

    async def __rsgi__(self, scope: HttpScope, protocol: HttpProtocol) -> None:
        """Answer one request; called by the server as a task of its own."""
        headers: Headers = [("content-type", _JSON)]
        try:
            route, parts = self._routes.find(scope.method, scope.path)
            body = b""
            if scope.method != "GET":
                _check_content_type(scope)
                body = await _read_body(protocol, route.body_bytes_max)
            shown = await route.answer(Request(parts, scope.query_string, body))
            if isinstance(shown, Text):
                headers = [("content-type", shown.content_type)]
                answer = Forwarded(200, shown.body)
            else:
                answer = answer_of(shown)
        except PerdureError as error:
            if isinstance(error, AdminMethodError):
                headers.append(("allow", ", ".join(error.allowed)))
            answer = answer_error(error)
        except (ProtocolClosed, ProtocolError):
            # The client went away before its body was here: nobody is left to answer.
            return
        protocol.response_bytes(answer.status, headers, answer.body)


def peer_routes(view: AdminView) -> Routes:
    """What other nodes may ask, answered with what this node has itself."""
    reach = Reach(view, alone=True)
    workers = WorkersApi(view, reach)
    return Routes(
        [
            *VersionApi(view).routes(),
            *ClusterApi(view).peer_routes(),
            *PartitionsApi(view).routes(),
            *LogsApi(view, reach).peer_routes(),
            *SnapshotsApi(view, reach).peer_routes(),
            *workers.peer_routes(),
            *DeploymentsApi(view, reach, workers).peer_routes(),
            *InvocationsApi(view, reach).peer_routes(),
            *StateApi(view, reach).peer_routes(),
        ]
    )


def _check_content_type(scope: HttpScope) -> None:
    """Raises AdminContentTypeError."""
    given = dict(scope.headers.items()).get("content-type", "")
    if given.partition(";")[0].strip().lower() != _JSON:
        raise AdminContentTypeError(
            f"send what changes something as JSON, with the header content-type: {_JSON}"
        )


async def _read_body(protocol: HttpProtocol, size_max: int) -> bytes:
    """The whole body. Raises AdminBodyTooLargeError without keeping more than the limit."""
    pieces: list[bytes] = []
    size = 0
    async for piece in protocol:
        size += len(piece)
        if size <= size_max:
            pieces.append(piece)
        elif size > _DRAIN_BODIES * size_max:
            break
    if size > size_max:
        raise AdminBodyTooLargeError(
            f"the body is over the limit of {size_max} bytes; nothing that is taken here is longer"
        )
    return b"".join(pieces)
