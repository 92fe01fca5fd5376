"""TcpTransport: one TCP connection per connection, messages behind their length.

All numbers are big-endian. The connecting end begins with a greeting, the accepting end answers it
and, having refused, closes:

    greeting   magic "PRDU" | version u8 = 1 | length of the service's name u8 | name, UTF-8
    answer     magic "PRDU" | version u8 = 1 | status u8 | length of the reason u16 | reason, UTF-8
                   status 0: accepted, no reason; 1: no such service; 2: not this version
    then, both ways and until the end of the stream:
    message    length u32, at most MESSAGE_BYTES_MAX | that many bytes

The magic and the version stay where they are in every version, and so does the whole answer. A peer
that begins with anything else, or does not finish its greeting within five seconds, is dropped. A
longer length ends the connection before anything is allocated for it.

An end that closes sends what is queued and the end of its stream, then reads and forgets what comes
until the other end closes, too, for at most a second: closing a socket with bytes unread would have
the kernel forget what it has not delivered yet. The other end closes as soon as it reads the end.

A process that is killed ends its connections at once, by its kernel. For silent peers see
`tcp_socket`: only the kernel of the other side has to answer, so a program that is busy for minutes
is not taken for dead. Nothing is encrypted or authenticated.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..addresses import format_address, parse_address
from ..errors import NobodyListensError, TransportError
from ..tasks import TaskScope
from . import tcp_socket
from .tcp_connection import TcpConnection
from .transport import ConnectionHandler

MAGIC: Final = b"PRDU"
VERSION: Final = 1
ACCEPTED: Final = 0
UNKNOWN_SERVICE: Final = 1
UNKNOWN_VERSION: Final = 2

CONNECT_TIMEOUT_SECONDS: Final = 5.0
GREETING_TIMEOUT_SECONDS: Final = 5.0

_LOG = logging.getLogger(__name__)
# How long handlers may take to end by themselves after their connections were dropped.
_HANDLER_END_SECONDS: Final = 1.0
_NAME_BYTES_MAX: Final = 255

_ADVICE: Final = (
    "check that the address and port are those of a node, and use the same release on both sides"
)

_GREETING: Final = struct.Struct("!4sBB")
_ANSWER: Final = struct.Struct("!4sBBH")


class _DialledConnection(TcpConnection):
    """The end that connected: greets first."""

    def __init__(self, peer: str, service: bytes) -> None:
        super().__init__(peer)
        self._service = service
        self.answer: asyncio.Future[TransportError | None] = self._loop.create_future()
        """None when accepted, else what is wrong; never set when the connection is lost."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if not transport.is_closing():
            greeting = _GREETING.pack(MAGIC, VERSION, len(self._service)) + self._service
            transport.write(greeting)

    def _greet(self, received: bytes) -> int:
        if not received.startswith(MAGIC[: len(received)]):
            self._settle(
                "it answers, but not as a Perdure listener",
                "check that the address and port are those of a node",
            )
            self._drop()
            return 0
        if len(received) < _ANSWER.size:
            return 0
        length: int
        _, version, status, length = _ANSWER.unpack_from(received)
        if len(received) < _ANSWER.size + length:
            return 0
        reason = received[_ANSWER.size : _ANSWER.size + length].decode("utf-8", "replace")
        if status != ACCEPTED or version != VERSION:
            problem = reason or f"it speaks version {version} of the transport, not {VERSION}"
            self._settle(problem, _ADVICE)
            self._drop()
            return 0
        self._begin()
        self.answer.set_result(None)
        return _ANSWER.size + length

    def _settle(self, problem: str, advice: str) -> None:
        self.answer.set_result(_connect_error(self._peer, problem, advice))


class _AcceptedConnection(TcpConnection):
    """The end that accepted: answers a greeting, then has its listener run a handler."""

    def __init__(self, listener: "TcpListener") -> None:
        super().__init__("")
        self._listener = listener

    def connection_made(self, transport: Any) -> None:
        name = transport.get_extra_info("peername")
        self._peer = format_address(*name[:2]) if name else "an unknown address"
        super().connection_made(transport)
        self._listener._connections.add(self)
        if self._listener._closing:
            self._drop()
        self._timer = self._loop.call_later(
            GREETING_TIMEOUT_SECONDS, self._turn_away, "did not say what it wants in time"
        )

    def connection_lost(self, error: Exception | None) -> None:
        self._listener._connections.discard(self)
        super().connection_lost(error)

    def _greet(self, received: bytes) -> int:
        if not received.startswith(MAGIC[: len(received)]):
            self._turn_away("does not speak Perdure's protocol")
            return 0
        if len(received) > len(MAGIC) and (version := received[len(MAGIC)]) != VERSION:
            self._answer(
                UNKNOWN_VERSION,
                f"it speaks version {VERSION} of the transport, not {version}",
            )
            return 0
        if len(received) < _GREETING.size:
            return 0
        size = _GREETING.size + received[_GREETING.size - 1]
        if len(received) < size:
            return 0
        service = received[_GREETING.size : size].decode("utf-8", "replace")
        handler = self._listener._handlers.get(service)
        if handler is None:
            self._answer(
                UNKNOWN_SERVICE,
                f"it does not offer the service {service!r}",
            )
            return 0
        self._transport.write(_ANSWER.pack(MAGIC, VERSION, ACCEPTED, 0))
        self._begin()
        self._listener._run(service, handler, self)
        return size

    def _answer(self, status: int, reason: str) -> None:
        text = reason.encode()
        self._transport.write(_ANSWER.pack(MAGIC, VERSION, status, len(text)) + text)
        self._turn_away(f"was refused: {reason}")

    def _turn_away(self, why: str) -> None:
        _LOG.debug("%s %s: dropped", self._peer, why)
        self._end(drop=True)
        # Not `abort`: the answer still has to leave, which for so few bytes it does at once.
        self._transport.close()


class TcpListener:
    """A bound address that takes connections; see `transport.Listener`."""

    def __init__(self, address: str, handlers: dict[str, ConnectionHandler]) -> None:
        """Take what it serves; use `TcpTransport.listen`."""
        self._address = address
        self._handlers = dict(handlers)
        self._servers: list[asyncio.Server] = []
        self._connections: set[_AcceptedConnection] = set()
        self._closing = False
        self._scope = TaskScope(f"listener {address}", on_failure=partial(_log_failure, address))

    @property
    def address(self) -> str:
        """The bound ``host:port``, with the real port where 0 was asked for."""
        return self._address

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop accepting, give open connections `grace_seconds` to end, then drop them.

        Cancelling is safe: the connections are dropped and the handlers cancelled at once.
        """
        self._closing = True
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            if not connection._greeted:
                connection._drop()
        try:
            await self._scope.wait(grace_seconds)
            self._drop_all()
            await self._scope.wait(_HANDLER_END_SECONDS)
        finally:
            self._drop_all()
            await self._scope.close()
        if waiting := [connection._gone for connection in self._connections]:
            # Set by the loop within its next turn.
            await asyncio.wait(waiting)
        for server in self._servers:
            await server.wait_closed()

    def _drop_all(self) -> None:
        for connection in tuple(self._connections):
            connection._drop()

    def _run(
        self, service: str, handler: ConnectionHandler, connection: _AcceptedConnection
    ) -> None:
        self._scope.spawn(
            _run_handler(handler, connection), name=f"{service} from {connection.peer}"
        )


class TcpTransport:
    """The Transport port between processes; works on asyncio's own loop and on uvloop."""

    async def listen(self, address: str, handlers: dict[str, ConnectionHandler]) -> TcpListener:
        """Bind ``host:port`` and run a handler, by service name, per connection.

        Raises AddressInUseError when the port is taken and TransportError when the address cannot
        be bound for another reason. Cancelling is safe.
        """
        loop = asyncio.get_running_loop()
        sockets = await tcp_socket.bind(address)
        host, _ = parse_address(address)
        listener = TcpListener(format_address(host, sockets[0].getsockname()[1]), handlers)
        accept: Callable[[], _AcceptedConnection] = partial(_AcceptedConnection, listener)
        listening = False
        try:
            for sock in sockets:
                listener._servers.append(await loop.create_server(accept, sock=sock))
            listening = True
        finally:
            if not listening:
                for server in listener._servers:
                    server.close()
                for sock in sockets:
                    sock.close()
        return listener

    async def connect(self, address: str, service: str) -> TcpConnection:
        """Open a connection to a service of a listener.

        Raises TransportError when no Perdure listener answers within five seconds, or when it
        refuses. Safe to cancel.
        """
        try:
            host, port = parse_address(address)
        except ValueError as wrong:
            raise TransportError(f"cannot connect to {address!r}: {wrong}") from None
        name = service.encode()
        if len(name) > _NAME_BYTES_MAX:
            raise TransportError(f"a service's name has at most {_NAME_BYTES_MAX} bytes: {service}")
        connection = _DialledConnection(address, name)
        made = connected = False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
                made = True
                await asyncio.wait(
                    (connection.answer, connection._gone), return_when=asyncio.FIRST_COMPLETED
                )
            if not connection.answer.done():
                raise _connect_error(address, "it closed the connection without an answer")
            if refused := connection.answer.result():
                raise refused
            connected = True
        except TimeoutError:
            raise _connect_error(
                address, f"nobody answered in {CONNECT_TIMEOUT_SECONDS:g} seconds"
            ) from None
        except ConnectionRefusedError as error:
            raise NobodyListensError(_connect_error(address, _reason(error)).message) from error
        except OSError as error:
            raise _connect_error(address, _reason(error)) from error
        finally:
            if not connected:
                connection._drop()
                if made:
                    # Set by the loop within its next turn; a loop that was cancelled while it
                    # made the connection lets go of it without a word.
                    await asyncio.wait((connection._gone,))
        return connection


async def _run_handler(handler: ConnectionHandler, connection: TcpConnection) -> None:
    try:
        await handler(connection)
    except TransportError as error:
        if not connection._ended:
            raise
        # It was about to send when the peer went away: no failure of the handler.
        _LOG.debug("the handler of the connection to %s ended: %s", connection.peer, error)
    finally:
        await connection.close()


def _connect_error(
    address: str, problem: str, advice: str = "check the address and that the node is running"
) -> TransportError:
    return TransportError(f"cannot connect to {address}: {problem}; {advice}")


def _reason(error: OSError) -> str:
    # What the loops say of a refused connection repeats the address; the kernel's word is clearer.
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _log_failure(address: str, failure: BaseException) -> None:
    _LOG.error("the handler of a connection at %s failed", address, exc_info=failure)
