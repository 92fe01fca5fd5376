"""Ports of this process alone, for what has to be found again at the port that it had.

Tests run beside other tests: in the other process of the same run, and in other runs on the same
machine. So a process takes a block of ports for as long as it lives, by a UDP socket that is bound
to the block's first number and never read. The kernel gives it to one process only, and takes it
back when that process ends, however it ends.

Blocks lie below the ports that the kernel chooses from for outgoing connections and for port 0:
nothing that runs takes one by accident. And they lie above those where `perdure up` begins to look.
"""

import itertools
import socket
from functools import cache
from pathlib import Path

HOST = "127.0.0.1"
FIRST_BLOCK = 20_000
BLOCK = 500
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LAST_PORT = 65_535


class PortBlock:
    """The ports of one process, until `release`: handed out one after the other, then again."""

    def __init__(self) -> None:
        """Take the first block that is free. Raises RuntimeError when all are taken."""
        for first in range(FIRST_BLOCK, _end() - BLOCK + 1, BLOCK):
            claim = _claim(first)
            if claim is not None:
                break
        else:
            raise RuntimeError(f"other tests have all blocks of ports from {FIRST_BLOCK} on")
        self.numbers = range(first + 1, first + BLOCK)
        self._claim = claim
        self._next = itertools.cycle(self.numbers)

    def free(self) -> int:
        """The next port that nobody has. Raises RuntimeError when there is none."""
        for port in itertools.islice(self._next, len(self.numbers)):
            if _is_free(port):
                return port
        raise RuntimeError(f"no port from {self.numbers[0]} to {self.numbers[-1]} is free")

    def free_in_a_row(self, count: int) -> int:
        """The first of so many that nobody has. Raises RuntimeError when there are none."""
        row: list[int] = []
        for port in itertools.islice(self._next, 2 * len(self.numbers)):
            if row and port != row[-1] + 1:
                row.clear()
            if _is_free(port):
                row.append(port)
            else:
                row.clear()
            if len(row) == count:
                return row[0]
        raise RuntimeError(f"no {count} ports in a row from {self.numbers[0]} on are free")

    def release(self) -> None:
        """Let another process have the block."""
        self._claim.close()


def _end() -> int:
    """The first port that is not ours to take."""
    try:
        outgoing = int(_RANGE_FILE.read_text().split()[0])
    except OSError:
        outgoing = 32_768
    # Where the kernel chooses from all, there are no better ones than these.
    return outgoing if outgoing >= FIRST_BLOCK + 2 * BLOCK else _LAST_PORT


def _claim(port: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((HOST, port))
    except OSError:
        claim.close()
        return None
    return claim


def _is_free(port: int) -> bool:
    """Whether no server listens there, and no `perdure up` has claimed it."""
    claim = _claim(port)
    if claim is None:
        return False
    with claim, socket.socket() as probe:
        # Without SO_REUSEADDR, so that a server that has a port and does not listen yet is seen.
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@cache
def _ours() -> PortBlock:
    return PortBlock()


def free_port() -> int:
    """A port that nobody has and that no other process of tests is given."""
    return _ours().free()


def free_ports(count: int) -> int:
    """The first of so many in a row."""
    return _ours().free_in_a_row(count)
