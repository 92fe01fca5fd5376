"""The client while its node is killed under it: what was asked for is done, once."""

import asyncio
from pathlib import Path

from perdure.sdk import RestateClient, create_client

from .apps.counter import add, greet
from .cluster import Cluster

ADDS = 400
CALLERS = 20


def test_calls_outlive_the_node_that_took_them(tmp_path: Path) -> None:
    """Each has its answer in the end, and counts once."""

    async def callers(client: RestateClient, cluster: Cluster) -> int:
        answered = 0
        killed = asyncio.Event()

        async def call(caller: int) -> None:
            nonlocal answered
            for number in range(ADDS // CALLERS):
                await client.object_call(add, f"key{number % 3}", 1)
                assert await client.service_call(greet, "Ann") == "Hello Ann"
                answered += 1
                if answered >= ADDS // 4:
                    killed.set()
                    await restarted.wait()

        restarted = asyncio.Event()
        async with asyncio.timeout(180), asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(call(caller))
            await killed.wait()
            assert cluster.node is not None
            # In the midst of whatever the other callers have under way.
            cluster.node.kill()
            cluster.spawn_node()
            restarted.set()
        return answered

    async def main(cluster: Cluster) -> int:
        door = cluster.address("ingress-grpc")
        async with create_client(door, give_up_seconds=180) as client:
            return await callers(client, cluster)

    with Cluster(tmp_path) as cluster:
        cluster.start()
        assert asyncio.run(main(cluster)) == ADDS
        assert sum(cluster.counter(f"key{number}") for number in range(3)) == ADDS
