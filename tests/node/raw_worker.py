"""A worker that says to a node what a test wants, frame by frame."""

import asyncio

import msgspec

from perdure.core.net.inproc import InProcConnection, InProcTransport
from perdure.core.protocol import messages
from perdure.core.protocol.envelope import EnvelopeReader, EnvelopeWriter
from perdure.core.protocol.session import (
    SESSION_SERVICE,
    HandlerManifest,
    Hello,
    Refused,
    ServiceKind,
    ServiceManifest,
)
from perdure.proto.generated import service_protocol_pb2 as wire
from perdure.testing import InProcessNode
from perdure.testing.in_process import NODE_ADDRESS


class RawWorker:
    """A worker that says what the test wants."""

    def __init__(self, connection: InProcConnection) -> None:
        self.connection = connection
        self.reader = EnvelopeReader()

    @classmethod
    async def connect(cls, node: InProcessNode, hello: Hello | bytes) -> "RawWorker":
        worker = cls(await InProcTransport(node.network).connect(NODE_ADDRESS, SESSION_SERVICE))
        body = hello if isinstance(hello, bytes) else msgspec.msgpack.encode(hello)
        worker.say(0, messages.frame(messages.HELLO, body))
        return worker

    def say(self, stream: int, frames: bytes) -> None:
        writer = EnvelopeWriter()
        writer.add(stream, 0, frames)
        for message in writer.take():
            self.connection.send(message)

    async def hear(self) -> list[tuple[int, int, bytes]]:
        """The frames of the next message: (stream, type, body)."""
        message = await asyncio.wait_for(self.connection.receive(), 60)
        assert message is not None
        return [
            (stream, kind, frames[start:end])
            for stream, _, frames in self.reader.read(message)
            for kind, start, end in messages.split_frames(frames)
        ]

    async def refusal(self) -> Refused:
        ((_, kind, body),) = await self.hear()
        assert kind == messages.REFUSED
        return msgspec.msgpack.decode(body, type=Refused)


def hello(
    service: str = "Greeter",
    handlers: tuple[str, ...] = ("greet", "far"),
    *,
    deployment: str = "dp",
    attempts_max: int = 10,
) -> Hello:
    manifest = ServiceManifest(
        service, ServiceKind.SERVICE, tuple(HandlerManifest(name) for name in handlers)
    )
    return Hello(deployment, deployment, "raw", attempts_max, 6, (manifest,))


def output(text: bytes) -> bytes:
    """The frames of an answer."""
    command = wire.OutputCommand(value=wire.Value(content=text)).SerializeToString()
    return messages.frame(messages.OUTPUT_COMMAND, command) + messages.frame(messages.END, b"")
