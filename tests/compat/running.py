"""Runs the services of a test as their users would: over gRPC, and in the test harness.

In the harness handlers suspend whenever they wait, so that what follows a wait runs in a replay,
and each run of a handler is replayed and compared.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import perdure.sdk as restate
from perdure.ingress.grpc import GrpcIngress
from perdure.sdk import RestateClient
from perdure.sdk.service import ServiceBase
from perdure.testing import InProcessNode, run

Way = Literal["over gRPC", "in the harness"]
WAYS: tuple[Way, ...] = ("over gRPC", "in the harness")
way: Way = "over gRPC"
"""How `used` runs services; the fixture ``each_way`` sets it."""


@asynccontextmanager
async def over_grpc(app: restate.App) -> AsyncIterator[RestateClient]:
    """Serve an app in this process and give a client that reaches it by a port."""
    async with InProcessNode(options=["partitions.count=2"]) as node:
        await node.add_worker(app)
        door = GrpcIngress(node.engine.dispatcher)
        address = await door.start("127.0.0.1:0")
        try:
            async with restate.create_client(address) as client:
                yield client
        finally:
            await door.stop()


def used(use: Callable[[RestateClient], Awaitable[Any]], *services: ServiceBase) -> Any:
    """What a use of a client of these services gives."""

    async def main() -> Any:
        app = restate.app(services)
        if way == "over gRPC":
            async with asyncio.timeout(60), over_grpc(app) as client:
                return await use(client)
        async with restate.create_test_harness(app, always_replay=True) as harness:
            return await use(harness.client)

    return run(main())
