"""A partition whose log takes nothing: what others have for it waits with them, not with it."""

import asyncio
from collections.abc import Callable

from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import LogId, partition_of
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.partition_processor.records import PurgeExpired
from perdure.sdk import Context, ObjectContext, Service, VirtualObject, app
from perdure.testing import InProcessNode

OPTIONS = ["partitions.count=2", "log.sync_inline=always"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


def key_in(partition: int) -> str:
    """A key whose objects live in that partition."""
    return next(
        key
        for key in map(str, range(100))
        if partition_of(keyed_partition_key(key), 2) == partition
    )


def test_what_others_send_to_a_sealed_log_is_not_held_there_and_arrives_when_it_opens() -> None:
    async def scenario() -> None:
        sender = VirtualObject("Sender")
        target = VirtualObject("Target")
        came: list[int] = []

        @target.handler()
        async def take(ctx: ObjectContext, number: int) -> None:
            came.append(number)

        @sender.handler()
        async def send(ctx: ObjectContext, number: int) -> None:
            ctx.object_send(take, key_in(0), number)

        async with InProcessNode(options=OPTIONS) as node:
            await node.add_worker(app([sender, target]))
            manager = node.engine.manager
            receiving, sending = manager.processors
            log = await node.engine.logs.open(LogId(0))
            await log.seal()
            for number in range(20):
                body = str(number).encode()
                reply = await node.submit(InvocationRequest("Sender", "send", key_in(1), body))
                assert isinstance(reply, Completed)
            await until(lambda: len(sending.drivers.shipments) == 20)
            for _ in range(50):
                # As the watch over what has expired does, for as long as something has.
                assert not receiving.propose_now(PurgeExpired(1, 1))
            assert receiving._proposals is not None
            assert len(receiving._proposals) == 0
            assert came == []

            await log.reconfigure()
            await until(lambda: len(came) == 20)
            assert came == list(range(20))
            assert receiving.propose_now(PurgeExpired(1, 1))
            await until(lambda: len(sending.drivers.shipments) == 0)

    asyncio.run(scenario())


def test_messages_alone_have_a_segment_recovered_that_somebody_sealed() -> None:
    async def scenario() -> None:
        service = Service("Service")

        @service.handler()
        async def greet(ctx: Context) -> None:
            return None

        async with InProcessNode(options=OPTIONS) as node:
            await node.add_worker(app([service]))
            receiving = node.engine.manager.processors[0]
            log = await node.engine.logs.open(LogId(0))
            await log._loglet(log.chain.tail).seal()
            receiving.propose_now(PurgeExpired(1, 1))
            await until(lambda: not receiving.flowing)
            await until(lambda: receiving.propose_now(PurgeExpired(1, 1)))
            assert receiving.flowing

    asyncio.run(scenario())
