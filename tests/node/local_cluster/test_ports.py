"""Ports are free, and no two local clusters have the same."""

import socket

import pytest

from perdure.core.errors import AddressInUseError
from perdure.node.local_cluster import ports
from perdure.node.local_cluster.ports import (
    PortClaim,
    addresses_from,
    choose_ports,
    every,
    usual_addresses,
)

from ...ports import free_ports


def test_first_node_listens_where_a_single_node_does() -> None:
    first, second = usual_addresses(2)

    assert first == {
        "ingress_http": "127.0.0.1:8080",
        "ingress_grpc": "127.0.0.1:8081",
        "admin": "127.0.0.1:9070",
        "node": "127.0.0.1:5122",
    }
    assert second["ingress_http"] == "127.0.0.1:8180"


@pytest.mark.parametrize("count", range(1, 10))
def test_no_two_doors_share_a_port(count: int) -> None:
    for addresses in (usual_addresses(count), addresses_from(20_000, count)):
        assert len(set(every(addresses))) == 4 * count


def test_two_clusters_never_choose_the_same_port() -> None:
    first, claim = choose_ports(3)
    second, other = choose_ports(3)
    claim.release()
    other.release()

    assert not set(every(first)) & set(every(second))


def test_claimed_port_is_refused_until_it_is_given_back() -> None:
    addresses = addresses_from(free_ports(10), 1)
    claim = PortClaim(every(addresses))
    try:
        with pytest.raises(AddressInUseError, match=f"listen on {addresses[0]['ingress_http']}"):
            PortClaim(every(addresses))
    finally:
        claim.release()
    PortClaim(every(addresses)).release()


def test_refused_claim_keeps_nothing() -> None:
    addresses = addresses_from(free_ports(20), 2)
    first, second = addresses
    held = PortClaim(second.values())
    with pytest.raises(AddressInUseError):
        PortClaim(every(addresses))
    PortClaim(first.values()).release()
    held.release()


def test_port_that_a_server_has_is_refused() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"

        with pytest.raises(AddressInUseError, match="already in use"):
            PortClaim([address])


def test_all_ports_taken_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses, claim = choose_ports(1)
    monkeypatch.setattr(ports, "_candidates", lambda count: iter([addresses]))

    with pytest.raises(AddressInUseError, match="stop what is not needed"):
        choose_ports(1)
    claim.release()
