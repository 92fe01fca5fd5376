"""The simulated network: the Transport contract, delays, cuts and frozen parties."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from perdure.core.errors import TransportError
from perdure.core.net.transport import Connection, Transport
from perdure.testing.simulation import SimulationLoop
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import run_simulated
from perdure.testing.simulation.network import SimulationNetwork
from perdure.testing.simulation.trace import Trace

from ..conformance.transport import TransportSuite

MS = 1_000_000


class Lines:
    """A network, and both ends of a connection from a to b."""

    def __init__(self, delay_ns: tuple[int, int] = (1 * MS, 5 * MS), cut_ns: int = 0) -> None:
        self.loop = SimulationLoop()
        self.network = SimulationNetwork(
            self.loop,
            trace=Trace(self.loop),
            chance=Chance(1, "network"),
            delay_ns=delay_ns,
            cut_heard_ns_max=cut_ns,
        )
        self.near: Connection
        self.far: Connection

    async def connect(self) -> None:
        """Set both ends."""
        accepted = self.loop.create_future()
        over = asyncio.Event()

        async def serve(connection: Connection) -> None:
            accepted.set_result(connection)
            await over.wait()

        await self.network.transport("b").listen("b:1", {"test": serve})
        self.near = await self.network.transport("a").connect("b:1", "test")
        self.far = await accepted

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario to its end."""
        run_simulated(scenario, self.loop)


class SimulationHarness:
    """A network of its own per test."""

    free_address = "somewhere:0"
    nobodys_address = "nowhere:1"

    def __init__(self, delay_ns: tuple[int, int]) -> None:
        self.lines = Lines(delay_ns)

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario on the simulated loop."""
        self.lines.run(scenario)

    def transport(self) -> Transport:
        """A transport."""
        return self.lines.network.transport("party")


class TestSimulationTransport(TransportSuite):
    @pytest.fixture(params=[(0, 0), (1 * MS, 20 * MS)], ids=["at once", "late"])
    def harness(self, request: pytest.FixtureRequest) -> SimulationHarness:
        return SimulationHarness(request.param)


def test_messages_arrive_late_and_in_order() -> None:
    lines = Lines()

    async def scenario() -> None:
        await lines.connect()
        sent_ns = lines.loop.now_ns
        for number in range(100):
            lines.near.send(b"%d" % number)
        received = [await lines.far.receive() for _ in range(100)]

        assert received == [b"%d" % number for number in range(100)]
        assert lines.loop.now_ns - sent_ns >= 1 * MS

    lines.run(scenario())


def test_a_cut_loses_what_is_under_way_and_both_ends_hear_of_it() -> None:
    lines = Lines(cut_ns=50 * MS)

    async def scenario() -> None:
        await lines.connect()
        lines.near.send(b"lost")
        assert lines.network.cut("a") == 1
        lines.near.send(b"lost, too, although nobody has told")

        assert await lines.near.receive() is None
        assert await lines.far.receive() is None
        with pytest.raises(TransportError):
            lines.near.send(b"now it is known")

    lines.run(scenario())


def test_the_two_ends_hear_of_a_cut_at_different_times() -> None:
    lines = Lines(cut_ns=50 * MS)

    async def scenario() -> None:
        await lines.connect()
        lines.network.cut("b")

        async def heard(connection: Connection) -> int:
            await connection.receive()
            return lines.loop.now_ns

        near_ns, far_ns = await asyncio.gather(heard(lines.near), heard(lines.far))
        assert near_ns != far_ns

    lines.run(scenario())


@pytest.mark.parametrize("frozen", ["a", "b"])
def test_a_frozen_party_gets_and_gives_nothing_until_it_thaws(frozen: str) -> None:
    lines = Lines()

    async def scenario() -> None:
        await lines.connect()
        lines.network.freeze(frozen)
        lines.near.send(b"there")
        lines.far.send(b"back")
        waiting = [lines.loop.create_task(end.receive()) for end in (lines.near, lines.far)]
        await asyncio.sleep(10)
        assert not any(task.done() for task in waiting)

        lines.network.thaw(frozen)
        assert [await task for task in waiting] == [b"back", b"there"]

    lines.run(scenario())


def test_a_way_that_is_blocked_holds_back_one_direction_only() -> None:
    lines = Lines()

    async def scenario() -> None:
        await lines.connect()
        lines.network.block("a", "b")
        lines.near.send(b"held back")
        lines.far.send(b"arrives")
        assert await lines.near.receive() == b"arrives"
        await lines.loop.pause(100 * MS)
        with pytest.raises(TransportError):
            await lines.network.transport("a").connect("b:1", "test")
        lines.far.send(b"still arrives")
        assert await lines.near.receive() == b"still arrives"
        lines.network.unblock("a", "b")
        assert await lines.far.receive() == b"held back"

    lines.run(scenario())


def test_a_late_cut_lets_arrive_what_is_under_way_and_nothing_more() -> None:
    lines = Lines(cut_ns=50 * MS)

    async def scenario() -> None:
        await lines.connect()
        lines.near.send(b"under way")
        lines.network.cut("a", late=True)
        lines.near.send(b"into the void")

        assert await lines.far.receive() == b"under way"
        assert await lines.far.receive() is None
        assert await lines.near.receive() is None

    lines.run(scenario())


def test_a_listener_that_is_gone_at_once_leaves_its_address_free() -> None:
    lines = Lines()

    async def scenario() -> None:
        ended: list[str] = []

        async def serve(connection: Connection) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(connection.peer)

        transport = lines.network.transport("b")
        listener = await transport.listen("b:1", {"test": serve})
        near = await lines.network.transport("a").connect("b:1", "test")
        await asyncio.sleep(0.1)
        unwind = listener.abort()
        again = await transport.listen("b:1", {"test": serve})

        assert await near.receive() is None
        await unwind()
        assert ended == ["a"]
        await again.close()

    lines.run(scenario())
