"""Ports for a local cluster: free now, and not to be taken by another local cluster.

A node's ports have to stay its own while it is down. So every port of a running cluster is claimed
by its launcher: a UDP socket that is bound to the same number and never read. The kernel gives such
a claim to one process, and takes it back when that process ends, however it ends.
"""

import socket
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final, TypeAlias

from ...core.addresses import format_address, parse_address
from ...core.errors import AddressInUseError
from ...core.sections import ListenSection

HOST: Final = "127.0.0.1"
DOORS: Final = ("ingress_http", "ingress_grpc", "admin", "node")
NODE_STEP: Final = 100
"""From one node's usual ports to the next one's: 8080, 8180, 8280."""
BASE_STEP: Final = 10
"""The same, counted from a port base."""
BLOCK_STEP: Final = 100
FIRST_BLOCK: Final = 12_000
"""Where blocks begin that are tried when the usual ports are taken."""
_RANGE_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_OUTGOING_DEFAULT: Final = 32_768

Addresses: TypeAlias = dict[str, str]
"""By door."""


class PortClaim:
    """Ports that no other local cluster takes, until `release`."""

    def __init__(self, addresses: Iterable[str]) -> None:
        """Claim them all or none. Raises AddressInUseError, which names the first that is taken."""
        self._sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._claim(address)
        except BaseException:
            self.release()
            raise

    def _claim(self, address: str) -> None:
        where = parse_address(address)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sockets.append(claim)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # A port whose last connections linger in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind(where)
                probe.bind(where)
            except (OSError, OverflowError) as error:
                raise AddressInUseError(f"cannot listen on {address}: {_reason(error)}") from None

    def release(self) -> None:
        """Give them back; fine when that has been done."""
        while self._sockets:
            self._sockets.pop().close()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def usual_addresses(count: int) -> list[Addresses]:
    """The first node's are those of a single node, so that commands find it without being told."""
    listen = ListenSection()
    usual = {door: parse_address(getattr(listen, door))[1] for door in DOORS}
    return [
        {door: format_address(HOST, port + NODE_STEP * node) for door, port in usual.items()}
        for node in range(count)
    ]


def addresses_from(base: int, count: int) -> list[Addresses]:
    """Ten ports to a node, of which the first four are used, from `base` on."""
    return [
        {
            door: format_address(HOST, base + BASE_STEP * node + number)
            for number, door in enumerate(DOORS)
        }
        for node in range(count)
    ]


def choose_ports(count: int) -> tuple[list[Addresses], PortClaim]:
    """The usual ports, or the first block that is free. Raises AddressInUseError if none is."""
    last_error: AddressInUseError | None = None
    for addresses in _candidates(count):
        try:
            return addresses, PortClaim(every(addresses))
        except AddressInUseError as error:
            last_error = error
    assert last_error is not None
    raise AddressInUseError(
        f"no {count * len(DOORS)} ports in a row are free ({last_error.message}): stop what is not "
        "needed any more"
    )


def every(addresses: Iterable[Addresses]) -> list[str]:
    """The addresses of all doors of all nodes."""
    return list(chain.from_iterable(each.values() for each in addresses))


def _candidates(count: int) -> Iterator[list[Addresses]]:
    yield usual_addresses(count)
    # A port that outgoing connections are given could be taken while its node is down.
    try:
        last = int(_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        last = _OUTGOING_DEFAULT
    for base in range(FIRST_BLOCK, last - BASE_STEP * count, BLOCK_STEP):
        yield addresses_from(base, count)
