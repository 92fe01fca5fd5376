"""LogReviewer: a log stays on one node's own disk for as long as that is the only node."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.core.tasks import TaskScope
from perdure.log.local.provider import KIND as LOCAL
from perdure.log.logs import Logs
from perdure.log.placement import Replica
from perdure.log.replicated.provider import KIND as REPLICATED
from perdure.metadata.memory import MemoryMetadataStore
from perdure.metadata.nodes import NodesConfiguration
from perdure.node.cluster.parts import ClusterParts
from perdure.node.log_keeper import LogKeeper
from perdure.node.log_reviewer import LogReviewer
from perdure.testing.simulation.loop import SimulationLoop, run_simulated

from ..log.support import LogOnStore
from .test_cluster_parts import node, parts
from .test_log_keeper import PATIENCE, World


class Alone:
    """A node with both providers in a cluster that others join."""

    def __init__(self, world: World) -> None:
        self.cluster = parts(node(1, "s1"))
        local = LogOnStore(MemoryStore(), disk=Replica("s1", "n1")).provider
        replicated = world.node.provider
        self.logs = Logs(
            metadata=MemoryMetadataStore(),
            providers=[replicated, local],
            loop=world.loop,
            default_kind=REPLICATED,
        )
        self.reviewer = LogReviewer(replicated, self._parts())
        self.keeper = LogKeeper(
            self.reviewer,
            opened=self.logs.opened,
            patience_seconds=PATIENCE,
            loop=world.loop,
            scope=world.scope,
        )

    def _parts(self) -> ClusterParts:
        def nodes() -> NodesConfiguration:
            return self.cluster.nodes()

        return replace(self.cluster, nodes=nodes)

    def join(self, *names: str) -> None:
        """These nodes belong to the cluster, too."""
        others = [node(number, name) for number, name in enumerate(names, 2)]
        self.cluster = parts(node(1, "s1"), *others)


def run(story: Callable[[World, Alone], Awaitable[None]]) -> None:
    loop = SimulationLoop()

    async def main() -> None:
        world = World(loop, servers=3, logs=0, seed=1)
        world.scope = TaskScope("keeper", on_failure=world.failures.append)
        await world.begin()
        alone = Alone(world)
        alone.keeper.start()
        await story(world, alone)
        alone.keeper.stop()
        await world.end()

    run_simulated(main(), loop)


def test_one_node_may_keep_its_logs_on_its_disk_and_is_left_in_peace() -> None:
    async def story(world: World, alone: Alone) -> None:
        assert [alone.reviewer.refusal(kind) for kind in (LOCAL, REPLICATED)] == ["", ""]
        log = await alone.logs.open(LogId(0), create=True)
        await log.lead()
        segment = await log.reconfigure(LOCAL)
        await asyncio.sleep(4 * PATIENCE)
        assert (log.chain.tail, alone.keeper.changes) == (segment, 0)
        assert alone.keeper.warnings() == []
        assert alone.reviewer.health(segment) is None

    run(story)


def test_a_log_leaves_the_disk_of_one_node_when_there_is_another_one() -> None:
    async def story(world: World, alone: Alone) -> None:
        log = await alone.logs.open(LogId(0), create=True)
        await log.lead()
        first = await log.reconfigure(LOCAL)
        world.acknowledged[0] = []
        await world.append(log)
        alone.join("s2", "s3", "s4", "s5")
        assert alone.reviewer.refusal(REPLICATED) == ""
        refusal = alone.reviewer.refusal(LOCAL)
        assert refusal.startswith("s2, s3, s4 and 1 more could not read"), refusal
        await asyncio.sleep(PATIENCE + 2)

        assert (log.chain.tail.kind, alone.keeper.changes) == (REPLICATED, 1)
        assert first in log.chain.segments
        await world.append(log)
        await world.check(log)
        # What was written before is still there alone, until it is trimmed.
        [warning] = alone.keeper.warnings()
        assert "s1 alone has it" in warning
        await log.trim((await log.find_tail()).lsn - 1)
        assert alone.keeper.warnings() == []

    run(story)


def test_a_log_stays_where_it_is_while_there_are_too_few_log_servers() -> None:
    async def story(world: World, alone: Alone) -> None:
        log = await alone.logs.open(LogId(0), create=True)
        await log.lead()
        segment = await log.reconfigure(LOCAL)
        alone.join("s2")
        world.drained.update(("s2", "s3"))
        await asyncio.sleep(4 * PATIENCE)
        assert (log.chain.tail, alone.keeper.changes) == (segment, 0)
        review = alone.reviewer.review(LogId(0), segment)
        assert "needs 2 log-servers" in review.hindered
        assert log.accepting

    run(story)
