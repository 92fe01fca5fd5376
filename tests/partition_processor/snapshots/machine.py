"""Lives of a node whose snapshots are in simulated files, on stores in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from perdure.core.clock import ManualClock
from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.requests import Completed
from perdure.log import VirtualLog
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.snapshots.manifest import Manifest
from perdure.partition_processor.tables import keys
from perdure.sdk import ObjectContext, VirtualObject, app
from perdure.testing import InProcessNode
from perdure.testing.simulation.files import SimulationFiles

from .lab import PLACE

counter = VirtualObject("Counter")

OPTIONS = ("log.sync_inline=always", "log.keep_records=0")
TRIMS = "log.trim_interval=10ms"
TAKES = (f"snapshots.directory={PLACE}", "snapshots.interval=0s")
ONE = "partitions.count=1"
START_NS = 1_700_000_000_000_000_000


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Add to the counter and give its new value."""
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return value


class Machine:
    """What outlives a node: its stores, and the files that its snapshots are in."""

    def __init__(self) -> None:
        """Nothing stored yet."""
        self.stores = {name: MemoryStore() for name in ("metadata", "store", "log")}
        self.files = SimulationFiles()
        self.clock = ManualClock(START_NS)

    @asynccontextmanager
    async def node(self, *options: str) -> AsyncIterator[InProcessNode]:
        """A life of the node; its stores are reopened for each."""
        self.stores = {name: store.reopen() for name, store in self.stores.items()}
        async with InProcessNode(
            options=[*OPTIONS, *options],
            stores=dict(self.stores),
            files=self.files,
            clock=self.clock,
        ) as node:
            yield node

    def wipe(self) -> None:
        """Lose the partition store, as with its disk."""
        self.stores["store"] = MemoryStore()

    def rows(self) -> dict[bytes, bytes]:
        """Everything that the partitions have, without how far they have come."""
        return {
            key: value
            for key, value in self.stores["store"].reopen().scan(b"", b"\xff")
            if key[:1] != keys.PROGRESS
        }


def run(scenario: Callable[[Machine], Awaitable[None]]) -> None:
    """Run a scenario on a machine of its own."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario(Machine())

    asyncio.run(limited())


async def busy(node: InProcessNode, calls: int, key: str = "k") -> None:
    """Count, each call after the other."""
    if not node.engine.manager.invoker.sessions:
        await node.add_worker(app([counter]))
    for _ in range(calls):
        assert isinstance(await node.call("Counter", "add", b"1", key=key), Completed)


def first(node: InProcessNode) -> PartitionProcessor:
    """Partition 0."""
    return node.engine.manager.processors[0]


async def snapshot(node: InProcessNode, partition: int = 0) -> Manifest:
    """A snapshot that is taken now."""
    manifest, created = await node.engine.snapshots.create(
        node.engine.manager.processors[partition]
    )
    assert created
    return manifest


def digest(node: InProcessNode, partition: int = 0) -> str:
    """What a partition has applied."""
    detail = node.engine.manager.partition(partition)
    assert detail is not None
    return detail.digest


async def trimmed(node: InProcessNode, lsn: int, partition: int = 0) -> VirtualLog:
    """The log, once it is trimmed up to an LSN."""
    node.engine._trimmer.RECORDS_MIN = 1  # type: ignore[misc]
    log = await node.engine.logs.open(LogId(partition))
    while log.trim_point_lsn < lsn:
        assert not node.failures
        await asyncio.sleep(0.005)
    return log


async def grown(machine: Machine, *options: str, more: int = 7) -> tuple[Manifest, str]:
    """A snapshot that the log is trimmed up to, `more` calls behind it; it and the last digest."""
    async with machine.node(ONE, TRIMS, *TAKES, *options) as node:
        await busy(node, 20)
        manifest = await snapshot(node)
        await busy(node, more)
        await trimmed(node, manifest.lsn)
        return manifest, digest(node)


async def until_durable(node: InProcessNode) -> None:
    """Wait for a round of the trimmer over everything that was applied."""
    lsn = first(node).written_lsn
    while first(node).durable_lsn < lsn or node.engine._trimmer._task is None:
        await asyncio.sleep(0.005)
    await node.engine._trimmer._task
