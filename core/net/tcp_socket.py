"""What the kernel does for TcpTransport: listening sockets and noticing that a peer is gone.

A peer whose process ended says so itself (its kernel does). One that fell silent, because a cable
was pulled or its machine stopped, is found by its kernel's silence, never by its program's: kernels
answer for a program that is busy, or that does not read, for as long as it lives. Two things watch:

- An idle connection: keep-alive probes, the first after 10 seconds, then every 2, three unanswered
  ones end it.
- A connection with something to send, where the kernel suspends keep-alive: `is_silent` tells that
  the kernel's repetitions have been unanswered for 15 seconds. This is TCP_USER_TIMEOUT, but for
  one thing: that option also ends a connection whose peer answers every time that it has no room,
  which is what a busy one does. Without TCP_INFO (Linux has it) the kernel's own patience counts.
"""

import asyncio
import errno
import socket
import struct
import sys
from typing import Any, Final

from ..addresses import parse_address
from ..errors import AddressInUseError, TransportError

KEEPALIVE_IDLE_SECONDS: Final = 10
KEEPALIVE_INTERVAL_SECONDS: Final = 2
KEEPALIVE_PROBES: Final = 3
SILENCE_SECONDS_MAX: Final = 15.0
"""How long a kernel may leave our kernel's repetitions unanswered."""

_BACKLOG: Final = 1024
# The start of Linux's `struct tcp_info`: the third byte counts the repetitions that were not
# answered, the fourth the probes for room, and the last of the words after the eight bytes is how
# many milliseconds ago the peer's kernel was last heard.
_TCP_INFO: Final = struct.Struct("=2xBB4x12xI28x")
_TCP_INFO_WORDS: Final = struct.Struct("=2xBB4x36xI")


def prepare(sock: Any) -> None:
    """Have the kernel watch an open connection and send without delay.

    Raises OSError when the connection is lost already.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for names, value in (
        (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), KEEPALIVE_IDLE_SECONDS),
        (("TCP_KEEPINTVL",), KEEPALIVE_INTERVAL_SECONDS),
        (("TCP_KEEPCNT",), KEEPALIVE_PROBES),
    ):
        for name in names:
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
                break
