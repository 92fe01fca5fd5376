"""Reconfiguring, sealing and losing a partition's log while calls go on."""

import asyncio

import pytest

from perdure.core.errors import PerdureError, StorageError
from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.errors import NotLeaderError
from perdure.ingress.requests import Completed, InvocationRequest, Rejected
from perdure.log import VirtualLog
from perdure.sdk import Context, ObjectContext, Service, VirtualObject, app
from perdure.testing import InProcessNode

greeter = Service("Greeter")
counter = VirtualObject("Counter")

OPTIONS = ["partitions.count=1", "log.sync_inline=always"]


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    count = (await ctx.get("count", type_hint=int) or 0) + amount
    ctx.set("count", count)
    return count


async def log_of(node: InProcessNode) -> VirtualLog:
    return await node.engine.logs.open(LogId(0))


def add_one() -> InvocationRequest:
    return InvocationRequest("Counter", "add", "ann", b"1")


@pytest.mark.parametrize("change", ["provider", "outside seal"])
def test_calls_go_on_while_the_log_moves(change: str) -> None:
    async def scenario() -> None:
        stores = {name: MemoryStore() for name in ("log", "store", "metadata")}
        async with InProcessNode(options=OPTIONS, stores=dict(stores)) as node:
            await node.add_worker(app([counter]))
            log = await log_of(node)
            results: list[int] = []

            async def client() -> None:
                for _ in range(60):
                    reply = await node.submit(add_one())
                    assert isinstance(reply, Completed)
                    results.append(int(reply.value))

            clients = [asyncio.ensure_future(client()) for _ in range(8)]
            moves = 0
            while not all(task.done() for task in clients):
                if change == "provider":
                    await log.reconfigure("local" if moves % 2 else "memory")
                else:
                    # Nobody tells the leader: it finds out when it appends.
                    await log._loglet(log.chain.tail).seal()
                moves += 1
                for _ in range(5):
                    await asyncio.sleep(0)
            await asyncio.gather(*clients)

            assert sorted(results) == list(range(1, 481))
            assert moves > 20
            if change == "provider":
                await log.reconfigure("local")
            assert len(log.chain.segments) > 20
            records = []
            position = 1
            while batches := await log.read(position):
                records += [record for item in batches for record in item.batch.records]
                position = batches[-1].last_lsn + 1
            # The leader's numbers have no gap and no copy, whatever happened to the log.
            assert [record.sequence for record in records] == list(range(1, len(records) + 1))
            applied = node.engine.manager.partitions()[0].applied_lsn
            assert applied == len(records) == position - 1

    asyncio.run(scenario())


def test_a_sealed_log_refuses_calls_and_says_how_to_open_it() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            await node.add_worker(app([greeter]))
            log = await log_of(node)
            await log.seal()
            with pytest.raises(NotLeaderError, match="perdure logs reconfigure 0"):
                node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"'))

            await log.reconfigure()
            reply = await node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"'))
            assert isinstance(reply, Completed)

    asyncio.run(scenario())


def test_what_was_under_way_when_the_log_was_sealed_goes_on_when_it_opens() -> None:
    async def scenario() -> None:
        blocked = asyncio.Event()
        slow = Service("Slow")

        @slow.handler()
        async def wait(ctx: Context) -> str:
            async def until_set() -> str:
                await blocked.wait()
                return "done"

            return await ctx.run("wait", until_set)

        async with InProcessNode(options=OPTIONS) as node:
            await node.add_worker(app([slow]))
            log = await log_of(node)
            future = node.submit(InvocationRequest("Slow", "wait", None, b""))
            while not node.engine.manager.processors[0].keeper.attempts:
                await asyncio.sleep(0)
            tail = await log.seal()
            blocked.set()
            for _ in range(100):
                await asyncio.sleep(0)
            assert not future.done()
            assert (await log.find_tail()).lsn == tail.lsn

            await log.reconfigure()
            reply = await asyncio.wait_for(future, 60)
            assert isinstance(reply, Completed)
            assert reply.value == b'"done"'

    asyncio.run(scenario())


def test_calls_held_back_are_told_when_the_disk_fails() -> None:
    async def scenario() -> None:
        stores = {name: MemoryStore() for name in ("log", "store", "metadata")}
        async with InProcessNode(options=OPTIONS, stores=dict(stores)) as node:
            await node.add_worker(app([greeter]))
            log = await log_of(node)
            async with log._lock.writer:
                future = node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"'))
                assert node.engine.manager.in_flight() == 1
                node.engine.writer.fail(StorageError("no disk"))
            reply = await asyncio.wait_for(future, 60)
            assert isinstance(reply, Rejected)
            assert [str(error) for error in node.failures] == ["no disk"]

    asyncio.run(scenario())


def test_a_leader_whose_log_was_taken_over_follows_it() -> None:
    async def scenario() -> None:
        stores = {name: MemoryStore() for name in ("log", "store", "metadata")}
        async with InProcessNode(options=OPTIONS, stores=dict(stores)) as node:
            await node.add_worker(app([greeter]))
            log = await log_of(node)
            # Somebody else with the same metadata and the same loglets takes the lead.
            other = VirtualLog(log.log, log.chain, node.engine.logs._resources)
            await other.lead(99)
            reply = await asyncio.wait_for(
                node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"')), 5
            )
            assert isinstance(reply, Rejected)
            assert isinstance(reply.error, PerdureError)
            assert reply.error.retryable
            status = node.engine.manager.partitions()[0]
            assert (status.role, status.error) == ("follower", "")
            assert not node.failures

    asyncio.run(scenario())
