"""A replica whose rows are not its leader's parks, and the others go on."""

import pytest

from perdure.ingress.requests import Completed, InvocationRequest
from perdure.partition_processor.describing import UNFIT, standing
from perdure.partition_processor.digests import MARK_EVERY
from perdure.partition_processor.errors import RefillRefusedError

from .cluster import MS, Cluster, Node
from .ledgers import APP
from .test_parked import expect_parked, until


def spoil(node: Node) -> None:
    """Have a replica come to something else from here on, as a flipped bit would."""
    node.processor(0)._machine._digest = b"something else.."


async def call(cluster: Cluster, node: Node, name: str) -> None:
    key = cluster.keys_in(0, 1)[0]
    body = b'"%s"' % name.encode()
    future, _ = node.call(InvocationRequest("Ledger", "add", key, body, idempotency_key=name))
    assert isinstance(await future, Completed)


async def begin(cluster: Cluster) -> list[tuple[str, int]]:
    """Have the partition hold something; where it is parked from now on."""
    await cluster.add_worker(APP)
    await call(cluster, cluster.nodes[0], "first")
    return expect_parked(cluster)


def test_a_follower_that_differs_parks_under_load() -> None:
    cluster = Cluster(3, nodes=3, partitions=1)

    async def scenario() -> None:
        one, two, three = cluster.nodes
        found = await begin(cluster)
        await until(cluster, lambda: two.processor(0).next_lsn == one.processor(0).next_lsn)
        spoil(two)
        start_lsn = one.processor(0).next_lsn
        number = 0
        while not found and one.processor(0).next_lsn < start_lsn + 3 * MARK_EVERY:
            number += 1
            await call(cluster, one, f"more {number}")
        await until(cluster, lambda: bool(found))
        assert [name for name, _ in found] == ["n1"]
        assert [node.processor(0).role for node in cluster.nodes] == [
            "leader",
            "stopped",
            "follower",
        ]
        assert "perdure partitions refill 0" in two.processor(0).error
        await call(cluster, three, "last")
        # Not even when it begins anew, as after a restart of its node, and is told to lead.
        two.manager.apply_placement({0: "absent"})
        await until(cluster, lambda: two.processor(0).role == "absent")
        assert standing(two.processor(0)) == UNFIT
        two.manager.apply_placement({0: "leader"})
        one.manager.apply_placement({0: "follower"})
        await until(cluster, lambda: two.processor(0).role == "stopped")
        await cluster.loop.pause(3000 * MS)
        assert two.processor(0).role == "stopped"
        assert two.processor(0).error.startswith("PD0929 partition 0 has other rows here")
        assert (two.processor(0).epoch, standing(two.processor(0))) == (0, UNFIT)
        await three.lead(0)
        with pytest.raises(RefillRefusedError, match="partition 0 is leader on n2"):
            three.manager.refill(0)

    cluster.run(scenario())


def test_whoever_takes_the_lead_finds_out_who_differs() -> None:
    cluster = Cluster(3, nodes=3, partitions=1)

    async def scenario() -> None:
        one, two, three = cluster.nodes
        found = await begin(cluster)
        await until(cluster, lambda: three.processor(0).next_lsn == one.processor(0).next_lsn)
        spoil(three)
        two.manager.apply_placement({0: "leader"})
        one.manager.apply_placement({0: "follower"})
        await until(cluster, lambda: two.processor(0).leading and bool(found))
        assert [name for name, _ in found] == ["n2"]

    cluster.run(scenario())
