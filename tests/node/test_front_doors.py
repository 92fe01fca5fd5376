"""Which front doors clients are told of."""

from perdure.ingress.grpc import FrontDoors
from perdure.metadata.nodes import Addresses, NodeConfiguration, NodeId, NodesConfiguration, Role
from perdure.node.front_doors import front_doors


def node(number: int, address: str, *roles: Role) -> NodeConfiguration:
    """A node with a gRPC front door at an address."""
    return NodeConfiguration(
        NodeId(number),
        f"n{number}",
        1,
        Addresses(f"h{number}:5122", ingress_grpc=address),
        roles or ("ingress", "worker"),
        "",
        "read-write",
        False,
        "",
    )


def test_all_nodes_that_take_requests_are_told_of_and_the_steady_ones_come_first() -> None:
    """Not those that have no such role, nor what nobody can connect to."""
    nodes = NodesConfiguration(
        1,
        "c",
        "c0ffee",
        4,
        2,
        NodeId(8),
        (
            node(1, "h1:8081"),
            node(2, "h2:8081"),
            node(3, "h3:8081", "metadata-server"),
            node(4, "h4:0"),
            node(5, ""),
            node(6, "h6:8081"),
        ),
    )

    assert front_doors(nodes, (2, 3, 4, 5, 6)) == FrontDoors(
        "c0ffee", ("h2:8081", "h6:8081"), ("h1:8081",)
    )
