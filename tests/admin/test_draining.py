"""Which log-servers may be drained: as many stay as records have copies, in as many zones."""

from collections.abc import Sequence
from typing import Any

import pytest

from perdure.log.replicated.provider import Replication
from perdure.node.cluster.errors import NodeChangeError

from ..node.controller.facts import view_of
from .small_cluster import SmallCluster, on_cluster, unchanged


async def log_servers(cluster: SmallCluster, copies: int, zones: Sequence[str] = "") -> None:
    """Have all nodes keep logs, each record on so many; in these zones, if any."""
    cluster.replication = Replication(nodes=copies, zones=max(1, len(set(zones))))
    for node_id in (1, 2, 3):
        zone = zones[node_id - 1] if zones else ""
        await cluster.set_node(node_id, roles=("admin", "log-server", "worker"), zone=zone)


@pytest.mark.parametrize(
    ("third", "refused"),
    [
        ({}, False),
        ({"dead": (3,)}, True),
        ({"leaving": (3,)}, True),
        # It may be back at once; whether it is to stay away is not known yet.
        ({"suspect": (3,)}, False),
        ({"drained": True}, True),
        ({"storage": "read-only"}, True),
        ({"storage": "data-loss"}, True),
        ({"roles": ("admin", "worker")}, True),
    ],
    ids=str,
)
def test_a_node_is_not_drained_that_records_need(third: dict[str, Any], refused: bool) -> None:
    """Leads that move need new segments, and these as many log-servers as there are copies."""

    async def scenario(cluster: SmallCluster) -> None:
        await log_servers(cluster, 2)
        if third.keys() & {"dead", "leaving", "suspect"}:
            cluster.seen.change(view_of(cluster.seen.nodes, **third))
        else:
            await cluster.set_node(3, **third)
        drain = cluster.view().set_drained("node-2", True)
        if not refused:
            assert (await drain).drained
            return
        error = await unchanged(cluster, drain)
        assert isinstance(error, NodeChangeError)
        assert "node 'node-2' is needed as a log-server. Without it" in error.message
        assert "only 1 can take any (node-1)" in error.message
        assert "start more log-servers" in error.message

    on_cluster(scenario)


def test_a_node_that_takes_no_records_is_drained_whatever_the_others_do() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await log_servers(cluster, 3)
        cluster.die(3)
        assert (await cluster.view().set_drained("node-3", True)).drained
        await cluster.set_node(2, storage="read-only")
        assert (await cluster.view().set_drained("node-2", True)).drained

    on_cluster(scenario)


def test_the_last_log_server_of_the_second_zone_is_not_drained() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await log_servers(cluster, 2, "aba")
        error = await unchanged(cluster, cluster.view().set_drained("node-2", True))
        assert "each record is to be in 2 zones" in str(error)
        assert (await cluster.view().set_drained("node-3", True)).drained

    on_cluster(scenario)
