"""A node's copies of nodes configuration and placement, and how they are kept fresh."""

from typing import Any, cast

from perdure.core.errors import TransportError
from perdure.core.tasks import TaskScope
from perdure.metadata.api import VersionedValue
from perdure.metadata.placement import PLACEMENT_KEY, Placement, encode_placement
from perdure.node.controller.planner import plan
from perdure.node.controller.watch import ClusterWatch
from perdure.partition_processor.deployments import SCHEMA_KEY
from perdure.testing.simulation import SimulationLoop
from perdure.testing.simulation.loop import run_simulated

from .facts import facts_of, nodes_of, view_of
from .test_controller import Seen, store_of

S = 1_000_000_000


class Told(Seen):
    """Also keeps which placements others are told of."""

    def __init__(self) -> None:
        nodes = nodes_of(3)
        super().__init__(nodes, view_of(nodes))
        self.versions: list[int] = []

    def use_placement(self, version: int) -> None:
        self.versions.append(version)


def run(test: Any) -> None:
    """Run `test(loop, metadata, gets, membership, watch, placed)` on a virtual clock."""
    loop = SimulationLoop()

    async def body() -> None:
        membership, placed = Told(), []
        metadata = await store_of(membership.nodes)
        get, gets = metadata.get, []

        async def counted(key: str) -> Any:
            gets.append(key)
            return await get(key)

        metadata.get = counted  # type: ignore[method-assign]
        async with TaskScope("test") as scope:
            watch = ClusterWatch(
                metadata=metadata,
                membership=lambda: cast(Any, membership),
                loop=loop,
                scope=scope,
                on_placement=placed.append,
            )
            watch.start()
            await test(loop, metadata, gets, membership, watch, placed)
            watch.stop()

    run_simulated(body(), loop)


def test_what_is_newer_is_fetched_once_and_told() -> None:
    async def body(
        loop: Any, metadata: Any, gets: Any, membership: Told, watch: Any, placed: list[Placement]
    ) -> None:
        await loop.pause(S // 10)
        placement = plan(facts_of(membership.nodes), None).placement
        version = await metadata.put(PLACEMENT_KEY, encode_placement(placement))
        gets.clear()
        for _ in range(5):
            watch.newer(1, version)
        await loop.pause(S // 10)

        assert gets.count(PLACEMENT_KEY) == 1
        assert placed == [placement]
        assert membership.versions == [version]
        watch.use(version, placement)
        assert placed == [placement]

    run(body)


def test_known_deployments_are_fetched_as_well() -> None:
    async def body(
        loop: Any, metadata: Any, gets: Any, membership: Told, watch: Any, placed: list[Placement]
    ) -> None:
        told: list[VersionedValue] = []
        watch._on_schema = told.append
        await loop.pause(S // 10)
        await metadata.put(SCHEMA_KEY, b"deployments")
        watch.newer(0, 0)
        await loop.pause(S // 10)
        assert [stored.value for stored in told] == [b"deployments"]

    run(body)


def test_what_nobody_tells_of_is_found_in_time() -> None:
    async def body(
        loop: Any, metadata: Any, gets: Any, membership: Told, watch: Any, placed: list[Placement]
    ) -> None:
        placement = plan(facts_of(membership.nodes), None).placement
        await loop.pause(S)
        await metadata.put(PLACEMENT_KEY, encode_placement(placement))
        await loop.pause(6 * S)

        assert placed == [placement]

    run(body)


def test_a_store_that_cannot_be_reached_is_left_alone_for_a_while() -> None:
    async def body(
        loop: Any, metadata: Any, gets: Any, membership: Told, watch: Any, placed: list[Placement]
    ) -> None:
        await loop.pause(S)
        gets.clear()

        async def lost(key: str) -> Any:
            gets.append(key)
            raise TransportError("gone")

        metadata.get = lost
        for _ in range(30):
            watch.newer(9, 9)
            await loop.pause(S // 10)

        assert 2 <= len(gets) <= 4

    run(body)


def test_after_the_end_nothing_is_fetched() -> None:
    async def body(
        loop: Any, metadata: Any, gets: Any, membership: Told, watch: Any, placed: list[Placement]
    ) -> None:
        await loop.pause(S)
        watch.stop()
        gets.clear()
        watch.newer(9, 9)
        await loop.pause(20 * S)

        assert gets == []

    run(body)
