"""The controller's driver: who decides, and two that decide at once."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from perdure.core.clock import ManualClock
from perdure.core.errors import TransportError
from perdure.core.tasks import TaskScope
from perdure.metadata.api import DoesNotExist, PreconditionFailedError
from perdure.metadata.memory import MemoryMetadataStore
from perdure.metadata.nodes import NODES_KEY, NodesConfiguration, encode_nodes
from perdure.metadata.placement import PLACEMENT_KEY, Placement, decode_placement
from perdure.node.cluster.errors import NotProvisionedError
from perdure.node.controller.controller import Controller
from perdure.node.controller.moves import MoveRefusedError
from perdure.node.controller.steadiness import SteadinessOptions
from perdure.node.membership.membership import Membership
from perdure.node.membership.view import MembershipView

from .facts import nodes_of, view_of


class Seen:
    """A membership of which a test says what it sees."""

    def __init__(self, nodes: NodesConfiguration, view: MembershipView) -> None:
        self.nodes = nodes
        self.view = view
        self.listeners: list[Callable[[MembershipView], None]] = []
        self.ahead_ns: dict[int, int] = {}
        self.told: dict[tuple[int, int], int] = {}
        self.stopped_copies: dict[tuple[int, int], tuple[int, int]] = {}

    def clocks_ahead_ns(self) -> dict[int, int]:
        return self.ahead_ns

    def applied(self) -> dict[tuple[int, int], int]:
        return self.told

    def on_change(self, listener: Callable[[MembershipView], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def use_nodes(self, _version: int, nodes: NodesConfiguration) -> None:
        self.nodes = nodes

    def change(self, view: MembershipView) -> None:
        self.view = view
        for listener in self.listeners:
            listener(view)


def controller_of(
    metadata: Any, seen: Seen, placed: list[Placement] | None = None
) -> tuple[Controller, TaskScope]:
    scope = TaskScope("test")
    found = [] if placed is None else placed
    controller = Controller(
        metadata=metadata,
        membership=cast(Membership, seen),
        loop=asyncio.get_running_loop(),
        clock=ManualClock(),
        scope=scope,
        on_placement=lambda _version, placement: found.append(placement),
        options=SteadinessOptions(settle_ns=0, replace_ns=0),
    )
    return controller, scope


async def store_of(nodes: NodesConfiguration) -> MemoryMetadataStore:
    metadata = MemoryMetadataStore()
    await metadata.put(NODES_KEY, encode_nodes(nodes), DoesNotExist())
    return metadata


@pytest.mark.parametrize(
    ("view", "decides"),
    [
        ({}, True),
        ({"me": 2}, False),
        ({"me": 2, "dead": (1,)}, True),
        ({"me": 3, "dead": (1,)}, False),
    ],
)
def test_the_first_alive_admin_decides(view: dict[str, Any], decides: bool) -> None:
    async def body() -> None:
        nodes = nodes_of(3)
        controller, _ = controller_of(MemoryMetadataStore(), Seen(nodes, view_of(nodes, **view)))
        assert controller.decides() is decides

    asyncio.run(body())


@pytest.mark.parametrize("doubt", ["settled", "isolated", "doubted"])
def test_who_may_be_wrong_does_not_decide(doubt: str) -> None:
    async def body() -> None:
        nodes = nodes_of(3)
        well = view_of(nodes)
        flags = {"settled": True, "isolated": False, "doubted": False}
        flags[doubt] = not flags[doubt]
        view = MembershipView(well.me, well.nodes, **flags)
        controller, _ = controller_of(MemoryMetadataStore(), Seen(nodes, view))
        assert not controller.decides()

    asyncio.run(body())


def test_it_places_at_once_and_again_when_somebody_dies() -> None:
    async def body() -> None:
        nodes = nodes_of(3)
        seen = Seen(nodes, view_of(nodes))
        placed: list[Placement] = []
        controller, scope = controller_of(await store_of(nodes), seen, placed)
        async with scope:
            controller.start()
            async with asyncio.timeout(60):
                while not placed:
                    await asyncio.sleep(0)
                seen.change(view_of(nodes, dead=(3,)))
                while len(placed) < 2 or placed[-1].led_by(3):
                    await asyncio.sleep(0)
            controller.stop()
        assert seen.listeners == []

    asyncio.run(body())


def test_two_at_once_are_harmless() -> None:
    """Each thinks that the other is dead; whoever comes second changes nothing of the first."""

    async def body() -> None:
        nodes = nodes_of(3)
        metadata = await store_of(nodes)
        one, _ = controller_of(metadata, Seen(nodes, view_of(nodes, dead=(3,))))
        two, _ = controller_of(metadata, Seen(nodes, view_of(nodes, dead=(1,), me=2)))
        assert one.decides()
        assert two.decides()
        put, waiting = metadata.put, asyncio.Event()

        async def late(*arguments: Any) -> Any:
            await waiting.wait()
            return await put(*arguments)

        metadata.put = late  # type: ignore[method-assign]
        rounds = [asyncio.ensure_future(item.decide()) for item in (one, two)]
        await asyncio.sleep(0)
        waiting.set()
        results = await asyncio.gather(*rounds, return_exceptions=True)

        assert sum(isinstance(item, PreconditionFailedError) for item in results) == 1
        assert one.writes + two.writes == 1
        winner = next(item for item in results if not isinstance(item, BaseException))
        stored = await metadata.get(PLACEMENT_KEY)
        assert stored is not None
        assert decode_placement(stored.value) == winner.placement

        # Each goes on from what the other has stored. Once they see the same, it ends.
        for _ in range(3):
            await one.decide()
            await two.decide()
        for controller in (one, two):
            cast(Seen, controller._membership).change(view_of(nodes))
            controller._observe(view_of(nodes))
        for _ in range(10):
            await one.decide()
        writes = one.writes + two.writes
        for _ in range(5):
            await one.decide()
            await two.decide()
        assert one.writes + two.writes == writes

    asyncio.run(body())


def test_a_move_is_stored_and_one_that_changes_nothing_is_not() -> None:
    async def body() -> None:
        nodes = nodes_of(3)
        metadata = await store_of(nodes)
        seen = Seen(nodes, view_of(nodes))
        controller, _ = controller_of(metadata, seen)
        with pytest.raises(NotProvisionedError):
            await controller.move(0, 1)
        await controller.decide()

        moved = await controller.move(0, 3)
        assert moved.partitions[0].leader == 3
        before = await metadata.get(PLACEMENT_KEY)
        await controller.move(0, 3)
        assert await metadata.get(PLACEMENT_KEY) == before

        seen.view = view_of(nodes, dead=(2,))
        with pytest.raises(MoveRefusedError, match="is dead"):
            await controller.move(0, 2)
        assert await metadata.get(PLACEMENT_KEY) == before

    asyncio.run(body())


def test_a_store_that_cannot_be_reached_ends_nothing() -> None:
    async def body() -> None:
        nodes = nodes_of(3)
        metadata = await store_of(nodes)
        get, failures = metadata.get, [TransportError("gone"), TransportError("gone")]

        async def flaky(key: str) -> Any:
            if failures:
                raise failures.pop()
            return await get(key)

        metadata.get = flaky  # type: ignore[method-assign]
        seen = Seen(nodes, view_of(nodes))
        controller, scope = controller_of(metadata, seen)
        async with scope:
            controller.start()
            async with asyncio.timeout(60):
                while not controller.writes:
                    seen.change(seen.view)
                    await asyncio.sleep(0)
            controller.stop()

    asyncio.run(body())


def test_warnings_are_kept_for_who_asks() -> None:
    async def body() -> None:
        nodes = nodes_of(2)
        controller, _ = controller_of(await store_of(nodes), Seen(nodes, view_of(nodes)))
        await controller.decide()
        assert any("only 2" in warning for warning in controller.warnings)

    asyncio.run(body())
