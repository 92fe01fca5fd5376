"""Tests that run beside each other never have the same port, whatever else the machine runs."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.node.local_cluster.ports import PortClaim, addresses_from, every

from . import ports
from .ports import BLOCK, HOST, PortBlock


@contextmanager
def taken() -> Iterator[PortBlock]:
    """A block, as another process would have it: the kernel tells sockets apart, not processes."""
    block = PortBlock()
    try:
        yield block
    finally:
        block.release()


def test_no_two_processes_have_a_port_in_common() -> None:
    with contextlib.ExitStack() as stack:
        blocks = [stack.enter_context(taken()) for _ in range(3)]
        numbers = [port for block in blocks for port in (block.numbers[0] - 1, *block.numbers)]

        assert len(set(numbers)) == 3 * BLOCK
        for block in blocks:
            assert {block.free() for _ in range(50)} <= set(block.numbers)


def test_a_block_that_was_given_back_is_taken_again() -> None:
    with taken() as first:
        pass
    with taken() as again:
        assert again.numbers == first.numbers


def test_ports_lie_below_those_of_outgoing_connections(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ports, "_RANGE_FILE", tmp_path / "range")
    (tmp_path / "range").write_text(f"{ports.FIRST_BLOCK + 2 * BLOCK + 7}\t60999\n")
    # Other tests have blocks, too: those that are left are no others than these.
    monkeypatch.setattr(ports, "_claim", lambda port: tried.append(port))
    tried: list[int] = []
    with pytest.raises(RuntimeError, match="other tests have all blocks"):
        PortBlock()

    assert tried == [ports.FIRST_BLOCK, ports.FIRST_BLOCK + BLOCK]


def test_a_port_of_somebody_else_is_passed_over() -> None:
    """A server, one that is about to be, and a cluster whose nodes are down."""
    with taken() as block, socket.socket() as server, socket.socket() as waiting:
        first = block.free_in_a_row(10)
        server.bind((HOST, first + 1))
        server.listen()
        waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        waiting.bind((HOST, first + 2))
        claim = PortClaim(every(addresses_from(first + 4, 1)))
        found = {block.free() for _ in range(2 * BLOCK)}
        claim.release()

        row = set(range(first, first + 10))
        assert row - found == {first + 1, first + 2, *range(first + 4, first + 8)}


def test_ports_in_a_row_leave_out_what_is_taken() -> None:
    with taken() as block, socket.socket() as server:
        taken_port = block.free_in_a_row(10) + 5
        server.bind((HOST, taken_port))
        server.listen()

        rows = [block.free_in_a_row(10) for _ in range(BLOCK // 5)]
        assert not any(row <= taken_port < row + 10 for row in rows)


def test_a_block_is_used_again_from_its_start() -> None:
    with taken() as block:
        found = [block.free() for _ in range(BLOCK)]
        assert len(set(found)) < BLOCK

        # No row goes from the end of the block to its start.
        rows = [block.free_in_a_row(7) for _ in range(BLOCK // 5)]
        assert all(row + 6 in block.numbers for row in rows)
