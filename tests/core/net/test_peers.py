"""Peers: connections between nodes are made, kept, made again, and refused to strangers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.core.errors import MalformedMessageError
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.net.peers import VERSION, Introduction, Peer, Peers, introduced
from perdure.core.net.transport import Connection, Listener
from perdure.core.random import SeededRandom
from perdure.core.retry import RetryPolicy

SERVICE = "echo"
RETRY = RetryPolicy(
    initial_interval_ns=1_000_000, factor=1.0, interval_max_ns=1_000_000, attempts_max=None
)


class Heard:
    """What a service hears of one peer."""

    def __init__(self, peer: Peer) -> None:
        self.events: list[str] = []
        self._changed = asyncio.Event()
        peer.listener = self

    def connected(self) -> None:
        self._add("connected")

    def received(self, message: bytes) -> None:
        self._add(message.decode())

    def lost(self) -> None:
        self._add("lost")

    def _add(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, event: str, count: int = 1) -> None:
        """Wait until it was heard so many times."""
        async with asyncio.timeout(60):
            while self.events.count(event) < count:
                self._changed.clear()
                await self._changed.wait()


class Scene:
    """One network, and the node n1 that connects to others."""

    def __init__(self) -> None:
        self.network = InProcNetwork()
        self.addresses: dict[str, str] = {}
        self.greeted: list[Introduction] = []
        self.peers = Peers(
            transport=InProcTransport(self.network),
            service=SERVICE,
            cluster="c",
            node="n1",
            generation=4,
            address_of=self.addresses.get,
            loop=asyncio.get_running_loop(),
            random=SeededRandom(1),
            retry=RETRY,
        )

    async def listen(
        self, name: str, *, cluster: str = "c", generation: int = 1, version: int = VERSION
    ) -> Listener:
        me = Introduction(version, cluster, name, generation)
        listener = await InProcTransport(self.network).listen(
            "host:0", {SERVICE: introduced(me, self._echo)}
        )
        self.addresses[name] = listener.address
        return listener

    async def _echo(self, them: Introduction, connection: Connection) -> None:
        self.greeted.append(them)
        while (message := await connection.receive()) is not None:
            connection.send(message)


def run(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene()
        try:
            await story(scene)
        finally:
            await scene.peers.close()

    asyncio.run(main())


def test_both_ends_know_each_other() -> None:
    async def story(scene: Scene) -> None:
        listener = await scene.listen("n2", generation=9)
        peer = scene.peers.peer("n2")
        heard = Heard(peer)
        assert not peer.send(b"too early")
        await heard.until("connected")
        assert peer.send(b"hello")
        await heard.until("hello")

        assert scene.peers.peer("n2") is peer
        assert (peer.connected, peer.generation, peer.failure) == (True, 9, "")
        assert scene.greeted == [Introduction(VERSION, "c", "n1", 4)]
        await listener.close(0)

    run(story)


def test_after_the_close_nobody_is_connected_to() -> None:
    async def story(scene: Scene) -> None:
        listener = await scene.listen("n2")
        await scene.peers.close()
        peer = scene.peers.peer("n2")
        await asyncio.sleep(0)
        assert len(scene.peers._scope) == 0
        assert (peer.connected, peer.send(b"too late")) == (False, False)
        assert peer.failure == "this node lets go of its connections"
        await listener.close(0)

    run(story)


def test_lost_connection_is_made_again_where_the_node_is_then() -> None:
    async def story(scene: Scene) -> None:
        listener = await scene.listen("n2")
        heard = Heard(scene.peers.peer("n2"))
        await heard.until("connected")
        await listener.close(0)
        await heard.until("lost")
        assert not scene.peers.peer("n2").connected
        listener = await scene.listen("n2", generation=2)
        await heard.until("connected", 2)

        assert scene.peers.peer("n2").generation == 2
        assert heard.events == ["connected", "lost", "connected"]
        await listener.close(0)

    run(story)


def test_connection_that_brings_nonsense_is_dropped_and_made_again() -> None:
    async def story(scene: Scene) -> None:
        listener = await scene.listen("n2")
        peer = scene.peers.peer("n2")
        heard = Heard(peer)
        await heard.until("connected")
        received = heard.received

        def refuse(message: bytes) -> None:
            received(message)
            raise MalformedMessageError("nonsense")

        heard.received = refuse  # type: ignore[method-assign]
        peer.send(b"nonsense")
        await heard.until("connected", 2)

        assert heard.events == ["connected", "nonsense", "lost", "connected"]
        await listener.close(0)

    run(story)


def test_node_without_an_address_is_connected_to_once_it_has_one() -> None:
    async def story(scene: Scene) -> None:
        peer = scene.peers.peer("n2")
        heard = Heard(peer)
        await asyncio.sleep(0)
        assert "address" in peer.failure or "yet" in peer.failure
        listener = await scene.listen("n2")
        peer.nudge()
        await heard.until("connected")
        await listener.close(0)

    run(story)


def test_who_waits_for_a_connection_has_it_made_at_once() -> None:
    async def story(scene: Scene) -> None:
        # By itself, the peer would not try again while this test runs.
        scene.peers.retry = RetryPolicy(
            initial_interval_ns=10**15, factor=1.0, interval_max_ns=10**15, attempts_max=None
        )
        peer = scene.peers.peer("n2")

        assert not await peer.wait_until_connected(0)

        listener = await scene.listen("n2")

        assert await peer.wait_until_connected(60)
        assert await peer.wait_until_connected(0)
        await listener.close(0)

    run(story)


@pytest.mark.parametrize(
    ("cluster", "name", "version", "reason"),
    [
        ("other", "n2", VERSION, "is of cluster 'other', not 'c'"),
        ("c", "n3", VERSION, "is node n3, not n2"),
        ("c", "n2", VERSION + 1, f"in version {VERSION + 1}, not {VERSION}"),
    ],
)
def test_strangers_are_not_talked_to(cluster: str, name: str, version: int, reason: str) -> None:
    async def story(scene: Scene) -> None:
        listener = await scene.listen(name, cluster=cluster, version=version)
        scene.addresses["n2"] = listener.address
        peer = scene.peers.peer("n2")
        heard = Heard(peer)
        async with asyncio.timeout(60):
            while reason not in peer.failure:
                await asyncio.sleep(0)

        assert heard.events == []
        assert not peer.connected
        if name == "n2":
            assert scene.greeted == []
        await listener.close(0)

    run(story)


def test_who_does_not_introduce_himself_is_let_go() -> None:
    async def story(scene: Scene) -> None:
        listener = await scene.listen("n2")
        connection = await InProcTransport(scene.network).connect(listener.address, SERVICE)
        connection.send(b"GET / HTTP/1.1")

        assert await connection.receive() is None
        assert scene.greeted == []
        await listener.close(0)

    run(story)
