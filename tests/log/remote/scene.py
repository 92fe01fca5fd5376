"""What the tests of appends from other nodes share: a server's other end, by hand."""

from perdure.core.net.peers import VERSION, Introduction
from perdure.core.net.peers import _encode as encode_introduction
from perdure.core.net.transport import Connection
from perdure.log import (
    VirtualLog,
)
from perdure.log.remote.messages import (
    SERVICE,
    Reply,
    Request,
    decode_replies,
    encode,
)

from ..mesh import Mesh
from ..support import turns

P = b"p" * 16


async def arrived(log: VirtualLog, tail_lsn: int) -> None:
    """Wait until so much has come to the sequencer."""
    while log._sequencer is None or log._sequencer.tail_lsn < tail_lsn:
        await turns()


class Raw:
    """The other end of a server, by hand."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @classmethod
    async def to(cls, mesh: Mesh, node: str, name: str = "raw", life: int = 1) -> "Raw":
        connection = await mesh.transport(name).connect(mesh.addresses[node], SERVICE)
        connection.send(encode_introduction(Introduction(VERSION, "mesh", name, life)))
        await connection.receive()
        return cls(connection)

    def send(self, *requests: Request) -> None:
        for _, message in encode(list(requests)):
            self.connection.send(message)

    async def replies(self) -> list[Reply] | None:
        message = await self.connection.receive()
        return None if message is None else decode_replies(message)
