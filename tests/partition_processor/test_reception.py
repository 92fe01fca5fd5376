"""Workers arrive: which cluster they mean, and what they are told of its nodes."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from perdure.core.clock import SystemClock
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.net.transport import Connection
from perdure.core.protocol import messages
from perdure.core.protocol.envelope import SESSION_STREAM, EnvelopeReader, EnvelopeWriter
from perdure.core.protocol.messages import PROTOCOL_VERSION, frame, split_frames
from perdure.core.protocol.session import SESSION_SERVICE, Hello, NodeAddress, Nodes, Refused
from perdure.partition_processor.deployments import Deployment
from perdure.partition_processor.invoker.reception import WorkerReception

NODES = Nodes(3, (NodeAddress("n1", "a:1"), NodeAddress("n2", "b:1")), "f1")


class Scene:
    """A reception, and whoever comes to it."""

    def __init__(self) -> None:
        self.nodes: Nodes | None = NODES
        self.registered: list[str] = []
        self.transport = InProcTransport(InProcNetwork())
        idle = SimpleNamespace(
            add=lambda _: None, remove=lambda _: None, drain_waiting=lambda: None, ticks=None
        )
        self.reception = WorkerReception(
            invoker=cast(Any, idle),
            register=self._register,
            node_name="n1",
            cluster="shop",
            loop=asyncio.get_running_loop(),
            clock=SystemClock(),
            nodes=lambda: self.nodes,
        )

    async def _register(self, deployment: Deployment) -> None:
        self.registered.append(deployment.name)

    async def greet(self, cluster: str) -> Connection:
        """A worker comes that was told of a cluster, or of none."""
        connection = await self.transport.connect("a:1", SESSION_SERVICE)
        hello = Hello("dp", "0" * 64, "w", 1, PROTOCOL_VERSION, (), cluster)
        writer = EnvelopeWriter()
        writer.add(SESSION_STREAM, 0, frame(messages.HELLO, msgspec.msgpack.encode(hello)))
        for message in writer.take():
            connection.send(message)
        return connection


async def told(connection: Connection) -> list[tuple[int, bytes]]:
    """The frames of the next message."""
    message = await connection.receive()
    assert message is not None
    return [
        (kind, frames[start:end])
        for _, _, frames in EnvelopeReader().read(message)
        for kind, start, end in split_frames(frames)
    ]


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene()
        listener = await scene.transport.listen("a:1", {SESSION_SERVICE: scene.reception.serve})
        async with asyncio.timeout(60):
            await story(scene)
        await listener.close(0)

    asyncio.run(main())


def test_a_worker_that_means_another_cluster_leaves_nothing_here() -> None:
    async def story(scene: Scene) -> None:
        ((kind, body),) = await told(await scene.greet("f2"))
        assert kind == messages.REFUSED
        refused = msgspec.msgpack.decode(body, type=Refused)
        assert (refused.code, refused.retryable) == ("PD0919", False)
        assert "listen.advertise" in refused.message
        assert scene.registered == []

        # A node that is alone is in no cluster.
        scene.nodes = None
        ((kind, _),) = await told(await scene.greet("f2"))
        assert kind == messages.REFUSED

    play(story)


def test_workers_are_told_of_the_nodes_and_of_each_change() -> None:
    async def story(scene: Scene) -> None:
        given, found = await scene.greet(""), await scene.greet("f1")
        for worker in (given, found):
            (welcome, _), (kind, body) = await told(worker)
            assert (welcome, kind) == (messages.WELCOME, messages.NODES)
            assert msgspec.msgpack.decode(body, type=Nodes) == NODES
        assert scene.registered == ["dp", "dp"]

        scene.reception.look_at_nodes()  # Nothing has changed.
        scene.nodes = Nodes(4, NODES.nodes[:1], "f1")
        scene.reception.look_at_nodes()
        for worker in (given, found):
            ((_, body),) = await told(worker)
            assert msgspec.msgpack.decode(body, type=Nodes) == scene.nodes
            await worker.close()

    play(story)
