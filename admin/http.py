"""Admin REST: what the node tells about itself, as JSON, and its metrics for scrapers.

It is an embedded granian of its own: the second server in a process was measured at half a
megabyte of memory, three sleeping threads and no CPU while idle.
"""

from typing import Final, Protocol

import msgspec

from .. import __version__
from ..core.errors import PerdureError
from ..core.http_server import HttpProtocol, HttpScope, HttpServer
from ..core.metrics import CONTENT_TYPE, Metrics
from ..partition_processor.status import PartitionDetail, PartitionStatus
from .errors import HTTP_STATUS, AdminMethodError, NoSuchResourceError

OPTION: Final = "listen.admin"

_JSON: Final = [("content-type", "application/json")]
_TEXT: Final = [("content-type", CONTENT_TYPE)]
_GRACE_SECONDS: Final = 0.5
_encoder: Final = msgspec.json.Encoder()


class AdminView(Protocol):
    """The node, as operators may look at it."""

    @property
    def node_name(self) -> str:
        """Name of this node."""
        ...

    @property
    def cluster(self) -> str:
        """Name of its cluster."""
        ...

    def partitions(self) -> list[PartitionStatus]:
        """Every partition on this node, by number."""
        ...

    def partition(self, partition: int) -> PartitionDetail | None:
        """One partition in full; None when this node has no such partition."""
        ...


class AdminServer:
    """Serves admin REST until it is stopped."""

    def __init__(self, view: AdminView, metrics: Metrics) -> None:
        """Take what is shown."""
        self._view = view
        self._metrics = metrics
        self._server = HttpServer(self, OPTION)

    async def start(self, address: str) -> str:
        """Listen on ``host:port``; gives the bound address. Raises AddressInUseError."""
        return await self._server.start(address)

    async def stop(self) -> None:
        """Stop listening and drop what is open."""
        await self._server.stop(_GRACE_SECONDS)

    async def __rsgi__(self, scope: HttpScope, protocol: HttpProtocol) -> None:
        """Answer one request; called by the server as a task of its own."""
        headers = _JSON
        status = 200
        try:
            if scope.method != "GET":
                raise AdminMethodError(f"{scope.method} is not taken here; use GET")
            path = scope.path.rstrip("/")
            if path == "/metrics":
                headers = _TEXT
                body = self._metrics.render()
            else:
                body = _encoder.encode(self._resource(path))
        except PerdureError as error:
            status = HTTP_STATUS.get(type(error), 500)
            body = _encoder.encode({"message": error.message, "code": error.code})
        protocol.response_bytes(status, headers, body)

    def _resource(self, path: str) -> object:
        """What a path shows. Raises NoSuchResourceError."""
        match path.split("/")[1:]:
            case ["health"]:
                return {"status": "ok", "node": self._view.node_name}
            case ["version"]:
                return {
                    "version": __version__,
                    "node": self._view.node_name,
                    "cluster": self._view.cluster,
                }
            case ["partitions"]:
                return {"partitions": self._view.partitions()}
            case ["partitions", number]:
                detail = None
                if number.isascii() and number.isdigit() and len(number) <= 9:
                    detail = self._view.partition(int(number))
                if detail is None:
                    raise NoSuchResourceError(
                        f"this node has no partition {number[:20]!r}; GET /partitions lists those "
                        "it has"
                    )
                return detail
            case _:
                raise NoSuchResourceError(
                    f"{path[:200]!r} is not here; there are /health, /version, /metrics, "
                    "/partitions and /partitions/ID"
                )
