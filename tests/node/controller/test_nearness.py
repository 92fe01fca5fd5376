"""Who is close behind: the bounds, what is not known, and leads that wait for it."""

import asyncio

from perdure.core.clock import ManualClock
from perdure.core.tasks import TaskScope
from perdure.metadata.placement import PLACEMENT_FORMAT, PartitionPlacement, Placement
from perdure.node.controller.controller import Controller
from perdure.node.controller.nearness import Nearness, NearnessOptions
from perdure.node.controller.steadiness import SteadinessOptions

from .facts import nodes_of, view_of
from .test_controller import Seen, store_of

ONE = Placement(PLACEMENT_FORMAT, (PartitionPlacement((1, 2, 3), 1, False),))


def test_who_is_near_stays_so_until_it_is_far() -> None:
    nearness = Nearness(NearnessOptions(near_lsns=10, far_lsns=30))

    def near(lag: int) -> bool:
        return (0, 2) in nearness.observe(ONE, {(0, 1): 1000, (0, 2): 1000 - lag})

    assert [near(lag) for lag in (31, 11, 10, 30, 11, 31, 30, 11, 10)] == [
        *(False, False, True),
        *(True, True, False),
        *(False, False, True),
    ]


def test_of_whom_nothing_is_known_is_not_near() -> None:
    nearness = Nearness(NearnessOptions(near_lsns=10, far_lsns=30))
    assert nearness.observe(ONE, {(0, 1): 5, (0, 3): 5}) == {(0, 1), (0, 3)}
    # The leader has not told yet in this life.
    assert nearness.observe(ONE, {(0, 2): 5, (0, 3): 5}) == set()
    # Nobody is near a leader that has only begun: others may be further.
    assert nearness.observe(ONE, {(0, 1): 5, (0, 2): 100, (0, 3): 95}) == {(0, 2), (0, 3)}
    # What one node tells of others' partitions, or of those it keeps no more, counts for nothing.
    assert nearness.observe(ONE, {(0, 1): 5, (0, 4): 900, (7, 1): 900}) == {(0, 1)}


def test_a_lead_waits_until_its_new_node_has_caught_up() -> None:
    async def body() -> None:
        nodes = nodes_of(2, partitions=8, replicas=2)
        seen = Seen(nodes, view_of(nodes, dead=(2,)))
        told: dict[tuple[int, int], int] = {}
        controller = Controller(
            metadata=await store_of(nodes),
            membership=seen,  # type: ignore[arg-type]
            loop=asyncio.get_running_loop(),
            clock=ManualClock(),
            scope=TaskScope("test"),
            on_placement=lambda _version, _placement: None,
            applied=lambda: told,
            options=SteadinessOptions(settle_ns=0, replace_ns=0),
        )

        async def led_by_two() -> int:
            for _ in range(20):
                controller._observe(seen.view)
                placement = (await controller.decide()).placement
            return len(placement.led_by(2))

        assert await led_by_two() == 0
        seen.change(view_of(nodes))
        assert await led_by_two() == 0  # Nobody has told anything.
        for number in range(8):
            told[number, 1], told[number, 2] = 100_000, 0
        assert await led_by_two() == 0
        told[3, 2] = 99_000
        assert await led_by_two() == 1
        told[4, 2] = 60_000
        assert await led_by_two() == 1
        for number in range(8):
            told[number, 2] = 100_000
        assert await led_by_two() == 4

    asyncio.run(body())
