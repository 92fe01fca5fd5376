"""An HTTP server on the event loop that everything else runs on: granian, embedded.

granian parses and writes HTTP/1.1 and h2c in one thread of its own and calls the application, an
object with ``__rsgi__(scope, protocol)``, as a task on our loop. Needs the ``server`` extra.

Its ``task_impl=rust``, which avoids that task, is not used: measured on Python 3.11 it costs more
CPU per request, keeps the memory of every request, and makes ``asyncio.all_tasks`` raise.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, Protocol

import structlog
from granian.constants import HTTPModes, Interfaces, TaskImpl
from granian.log import LogLevels
from granian.server.embed import Server

from .addresses import format_address, held_port, reserve_port
from .errors import TransportError
from .tasks import TaskScope

Headers = list[tuple[str, str]]
"""What a response takes: names in lower case."""

_BACKLOG: Final = 4096
_START_POLL_SECONDS: Final = 0.005
_START_POLLS_MAX: Final = 1000
_FORCE_SECONDS: Final = 1.0
_ADOPT_HANDLERS: Final = {"incremental": True, "handlers": {}, "loggers": {}}
"""Keeps granian from setting up logging anew, which would print to stdout."""

_log = structlog.get_logger(__name__)


class RequestHeaders(Protocol):
    """The headers of a request; names are in lower case."""

    def items(self) -> list[tuple[str, str]]:
        """Every header in the order received."""
        ...


class HttpScope(Protocol):
    """What is known of a request before its body; the path comes percent-decoded."""

    http_version: str
    method: str
    path: str
    query_string: str
    headers: RequestHeaders


class BodyFuture(Awaitable[bytes], Protocol):
    """A body on its way in."""

    def cancel(self) -> bool:
        """Make whoever waits for it see CancelledError."""
        ...


class DisconnectFuture(Protocol):
    """Completes when the client has gone away."""

    def add_done_callback(self, callback: Any) -> None:
        """Have `callback(future)` called on the loop."""
        ...


class HttpProtocol(Protocol):
    """One request's body and response. A response to a client that is gone goes nowhere."""

    def __call__(self) -> BodyFuture:
        """The whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in pieces, in place of the whole."""
        ...

    def client_disconnect(self) -> DisconnectFuture:
        """When the client goes away before it has its answer."""
        ...

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer."""
        ...


class HttpApplication(Protocol):
    """What the server calls, once per request, as a task of its own."""

    async def __rsgi__(self, scope: HttpScope, protocol: HttpProtocol) -> None:
        """Answer one request."""
        ...


class HttpServer:
    """One listening address and the application behind it; used once."""

    def __init__(self, application: HttpApplication, option: str) -> None:
        """Take what answers, and the option that holds the address, for error texts."""
        self._application = application
        self._option = option
        self._scope = TaskScope(option, on_failure=self._report)
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self, address: str) -> str:
        """Listen, and give the bound ``host:port`` once connections are taken.

        Raises AddressInUseError, or TransportError for an address that cannot be listened on.
        Cancelling leaves a server that `stop` ends.
        """
        assert self._server is None, "already started"
        # granian binds late, with SO_REUSEPORT, and says nothing when that fails: ask first.
        name, port = reserve_port(address, self._option)
        bound = format_address(name, port)
        with held_port(name, port):
            await self._begin(name, port, bound)
        return bound

    async def _begin(self, name: str, port: int, bound: str) -> None:
        # Others are told the name, which outlives the number; granian takes numbers only.
        host = await _number_of(name, self._option)
        server = self._server = Server(
            self._application,
            address=host,
            port=port,
            interface=Interfaces.RSGI,
            runtime_threads=1,
            task_impl=TaskImpl.asyncio,
            http=HTTPModes.auto,
            websockets=False,
            backlog=_BACKLOG,
            log_level=LogLevels.error,
            log_dictconfig=dict(_ADOPT_HANDLERS),
            log_access=False,
        )
        serving = self._serving = self._scope.spawn(self._serve(server), name="serve")
        for _ in range(_START_POLLS_MAX):
            if await _accepts(host, port):
                return
            await asyncio.wait((serving,), timeout=_START_POLL_SECONDS)
            if serving.done():
                break
        raise TransportError(f"the HTTP server for {bound} (option {self._option}) did not start")

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new connections, wait for requests under way, then drop what is left.

        Requests that wait longer than `grace_seconds` are for the application to end. Stopping
        twice does nothing. Cancelling drops everything at once.
        """
        server, self._server = self._server, None
        if server is None or self._serving is None:
            return
        self._stopping = True
        # An embedded server waits for ever for a client that sends half a request.
        server.workers_kill_timeout = grace_seconds + _FORCE_SECONDS  # type: ignore[assignment]
        server.stop()  # type: ignore[no-untyped-call]
        try:
            await asyncio.wait((self._serving,), timeout=grace_seconds + 2 * _FORCE_SECONDS)
        finally:
            await self._scope.close()

    async def _serve(self, server: Server) -> None:
        try:
            await server.serve()
        except TimeoutError:
            _log.warning("http server stopped with a connection open", option=self._option)
        if not self._stopping:
            raise TransportError(f"the HTTP server of {self._option} ended by itself")

    def _report(self, failure: BaseException) -> None:
        _log.error("http server failed", option=self._option, reason=str(failure))


async def _number_of(host: str, option: str) -> str:
    """The IP address that a bind to `host` takes. Raises TransportError. Cancelling is safe."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise TransportError(
            f"cannot listen on {host} ({error.strerror or error}); choose another address "
            f"with --set {option}=HOST:PORT"
        ) from None
    return str(found[0][4][0])


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
