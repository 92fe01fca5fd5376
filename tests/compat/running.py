"""Runs the services of a test as their users would: a node, a worker, and a client over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import perdure.sdk as restate
from perdure.ingress.grpc import GrpcIngress
from perdure.sdk import RestateClient
from perdure.sdk.service import ServiceBase
from perdure.testing.in_process import InProcessNode


@asynccontextmanager
async def running(*services: ServiceBase) -> AsyncIterator[RestateClient]:
    """Serve services in this process and give a client that reaches them by a port."""
    async with InProcessNode(options=["partitions.count=2"]) as node:
        await node.add_worker(restate.app(services))
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
        async with asyncio.timeout(30), running(*services) as client:
            return await use(client)

    return asyncio.run(main())
