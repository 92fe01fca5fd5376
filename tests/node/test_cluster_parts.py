"""What an engine gets of its cluster."""

from typing import Any

from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.ingress.forwarding.leaders import LeaderTable
from perdure.log.replicated.provider import Replication
from perdure.metadata.memory import MemoryMetadataStore
from perdure.metadata.nodes import Addresses, NodeConfiguration, NodeId, NodesConfiguration
from perdure.node.cluster.parts import ClusterParts, disk_name
from perdure.node.replicated_logs import copies_warnings


def node(node_id: int, name: str, **more: object) -> NodeConfiguration:
    """A log-server."""
    fields: dict[str, object] = {
        "generation": 1,
        "addresses": Addresses(f"{name}:5122"),
        "roles": ("log-server",),
        "zone": "",
        "storage": "read-write",
        "drained": False,
        "disk_token": "",
    }
    everything: Any = {"id": NodeId(node_id), "name": name, **fields, **more}
    return NodeConfiguration(**everything)


def parts(me: NodeConfiguration, *others: NodeConfiguration) -> ClusterParts:
    """The parts of a cluster in which everybody lives but n9."""
    nodes = NodesConfiguration(1, "c", "f", 4, 2, NodeId(10), (me, *others))
    return ClusterParts(
        me=me,
        metadata=MemoryMetadataStore(),
        nodes=lambda: nodes,
        nodes_version=lambda: 3,
        alive=lambda: tuple(item.id for item in nodes.nodes if item.id != 9),
        leaders=LeaderTable(),
        transport=InProcTransport(InProcNetwork()),
    )


def test_a_node_of_the_same_name_on_another_disk_is_another_life() -> None:
    before, after = node(3, "n3"), node(4, "n3")
    assert before.generation == after.generation
    assert parts(before).life != parts(after).life
    assert disk_name(before.id) != disk_name(after.id)
    assert parts(node(3, "n3", generation=2)).life != parts(before).life


def test_segments_go_to_log_servers_that_live_and_take_records() -> None:
    cluster = parts(
        node(1, "n1"),
        node(2, "n2", storage="data-loss"),
        node(3, "n3", storage="read-only"),
        node(4, "n4", drained=True),
        node(5, "n5", roles=("worker",)),
        node(9, "n9"),
    )
    servers = {server.node: (server.writable, server.alive) for server in cluster.log_servers()}
    # Who lost its disk is not asked either: its silence would mean nothing.
    assert servers == {
        "n1": (True, True),
        "n3": (False, True),
        "n4": (False, True),
        "n9": (True, False),
    }
    assert cluster.address_of("n3") == "n3:5122"
    assert cluster.address_of("n7") is None


def test_too_few_log_servers_for_the_copies_of_a_record_are_told_of() -> None:
    cluster = parts(node(1, "n1"), node(2, "n2"), node(3, "n3", drained=True), node(9, "n9"))
    assert copies_warnings(cluster.log_servers(), Replication(2)) == []
    [warning] = copies_warnings(cluster.log_servers(), Replication(3))
    assert "cluster.log_copies), but only 2 can take any (n1, n2)" in warning
    assert "cluster.log_copies lower" in warning.rpartition("; ")[2]


def test_too_few_zones_for_the_copies_of_a_record_are_told_of() -> None:
    cluster = parts(node(1, "n1", zone="a"), node(2, "n2", zone="a"), node(9, "n9", zone="b"))
    assert copies_warnings(cluster.log_servers(), Replication(2, zones=1)) == []
    [warning] = copies_warnings(cluster.log_servers(), Replication(2, zones=2))
    assert "cluster.log_zones), but the log-servers that can take any (n1, n2) are in 1" in warning
    both = parts(node(1, "n1", zone="a"), node(2, "n2", zone="b"))
    assert copies_warnings(both.log_servers(), Replication(2, zones=2)) == []
