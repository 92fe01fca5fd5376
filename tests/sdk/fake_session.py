"""The node's side of worker sessions, scripted, over the in-process transport."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.core.clock import SystemClock
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.net.transport import Connection, Listener
from perdure.core.protocol import messages
from perdure.core.protocol.envelope import EnvelopeReader, EnvelopeWriter
from perdure.core.protocol.messages import frame, split_frames
from perdure.core.protocol.session import SESSION_SERVICE, Hello, Refused, Welcome
from perdure.core.random import SeededRandom
from perdure.sdk import App
from perdure.sdk.run_worker import run_worker

from .fake_node import Frame


class FakeNode:
    """One accepted session, from the node's side."""

    def __init__(self, connection: Connection, greeting: str = "welcome") -> None:
        self.connection = connection
        self.greeting = greeting
        self.hello: Hello | None = None
        self.sent_by_worker: dict[int, list[Frame]] = {}
        self.messages = 0
        self.closed = False
        self.changed = asyncio.Event()
        self._reader = EnvelopeReader()

    async def serve(self) -> None:
        """Answer the greeting, then collect what the worker sends."""
        while (message := await self.connection.receive()) is not None:
            self.messages += 1
            for stream, record_time_ns, data in self._reader.read(message):
                assert record_time_ns == 0
                for kind, start, end in split_frames(data):
                    self._took(stream, kind, data[start:end])
            self.changed.set()
        self.closed = True
        self.changed.set()

    def _took(self, stream: int, kind: int, body: bytes) -> None:
        if kind != messages.HELLO:
            self.sent_by_worker.setdefault(stream, []).append((kind, body))
            return
        self.hello = msgspec.msgpack.decode(body, type=Hello)
        if self.greeting == "welcome":
            answer = frame(messages.WELCOME, msgspec.msgpack.encode(Welcome("n1", "test", 5)))
        else:
            refused = Refused("PD0999", "not here", retryable=self.greeting == "later")
            answer = frame(messages.REFUSED, msgspec.msgpack.encode(refused))
        self.send((0, answer))

    def send(self, *segments: tuple[int, bytes]) -> None:
        """One message."""
        writer = EnvelopeWriter()
        for stream, frames in segments:
            writer.add(stream, 1, frames)
        for message in writer.take():
            self.connection.send(message)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until the worker has done something."""
        async with asyncio.timeout(60):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def answer(self, stream: int, count: int) -> list[Frame]:
        """The first `count` frames on a stream, once they are there."""
        await self.until(lambda: len(self.sent_by_worker.get(stream, [])) >= count)
        return self.sent_by_worker[stream]


class World:
    """A network, its nodes and a worker."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.network = InProcNetwork()
        self.nodes: list[FakeNode] = []
        self.arrived = asyncio.Event()
        self.greetings: list[str] = []
        self.stop = asyncio.Event()

    async def listen(self, address: str) -> Listener:
        """Accept sessions at an address."""

        async def accept(connection: Connection) -> None:
            greeting = self.greetings.pop(0) if self.greetings else "welcome"
            node = FakeNode(connection, greeting)
            self.nodes.append(node)
            self.arrived.set()
            await node.serve()

        transport = InProcTransport(self.network)
        return await transport.listen(address, {SESSION_SERVICE: accept})

    async def node(self, number: int = 0) -> FakeNode:
        """The session that was accepted as number `number`, once it is there."""
        async with asyncio.timeout(60):
            while len(self.nodes) <= number:
                self.arrived.clear()
                await self.arrived.wait()
        return self.nodes[number]

    async def worker(self, *addresses: str, **options: Any) -> None:
        """Run a worker."""
        await run_worker(
            self.app,
            addresses,
            transport=InProcTransport(self.network),
            clock=SystemClock(),
            random=SeededRandom(1),
            stop=self.stop,
            **options,
        )
