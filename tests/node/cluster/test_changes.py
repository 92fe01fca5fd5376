"""What operators may change about nodes, and what they may not."""

import pytest

from perdure.metadata.nodes import Addresses, NodeConfiguration, NodeId, NodesConfiguration
from perdure.node.cluster.changes import (
    new_cluster,
    remove,
    set_drained,
)
from perdure.node.cluster.errors import NodeChangeError, UnknownNodeError


def cluster(storage: str = "read-write") -> NodesConfiguration:
    node = NodeConfiguration(
        NodeId(1),
        "a",
        1,
        Addresses("a:1"),
        ("worker",),
        "",
        storage,
        False,
        "t",  # type: ignore[arg-type]
    )
    return new_cluster("c", "f", partition_count=1, replicas=1).with_node(node)


def test_a_node_is_drained_and_taken_back() -> None:
    drained = set_drained(cluster(), "a", True)

    assert drained.nodes[0].drained
    assert set_drained(drained, "a", False) == cluster()


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownNodeError, match="the nodes are: a"):
        set_drained(cluster(), "b", True)


def test_a_node_that_lives_or_may_hold_the_last_copy_is_not_removed() -> None:
    with pytest.raises(NodeChangeError, match="alive"):
        remove(cluster("gone"), "a", alive=True)
    with pytest.raises(NodeChangeError, match="last copy"):
        remove(cluster(), "a", alive=False)

    assert remove(cluster("data-loss"), "a", alive=False).nodes == ()


def test_the_number_of_copies_has_bounds() -> None:
    assert new_cluster("c", "f", partition_count=1, replicas=9).replicas == 9
    for replicas in (0, 10):
        with pytest.raises(NodeChangeError):
            new_cluster("c", "f", partition_count=1, replicas=replicas)
