"""Clocks that are off are told of, by every node in the same words; late messages are no skew."""

import asyncio
from typing import Any

import pytest

from perdure.core.clock import SystemClock
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.node.membership.clocks import SAMPLES, SKEW_NS_MAX, ClockOffsets, clock_warnings
from perdure.node.membership.membership import LATEST_AHEAD_NS_MAX

from .test_membership import Cluster

SECOND = 1_000_000_000
HOUR = 3600 * SECOND


def test_the_least_late_message_counts() -> None:
    offsets = ClockOffsets()
    for late in (900, 20, 400):
        offsets.heard(2, 1, 5 * SECOND, 5 * SECOND + late)
    assert offsets.ahead_ns({2: 1}) == {2: -20}
    # A node that was held up says what is old, until what it says now is known again.
    for _ in range(SAMPLES - 1):
        offsets.heard(2, 1, 5 * SECOND, 65 * SECOND)
    assert offsets.ahead_ns({2: 1}) == {2: -400}
    offsets.heard(2, 1, 70 * SECOND, 70 * SECOND + 30)
    assert offsets.ahead_ns({2: 1}) == {2: -30}


def test_too_little_is_nothing_and_other_lives_do_not_count() -> None:
    offsets = ClockOffsets()
    for _ in range(2):
        offsets.heard(2, 1, HOUR, SECOND)
    assert offsets.ahead_ns({2: 1}) == {}
    offsets.heard(2, 1, 0, SECOND)  # A release that does not tell.
    assert offsets.ahead_ns({2: 1}) == {}
    offsets.heard(2, 1, HOUR, SECOND)
    assert offsets.ahead_ns({2: 1}) == {2: HOUR - SECOND}
    assert offsets.ahead_ns({2: 2}) == {}
    for _ in range(3):
        offsets.heard(2, 2, SECOND, SECOND)
    offsets.heard(2, 1, HOUR, SECOND)  # Late, of the life before.
    assert offsets.ahead_ns({2: 2}) == {2: 0}
    assert offsets.ahead_ns({}) == {}
    assert offsets.ahead_ns({2: 2}) == {}


@pytest.mark.parametrize(
    ("clocks", "said"),
    [
        ((0, 0, 0), {}),
        ((0, SKEW_NS_MAX - 50_000_000, 0), {}),
        ((0, 2 * HOUR, 0), {"b": "2h ahead of"}),
        ((0, -2 * HOUR, 3_000_000), {"b": "2h behind"}),
        ((-HOUR, 0, HOUR), {"a": "1h behind", "c": "1h ahead of"}),
        ((0, 90 * SECOND), {"b": "90s ahead of"}),
    ],
)
def test_each_node_says_the_same_of_the_clocks(clocks: tuple[int, ...], said: Any) -> None:
    names = "abc"[: len(clocks)]
    for mine in clocks:
        # As the node sees them whose clock this is, a few milliseconds late.
        seen = {
            name: clock - mine - (0 if clock == mine else 2_000_000)
            for name, clock in zip(names, clocks, strict=True)
        }
        found = clock_warnings(seen)
        assert len(found) == len(said), found
        for warning, (name, text) in zip(found, said.items(), strict=True):
            assert warning.startswith(f"the clock of {name} is {text}")
            assert "NTP" in warning.rpartition("; ")[2]
    assert clock_warnings({}) == []


def test_nodes_hear_of_each_others_clocks() -> None:
    class Ahead(SystemClock):
        """Two hours ahead."""

        def time_ns(self) -> int:
            return super().time_ns() + 2 * HOUR

    async def scenario() -> None:
        cluster = Cluster(InProcTransport(InProcNetwork()), 3)
        await cluster.start()
        cluster.members[2]._clock = Ahead()

        def told() -> bool:
            seen = cluster.members[1].clocks_ahead_ns()
            return set(seen) == {2, 3} and seen[2] > HOUR

        await cluster.until(told)
        seen = cluster.members[1].clocks_ahead_ns()
        assert abs(seen[2] - 2 * HOUR) < 20 * SECOND
        assert abs(seen[3]) < 20 * SECOND
        await cluster.close()

    asyncio.run(scenario())


def test_nodes_hear_of_the_latest_time_of_clocks_and_records_but_not_of_nonsense() -> None:
    async def scenario() -> None:
        cluster = Cluster(InProcTransport(InProcNetwork()), 3)
        await cluster.start()
        now_ns = SystemClock().time_ns()
        cluster.members[2].own_latest_ns = lambda: now_ns + HOUR
        # Node 3 hears it from node 1 as well, which has no such record itself.
        await cluster.until(
            lambda: all(cluster.members[node].latest_ns == now_ns + HOUR for node in (1, 3))
        )
        cluster.members[2].own_latest_ns = lambda: now_ns + LATEST_AHEAD_NS_MAX + HOUR
        ticks = cluster.members[1]._ticks
        await cluster.until(lambda: cluster.members[1]._ticks > ticks + 20)
        assert cluster.members[1].latest_ns == now_ns + HOUR
        await cluster.close()

    asyncio.run(scenario())
