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
_REPETITIONS_MIN: Final = 2
# The start of Linux's `struct tcp_info`: the third byte counts the repetitions that were not
# answered, the fourth the probes for room; the thirteenth word after the first eight bytes is how
# many milliseconds ago the peer's kernel was last heard.
_TCP_INFO: Final = struct.Struct("=2xBB4x48xI")


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


def is_silent(sock: Any) -> bool:
    """Whether the peer's kernel was not heard for 15 seconds though we said something repeatedly.

    False where the platform does not tell. Raises OSError when the connection is lost already.
    """
    if sys.platform != "linux":
        return False
    return _says_silence(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))


def _says_silence(tcp_info: bytes) -> bool:
    if len(tcp_info) < _TCP_INFO.size:
        return False
    repetitions: int
    probes: int
    heard_ms_ago: int
    repetitions, probes, heard_ms_ago = _TCP_INFO.unpack(tcp_info)
    # One may be on its way just now: a peer without room is asked more and more rarely.
    unanswered = max(repetitions, probes) >= _REPETITIONS_MIN
    return unanswered and heard_ms_ago >= SILENCE_SECONDS_MAX * 1000


async def bind(address: str) -> list[socket.socket]:
    """Listening sockets for every address that the host of ``host:port`` has, all on one port.

    Raises AddressInUseError when the port is taken and TransportError when the address cannot be
    bound for another reason. Cancelling is safe.
    """
    try:
        host, port = parse_address(address)
    except ValueError as wrong:
        raise TransportError(f"cannot listen on {address!r}: {wrong}") from None
    sockets: list[socket.socket] = []
    bound = False
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # A host may be listed more than once.
        for family, _, _, _, target in dict.fromkeys(found):
            listening = _listening_socket(family, (target[0], port, *target[2:]))
            sockets.append(listening)
            # The others take the port that the first one got where any was asked for.
            port = listening.getsockname()[1]
        bound = True
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(
                f"cannot listen on {address}: another process has the port; "
                "stop it or use another port"
            ) from error
        raise TransportError(
            f"cannot listen on {address}: {error.strerror or error}; use an address of this machine"
        ) from error
    finally:
        if not bound:
            for listening in sockets:
                listening.close()
    return sockets


def _listening_socket(family: int, target: tuple[Any, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            # Connections of an earlier process that linger do not keep a restarted one out. (On
            # Windows the option would let two processes share a port.)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(target)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
