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
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..addresses import format_address, parse_address
from ..errors import MessageTooLargeError, TransportError
from ..tasks import TaskScope
from . import tcp_socket
from .transport import MESSAGE_BYTES_MAX, ConnectionHandler

MAGIC: Final = b"PRDU"
VERSION: Final = 1
ACCEPTED: Final = 0
UNKNOWN_SERVICE: Final = 1
UNKNOWN_VERSION: Final = 2

CONNECT_TIMEOUT_SECONDS: Final = 5.0
GREETING_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 1.0
RECEIVED_BYTES_MAX: Final = 16 * 1024 * 1024
"""When this much has arrived and was not received, nothing more is read until half of it was."""

_LOG = logging.getLogger(__name__)
# How long handlers may take to end by themselves after their connections were dropped.
_HANDLER_END_SECONDS: Final = 1.0
_WATCH_SECONDS: Final = 2.0
# What a message counts for besides its own bytes while it waits: empty ones fill memory, too.
_OVERHEAD_BYTES: Final = 64
# Messages of one turn are joined up to this size; above it, copying costs more than it saves.
_JOINED_BYTES_MAX: Final = 128 * 1024
_NAME_BYTES_MAX: Final = 255

_LENGTH: Final = struct.Struct("!I")
_GREETING: Final = struct.Struct("!4sBB")
_ANSWER: Final = struct.Struct("!4sBBH")
_pack_length: Final = _LENGTH.pack
_unpack_length: Final = _LENGTH.unpack_from


class TcpConnection(asyncio.Protocol):
    """One open stream of messages; see `transport.Connection`.

    The methods that `asyncio.Protocol` has as well are the event loop's, not the user's.
    """

    def __init__(self, peer: str) -> None:
        """Wait for the loop to connect it; use `TcpTransport`."""
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        # Whether `send` takes messages: from the end of the greeting until either end closes.
        self._open = False
        self._greeted = False
        # Nothing more is delivered: an end closed, or the connection is lost.
        self._ended = False
        # Our end let go of it: what arrives is forgotten.
        self._dropped = False
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._out: list[bytes] = []
        self._out_bytes = 0
        # The beginning of a message, or of the greeting, of which not everything has arrived, and
        # how many bytes it takes to know more.
        self._partial = bytearray()
        self._wanted = 0
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._receiver: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._was_silent = False

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""
        return self._peer

    @property
    def queued_bytes(self) -> int:
        """Bytes taken by `send` that the kernel has not accepted yet."""
        if self._gone.done():
            return 0
        size: int = self._transport.get_write_buffer_size()
        return self._out_bytes + size

    def send(self, message: bytes) -> None:
        """Queue one message. Raises MessageTooLargeError, or TransportError when closed."""
        if not self._open:
            raise TransportError(f"the connection to {self._peer} is closed: connect again")
        size = len(message)
        if size > MESSAGE_BYTES_MAX:
            raise MessageTooLargeError(
                f"a message of {size} bytes is over the limit of {MESSAGE_BYTES_MAX}"
            )
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(_pack_length(size))
        out.append(message)
        self._out_bytes += size

    async def receive(self) -> bytes | None:
        """The next message, or None at the end of the stream. Cancelling is safe."""
        messages = self._messages
        while not messages:
            if self._ended:
                return None
            assert self._receiver is None, "two tasks receive from one connection"
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        message = messages.popleft()
        self._waiting_bytes -= len(message) + _OVERHEAD_BYTES
        if self._paused and self._waiting_bytes <= RECEIVED_BYTES_MAX // 2:
            self._resume()
        return message

    async def close(self) -> None:
        """Send what is queued, then close. Safe to cancel: the connection then just drops."""
        if self._dropped:
            return
        transport = self._transport
        try:
            # The end of the stream goes out behind what is queued; `_end` then forgets nothing.
            self._flush()
            self._end(drop=True)
            if not transport.is_closing():
                transport.write_eof()
                self._resume()
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await asyncio.wait((self._gone,))
        except TimeoutError:
            _LOG.debug("%s did not take the last messages in time", self._peer)
        finally:
            transport.abort()
        if not self._gone.done():
            # Set by the loop within its next turn.
            await asyncio.wait((self._gone,))

    def connection_made(self, transport: Any) -> None:
        """Take the transport (called by the loop)."""
        self._transport = transport
        try:
            tcp_socket.prepare(transport.get_extra_info("socket"))
        except OSError as error:
            _LOG.debug("%s was gone at once: %s", self._peer, error)
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what arrived (called by the loop)."""
        if self._dropped:
            return
        if not self._greeted:
            self._partial += data
            if not self._greet(self._partial) or self._ended:
                return
            data = bytes(self._partial)
            self._partial.clear()
        elif self._partial:
            data = self._complete(data)
            if not data:
                return
        self._deliver(data)

    def eof_received(self) -> None:
        """Close, as the other end did (called by the loop)."""
        self._drop()

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end (called by the loop)."""
        if error is not None:
            _LOG.debug("the connection to %s was lost: %s", self._peer, error)
        self._end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._gone.done():
            self._gone.set_result(None)

    def _greet(self, received: bytearray) -> bool:
        """Take the other end's greeting off the front; False when more has to arrive first."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Carry messages: both ends know each other."""
        self._greeted = self._open = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_WATCH_SECONDS, self._watch)

    def _complete(self, data: bytes) -> bytes:
        """Add to the message that has begun to arrive; give what is to be read after it."""
        partial = self._partial
        position = 0
        while (missing := self._wanted - len(partial)) > 0:
            if len(data) - position < missing:
                partial += memoryview(data)[position:]
                return b""
            partial += memoryview(data)[position : position + missing]
            position += missing
            if self._wanted == _LENGTH.size:
                (size,) = _unpack_length(partial)
                if size > MESSAGE_BYTES_MAX:
                    self._refuse(size)
                    return b""
                self._wanted += size
        message = bytes(memoryview(partial)[_LENGTH.size :])
        self._partial = bytearray()
        # Through the usual way, for the counts; the rest may hold nothing.
        self._arrived(message)
        return data[position:]

    def _deliver(self, data: bytes) -> None:
        """Queue the messages in `data`, which begins with one; keep what is not whole."""
        messages = self._messages
        position, end, count = 0, len(data), 0
        payload = 0
        while end - position >= 4:
            (size,) = _unpack_length(data, position)
            stop = position + 4 + size
            if stop > end:
                if size > MESSAGE_BYTES_MAX:
                    self._refuse(size)
                    return
                self._wanted = 4 + size
                self._partial += memoryview(data)[position:]
                break
            messages.append(data[position + 4 : stop])
            payload += size
            count += 1
            position = stop
        else:
            if position < end:
                self._wanted = 4
                self._partial += memoryview(data)[position:]
        if count:
            self._waiting_bytes += payload + count * _OVERHEAD_BYTES
            self._wake()

    def _arrived(self, message: bytes) -> None:
        self._messages.append(message)
        self._waiting_bytes += len(message) + _OVERHEAD_BYTES
        self._wake()

    def _wake(self) -> None:
        """Tell the receiver that there is something, or the end; stop reading when it is much."""
        receiver = self._receiver
        if receiver is not None and not receiver.done():
            receiver.set_result(None)
        if self._waiting_bytes >= RECEIVED_BYTES_MAX and not self._paused and not self._ended:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _refuse(self, size: int) -> None:
        _LOG.debug(
            "%s announced a message of %d bytes, which is over the limit of %d: dropped",
            self._peer,
            size,
            MESSAGE_BYTES_MAX,
        )
        self._drop()

    def _flush(self) -> None:
        """Hand what was queued in this turn to the kernel, in one call if it takes it."""
        out = self._out
        if not out:
            return
        self._out = []
        queued, self._out_bytes = self._out_bytes, 0
        if self._transport.is_closing():
            return
        if queued <= _JOINED_BYTES_MAX:
            self._transport.write(b"".join(out))
        else:
            self._transport.writelines(out)

    def _end(self, *, drop: bool = False) -> None:
        """Nothing more arrives or leaves; what arrived before can still be received."""
        self._open = False
        self._ended = True
        self._out = []
        self._out_bytes = 0
        self._partial = bytearray()
        if drop:
            self._dropped = True
            self._messages.clear()
            self._waiting_bytes = 0
        self._wake()

    def _drop(self) -> None:
        """End the connection in both directions at once."""
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def _watch(self) -> None:
        """Drop the connection when the other side's kernel has been silent for too long."""
        self._timer = self._loop.call_later(_WATCH_SECONDS, self._watch)
        try:
            silent = tcp_socket.is_silent(self._transport.get_extra_info("socket"))
        except OSError as error:
            _LOG.debug("%s cannot be watched: %s", self._peer, error)
            return
        if silent and self._was_silent:
            _LOG.debug("%s has been silent for too long: dropped", self._peer)
            self._drop()
        self._was_silent = silent


class _DialledConnection(TcpConnection):
    """The end that connected: greets first."""

    def __init__(self, peer: str, service: bytes) -> None:
        super().__init__(peer)
        self._service = service
        self.answer: asyncio.Future[str] = self._loop.create_future()
        """Empty when accepted, else what is wrong; never set when the connection is lost."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if not transport.is_closing():
            greeting = _GREETING.pack(MAGIC, VERSION, len(self._service)) + self._service
            transport.write(greeting)

    def _greet(self, received: bytearray) -> bool:
        if not received.startswith(MAGIC[: len(received)]):
            self._settle(
                "it answers, but not as a Perdure listener; check that the address and port are "
                "those of a node"
            )
            self._drop()
            return False
        if len(received) < _ANSWER.size:
            return False
        _, version, status, length = _ANSWER.unpack_from(received)
        if len(received) < _ANSWER.size + length:
            return False
        reason = received[_ANSWER.size : _ANSWER.size + length].decode("utf-8", "replace")
        del received[: _ANSWER.size + length]
        if status != ACCEPTED or version != VERSION:
            self._settle(reason or f"it speaks version {version} of the transport, not {VERSION}")
            self._drop()
            return False
        self._begin()
        self._settle("")
        return True

    def _settle(self, outcome: str) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome)


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

    def _greet(self, received: bytearray) -> bool:
        if not received.startswith(MAGIC[: len(received)]):
            self._turn_away("does not speak Perdure's protocol")
            return False
        if len(received) > len(MAGIC) and (version := received[len(MAGIC)]) != VERSION:
            self._answer(
                UNKNOWN_VERSION,
                f"it speaks version {VERSION} of the transport, not {version}; "
                "use the same release on both sides",
            )
            return False
        if len(received) < _GREETING.size:
            return False
        size = _GREETING.size + received[_GREETING.size - 1]
        if len(received) < size:
            return False
        service = received[_GREETING.size : size].decode("utf-8", "replace")
        del received[:size]
        handler = self._listener._handlers.get(service)
        if handler is None:
            self._answer(
                UNKNOWN_SERVICE,
                f"it does not offer the service {service!r}; check that the address and port are "
                "those of a node, and use the same release on both sides",
            )
            return False
        self._transport.write(_ANSWER.pack(MAGIC, VERSION, ACCEPTED, 0))
        self._begin()
        self._listener._run(service, handler, self)
        return True

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

        Cancelling is safe: the connections are dropped at once.
        """
        self._closing = True
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            if not connection._greeted:
                connection._drop()
        try:
            await self._scope.wait(grace_seconds)
        finally:
            for connection in tuple(self._connections):
                connection._drop()
        try:
            await self._scope.wait(_HANDLER_END_SECONDS)
        finally:
            await self._scope.close()
        if waiting := [connection._gone for connection in self._connections]:
            # Set by the loop within its next turn.
            await asyncio.wait(waiting)
        for server in self._servers:
            await server.wait_closed()

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
        connected = False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
                await asyncio.wait(
                    (connection.answer, connection._gone), return_when=asyncio.FIRST_COMPLETED
                )
            if not connection.answer.done():
                raise _connect_error(address, "it closed the connection without an answer")
            if problem := connection.answer.result():
                raise _connect_error(address, problem)
            connected = True
        except TimeoutError:
            raise _connect_error(
                address, f"nobody answered in {CONNECT_TIMEOUT_SECONDS:g} seconds"
            ) from None
        except OSError as error:
            raise _connect_error(address, error.strerror or str(error)) from error
        finally:
            if not connected:
                connection._drop()
        return connection


async def _run_handler(handler: ConnectionHandler, connection: TcpConnection) -> None:
    try:
        await handler(connection)
    finally:
        await connection.close()


def _connect_error(address: str, problem: str) -> TransportError:
    advice = "" if ";" in problem else "; check the address and that the node is running"
    return TransportError(f"cannot connect to {address}: {problem}{advice}")


def _log_failure(address: str, failure: BaseException) -> None:
    _LOG.error("the handler of a connection at %s failed", address, exc_info=failure)
