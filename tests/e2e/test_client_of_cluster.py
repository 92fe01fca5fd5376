"""The client of one node of a cluster, which dies for good: what was asked for is done, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from perdure.sdk import RestateClient, create_client
from perdure.sdk.client_grpc import GrpcChannel, GrpcRequestStream

from .apps.counter import add, greet
from .node_group import NodeGroup

ADDS = 240
CALLERS = 12


@asynccontextmanager
async def session_at(address: str) -> AsyncIterator[GrpcRequestStream]:
    """A session that asks for nothing."""
    channel = GrpcChannel(address)
    try:
        yield await channel.open_stream()
    finally:
        await channel.close()


def test_a_client_that_knows_one_node_outlives_it(tmp_path: Path) -> None:
    """It goes to those that the node told of; each call has its answer, and counts once."""

    async def callers(client: RestateClient, group: NodeGroup) -> int:
        answered = 0
        enough, killed = asyncio.Event(), asyncio.Event()

        async def call(caller: int) -> None:
            nonlocal answered
            for number in range(ADDS // CALLERS):
                await client.object_call(add, f"key{number % 3}", 1)
                assert await client.service_call(greet, "Ann") == "Hello Ann"
                answered += 1
                if answered >= ADDS // 4:
                    enough.set()
                    await killed.wait()

        async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
            for caller in range(CALLERS):
                tasks.create_task(call(caller))
            await enough.wait()
            # In the midst of whatever the other callers have under way.
            group.nodes["n1"].kill()
            killed.set()
        return answered

    async def main(group: NodeGroup) -> int:
        doors = [group.address(name, "ingress-grpc") for name in ("n1", "n2", "n3")]
        async with (
            session_at(doors[1]) as one,
            session_at(doors[1]) as another,
            create_client(doors[0], give_up_seconds=180) as client,
        ):
            # Each session has them in another order, so n1 is the last one in one at most.
            told = [(await each.read()).front_doors.addresses for each in (one, another)]
            answered = await callers(client, group)
            async with asyncio.timeout(180):
                for each, addresses in zip((one, another), told, strict=True):
                    assert sorted(addresses) == sorted(doors)
                    while addresses[-1] != doors[0]:
                        addresses = (await each.read()).front_doors.addresses
                    assert sorted(addresses) == sorted(doors)
        return answered

    with NodeGroup(tmp_path) as group:
        group.start()
        assert asyncio.run(main(group)) == ADDS
        assert sum(group.counter(f"key{number}") for number in range(3)) == ADDS
