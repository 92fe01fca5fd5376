"""Listen addresses: ``host:port`` taken apart, and whether a port is free before it is taken."""

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import AddressInUseError, TransportError


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[v6]:port``. Raises ValueError, whose text says what is wanted."""
    host, colon, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not port_text.isascii() or not port_text.isdigit():
        raise ValueError('an address is host:port, such as "127.0.0.1:8080" or "[::1]:8080"')
    port = int(port_text)
    if port > 65_535:
        raise ValueError(f"port {port} is not between 0 and 65535")
    return host, port


def format_address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_ip_address(host: str) -> bool:
    """Whether `host` is an address in digits, IPv4 or IPv6 without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_wildcard(host: str) -> bool:
    """Whether `host` stands for every address of the machine, and so for none to connect to."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reserve_port(address: str, option: str) -> tuple[str, int]:
    """Check that `address` can be bound and give its host and port, a free port in place of 0.

    Servers that bind with SO_REUSEPORT, or only once they run, would share a taken port or fail
    without a word; this asks first. Raises AddressInUseError or TransportError, which name the
    option that holds the address.
    """
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A port whose last connections linger in TIME_WAIT is free: a restart must not wait.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(
                    f"{address} is taken by another process; stop it or choose another address "
                    f"with --set {option}=HOST:PORT (port 0 takes any free one)"
                ) from None
            raise TransportError(
                f"cannot listen on {address} ({error.strerror or error}); choose another address "
                f"with --set {option}=HOST:PORT"
            ) from None
        bound: int = probe.getsockname()[1]
        return host, bound


@contextmanager
def held_port(host: str, port: int) -> Iterator[None]:
    """Keep a reserved port from being given to somebody else as a free one.

    For a server that binds late and with SO_REUSEPORT: until it does, another process that asks for
    any free port may get this one, and both would share it without a word. No connection goes
    to whoever only holds it. Best effort: what cannot be held is not.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            with suppress(OSError):
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                held.bind((host, port))
        yield


def reached_by(address: str) -> str:
    """The address to connect to for a listener at `address`: a wildcard is no destination."""
    host, port = parse_address(address)
    return format_address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
