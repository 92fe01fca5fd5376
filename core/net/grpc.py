"""GrpcTransport: one HTTP/2 connection and one bidirectional gRPC stream per connection.

Messages travel as raw bytes; the method is ``/perdure.transport.v1.Transport/<service>``. What this
adapter rests on, tried out with grpcio 1.85 and checked by its tests: the handler of a call is
cancelled when its client is lost, so handlers of ours run in tasks of their own; cancelling a read
or a write of a call cancels the call, so only the connection's two tasks touch it.
"""

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from ..errors import AddressInUseError, TransportError
from ..tasks import TaskScope
from .inbox import Inbox
from .transport import MESSAGE_BYTES_MAX, ConnectionHandler, not_sendable

METHOD_PREFIX: Final = "/perdure.transport.v1.Transport/"
"""What stands before the service's name in the full name of the gRPC method."""

CONNECT_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 1.0
RECEIVED_BYTES_MAX: Final = 4 * 1024 * 1024
"""When this much has arrived and was not received, HTTP/2 flow control slows the sender down."""

_LOG = logging.getLogger(__name__)
# How long handlers may take to end by themselves after their connections were dropped.
_HANDLER_END_SECONDS: Final = 1.0
_PORT_MAX: Final = 65_535
# Metadata that an accepted call starts with. A refused one has metadata, too, and may be told from
# it a moment later only, so their arrival alone proves nothing.
_ACCEPTED: Final = "perdure-service"

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX + 1024),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX + 1024),
    # A peer that says nothing for 15 seconds is lost, whether calls are running or not.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A fixed window: the one that gRPC guesses by itself was seen to grow to 30 MiB on a busy
    # machine, and all of it would be memory that `queued_bytes` does not tell of.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),
)
"""What both ends need: message sizes, keep-alive, window. Servers need `SERVER_OPTIONS`."""

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *CHANNEL_OPTIONS,
    # A taken port is an error, not a port that two processes share.
    ("grpc.so_reuseport", 0),
    # Take the clients' keep-alive pings for what they are, not for an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)
"""For a `grpc.aio.server` that `GrpcService` is added to."""

_CLIENT_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *CHANNEL_OPTIONS,
    # Each connection has its own socket: none waits for the flow control or back-off of another.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)

_Read: TypeAlias = Callable[[], Awaitable[Any]]
_Write: TypeAlias = Callable[[bytes], Awaitable[None]]
# What grpc.aio raises from reads and writes once a call is over.
_CALL_OVER: Final = (
    grpc.RpcError,
    grpc.aio.InternalError,
    grpc.aio.UsageError,
    asyncio.InvalidStateError,
)


class GrpcConnection:
    """One open stream of messages; see `transport.Connection`."""

    def __init__(self, peer: str, read: _Read, write: _Write) -> None:
        """Start reading and writing; use `GrpcTransport`."""
        self._peer = peer
        self._read_call = read
        self._write_call = write
        self._inbox = Inbox(RECEIVED_BYTES_MAX)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._open = True
        # Set while there is something for the writer to do; `_flushed` once it has done it.
        self._work = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()
        # Set when the stream is over in both directions: the peer closed, or it was lost.
        self._over = asyncio.Event()
        self._scope = TaskScope(f"connection {peer}")
        self._scope.spawn(self._read_messages(), name="reader")
        self._scope.spawn(self._write_messages(), name="writer")

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""
        return self._peer

    @property
    def queued_bytes(self) -> int:
        """Bytes taken by `send` that gRPC has not accepted yet."""
        return self._queued_bytes

    def send(self, message: bytes) -> None:
        """Queue one message. Raises MessageTooLargeError, or TransportError when closed."""
        if not self._open or len(message) > MESSAGE_BYTES_MAX:
            raise not_sendable(self._peer, message, is_open=self._open)
        self._queue.append(message)
        self._queued_bytes += len(message)
        if not self._work.is_set():
            self._work.set()
            self._flushed.clear()

    async def receive(self) -> bytes | None:
        """The next message, or None at the end of the stream. Cancelling is safe."""
        return await self._inbox.receive()

    async def close(self) -> None:
        """Send what is queued, then close. Safe to cancel: the connection then just drops."""
        if not self._open and self._inbox.is_dropped:
            return
        self._open = False
        self._inbox.end(drop=True)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._flushed.wait()
                await self._say_goodbye()
        except TimeoutError:
            _LOG.debug("%s did not take the last messages in time", self._peer)
        finally:
            self._lost()
            await self._release()

    async def _say_goodbye(self) -> None:
        """Tell the peer that nothing more comes, once everything is written."""

    async def _release(self) -> None:
        """Let go of what gRPC holds. Cancelling is safe."""
        await self._scope.close()

    async def _read_messages(self) -> None:
        inbox = self._inbox
        read = self._read_call
        try:
            while (message := await read()) is not grpc.aio.EOF:
                inbox.deliver(message)
                if inbox.is_full:
                    await inbox.wait_for_room()
        except _CALL_OVER as over:
            _LOG.debug("the connection to %s was lost: %r", self._peer, over)
        finally:
            self._lost()

    async def _write_messages(self) -> None:
        queue = self._queue
        write = self._write_call
        work = self._work
        try:
            while True:
                await work.wait()
                while queue:
                    message = queue.popleft()
                    await write(message)
                    self._queued_bytes -= len(message)
                work.clear()
                self._flushed.set()
        except _CALL_OVER as over:
            _LOG.debug("the connection to %s was lost: %r", self._peer, over)
        finally:
            self._lost()

    def _lost(self) -> None:
        """Nothing more arrives or leaves; what arrived before can still be received."""
        self._open = False
        self._inbox.end()
        self._queue.clear()
        self._queued_bytes = 0
        self._flushed.set()
        self._over.set()


class _ClientConnection(GrpcConnection):
    """The end that connected: it owns the channel."""

    def __init__(self, peer: str, channel: Any, call: Any) -> None:
        super().__init__(peer, call.read, call.write)
        self._channel = channel
        self._call = call

    async def _say_goodbye(self) -> None:
        # The server ends the call when it has read everything; ending it here would lose messages.
        if not self._over.is_set():
            try:
                await self._call.done_writing()
            except _CALL_OVER:
                return
            await self._over.wait()

    async def _release(self) -> None:
        self._call.cancel()
        try:
            await self._scope.close()
        finally:
            await self._channel.close()


class GrpcService:
    """The accepting end, to be added to any `grpc.aio.server` made with `SERVER_OPTIONS`.

    ``server.add_generic_rpc_handlers((service.generic_handler,))`` before the server starts; stop
    the server before `close`.
    """

    def __init__(self, handlers: dict[str, ConnectionHandler], *, name: str = "grpc") -> None:
        """Take a handler per service name; `name` stands in logs."""
        self._name = name
        self._scope = TaskScope(f"listener {name}", on_failure=partial(_log_failure, name))
        self._methods = {
            METHOD_PREFIX + service: grpc.stream_stream_rpc_method_handler(
                partial(self._serve, service, handler)
            )
            for service, handler in handlers.items()
        }
        self.generic_handler: grpc.GenericRpcHandler = _Methods(self._methods)
        """What a server needs to know of the services."""

    async def close(self) -> None:
        """Wait a second for the handlers of lost connections to end, then cancel them.

        Cancelling is safe: handlers are cancelled and waited for.
        """
        try:
            await self._scope.wait(_HANDLER_END_SECONDS)
        finally:
            await self._scope.close()

    async def _serve(
        self, service: str, handler: ConnectionHandler, _requests: Any, context: Any
    ) -> None:
        await context.send_initial_metadata(((_ACCEPTED, service),))
        connection = GrpcConnection(context.peer(), context.read, context.write)
        self._scope.spawn(
            _run_handler(handler, connection), name=f"{service} from {connection.peer}"
        )
        try:
            await connection._over.wait()
        finally:
            # Also reached by cancellation, which is how gRPC tells that the client is lost.
            connection._lost()
            await connection._scope.close()


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types.
    def __init__(self, methods: dict[str, grpc.RpcMethodHandler]) -> None:
        self._methods = methods

    def service(self, details: Any) -> Any:
        return self._methods.get(details.method)


async def _run_handler(handler: ConnectionHandler, connection: GrpcConnection) -> None:
    try:
        await handler(connection)
    finally:
        await connection.close()


class GrpcListener:
    """A bound address; see `transport.Listener`."""

    def __init__(self, server: Any, service: GrpcService, address: str) -> None:
        """Take a server that has started; use `GrpcTransport.listen`."""
        self._server = server
        self._service = service
        self._address = address

    @property
    def address(self) -> str:
        """The bound ``host:port``, with the real port where 0 was asked for."""
        return self._address

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop accepting, give open connections `grace_seconds` to end, then drop them.

        Cancelling is safe: the connections are dropped at once.
        """
        try:
            await self._server.stop(grace_seconds)
        except asyncio.CancelledError:
            await self._server.stop(None)
            raise
        finally:
            await self._service.close()


class GrpcTransport:
    """The Transport port between processes; works on asyncio's own loop and on uvloop."""

    async def listen(
        self,
        address: str,
        handlers: dict[str, ConnectionHandler],
        *,
        add_services: Callable[[Any], None] | None = None,
    ) -> GrpcListener:
        """Bind ``host:port`` and run a handler, by service name, per connection.

        `add_services` gets the `grpc.aio.Server` before it starts and may add services of its own,
        which then share the port. Raises AddressInUseError when the port is taken and
        TransportError when the address cannot be bound for another reason.
        """
        await _check_address(address)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        service = GrpcService(handlers, name=address)
        server.add_generic_rpc_handlers((service.generic_handler,))
        if add_services is not None:
            add_services(server)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            await server.stop(None)
            # It was free a moment ago, so somebody took it since.
            raise _address_in_use(address) from error
        await server.start()
        return GrpcListener(server, service, f"{address.rpartition(':')[0]}:{port}")

    async def connect(self, address: str, service: str) -> GrpcConnection:
        """Open a connection to a service of a listener.

        Raises TransportError when nobody answers within five seconds. Safe to cancel.
        """
        channel = grpc.aio.insecure_channel(address, options=_CLIENT_OPTIONS)
        call = channel.stream_stream(METHOD_PREFIX + service)()
        connected = False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                metadata = await call.initial_metadata()
                if _ACCEPTED not in metadata:
                    raise _connect_error(address, service, await call.code(), await call.details())
            connected = True
        except TimeoutError:
            raise TransportError(
                f"cannot connect to {address}: nobody answered in {CONNECT_TIMEOUT_SECONDS:g} "
                "seconds; check the address and that the node is running"
            ) from None
        finally:
            if not connected:
                call.cancel()
                await channel.close()
        return _ClientConnection(address, channel, call)


def _connect_error(address: str, service: str, code: Any, details: str) -> TransportError:
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return TransportError(
            f"{address} does not offer the service {service!r}: check that the address and port "
            "are those of a node, and use the same release on both sides"
        )
    return TransportError(
        f"cannot connect to {address}: {details}; check the address and that the node is running"
    )


async def _check_address(address: str) -> None:
    """Raise what a bind would say: gRPC takes a wrong port modulo 65536 and hides the reason."""
    host, _, port_text = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port_text.isdecimal() or int(port_text) > _PORT_MAX:
        raise TransportError(
            f"cannot listen on {address!r}: write it as host:port, with a port from 0 to 65535"
        )
    port = int(port_text)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # All of them: gRPC would be content with one address of two and serve that one only.
        for family, kind, protocol, _, target in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(target)
                probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _address_in_use(address) from error
        raise TransportError(
            f"cannot listen on {address}: {error.strerror or error}; use an address of this machine"
        ) from error


def _address_in_use(address: str) -> AddressInUseError:
    return AddressInUseError(
        f"cannot listen on {address}: another process has the port; stop it or use another port"
    )


def _log_failure(name: str, failure: BaseException) -> None:
    _LOG.error("the handler of a connection at %s failed", name, exc_info=failure)
