"""TcpConnection: messages behind their length on one TCP connection; `tcp` has the layout."""

import asyncio
import logging
import struct
from collections import deque
from typing import Any, Final

from . import tcp_socket
from .transport import MESSAGE_BYTES_MAX, not_sendable

CLOSE_TIMEOUT_SECONDS: Final = 1.0
RECEIVED_BYTES_MAX: Final = 16 * 1024 * 1024
"""When this much has arrived and was not received, nothing more is read until half of it was."""
WATCH_SECONDS: Final = 2.0
"""How often a connection asks its kernel whether the other side's has fallen silent."""

_LOG = logging.getLogger(__name__)
# What a message counts for besides its own bytes while it waits: empty ones fill memory, too.
_OVERHEAD_BYTES: Final = 64
# Messages of one turn are joined up to this size; above it, copying costs more than it saves.
_JOINED_BYTES_MAX: Final = 128 * 1024

# How many pieces of one message are kept before they are made one.
_PARTS_MAX: Final = 1024

_LENGTH: Final = struct.Struct("!I")
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
        # What arrived of a greeting or of a length that is not whole.
        self._front = b""
        # What arrived of a message that is not whole, and how many bytes of it are missing.
        self._parts: list[bytes] = []
        self._missing = 0
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._receiver: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

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
        size = len(message)
        if not self._open or size > MESSAGE_BYTES_MAX:
            raise not_sendable(self._peer, message, is_open=self._open)
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
        if self._ended:
            return
        if self._missing:
            data = self._complete(data)
        elif self._front:
            data, self._front = self._front + data, b""
        if not self._greeted:
            taken = self._greet(data)
            if not taken:
                self._front = data
                return
            data = data[taken:]
        if data:
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

    def _greet(self, received: bytes) -> int:
        """How long the other end's greeting at the front is; 0 when it is not whole or refused."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Carry messages: both ends know each other."""
        self._greeted = self._open = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(WATCH_SECONDS, self._watch)

    def _complete(self, data: bytes) -> bytes:
        """Add to the message that has begun to arrive; give what comes after it."""
        parts, missing = self._parts, self._missing
        if len(data) < missing:
            self._missing = missing - len(data)
            parts.append(data)
            if len(parts) >= _PARTS_MAX:
                # A peer that sends crumbs must not have us keep an object for each.
                parts[:] = [b"".join(parts)]
            return b""
        parts.append(data if len(data) == missing else data[:missing])
        message = b"".join(parts)
        self._parts, self._missing = [], 0
        self._messages.append(message)
        self._waiting_bytes += len(message) + _OVERHEAD_BYTES
        self._wake()
        return data[missing:]

    def _deliver(self, data: bytes) -> None:
        """Queue the messages in `data`, which begins with one; keep what is not whole."""
        messages = self._messages
        position, end, count, payload, size = 0, len(data), 0, 0, 0
        while end - position >= 4:
            (size,) = _unpack_length(data, position)
            start = position + 4
            stop = start + size
            if stop > end:
                self._parts = [data[start:]]
                self._missing = stop - end
                break
            messages.append(data[start:stop])
            payload += size
            count += 1
            position = stop
        else:
            self._front = data[position:]
        if count:
            self._waiting_bytes += payload + count * _OVERHEAD_BYTES
            self._wake()
        if size > MESSAGE_BYTES_MAX:
            self._refuse(size)

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
        self._front = b""
        self._parts, self._missing = [], 0
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
        self._timer = self._loop.call_later(WATCH_SECONDS, self._watch)
        try:
            silent = tcp_socket.is_silent(self._transport.get_extra_info("socket"))
        except OSError as error:
            _LOG.debug("%s cannot be watched: %s", self._peer, error)
            return
        if silent:
            _LOG.debug("%s has been silent for too long: dropped", self._peer)
            self._drop()
