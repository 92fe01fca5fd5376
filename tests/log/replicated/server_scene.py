"""One log-server on a store and a client's end of a channel to it, for tests."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.log.batch_codec import encode_batch
from perdure.log.chain import loglet_id
from perdure.log.replicated.channel import Channel
from perdure.log.replicated.messages import (
    Ballot,
    Batches,
    Fill,
    GetInfo,
    Info,
    Read,
    Reply,
    Request,
    Store,
    decode_replies,
    encode,
)
from perdure.log.replicated.server import LogServerLimits
from perdure.log.types import Batch

from ..support import HeldSyncs, LaterSyncs, group, turns
from .support import open_server

LOGLET = loglet_id(LogId(0), 1)
SEQUENCER = "n1:1:ab"


def stored(first: int, count: int = 1, *, time_ns: int = 5) -> tuple[int, bytes]:
    """Last offset and value of a batch numbered by its offsets."""
    batch = Batch(first, time_ns, 1, group(first, count))
    return batch.last_offset, encode_batch(LOGLET, batch)[1]


class Scene:
    """One server on a store, and a client's end of a channel."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        held: bool = False,
        limits: LogServerLimits | None = None,
    ) -> None:
        self.store = store or MemoryStore()
        self.syncs = HeldSyncs()
        self.server, self.writer = open_server(
            self.store,
            "s1",
            mode="never",
            sync_runner=self.syncs if held else LaterSyncs(1),
            limits=limits,
        )
        self.replies: list[Reply] = []
        self.channel: Channel[Reply] = self.connect(self.replies)

    def connect(self, replies: list[Reply]) -> Channel[Reply]:
        def take(message: bytes) -> None:
            replies.extend(decode_replies(message))

        return Channel(take, encode, asyncio.get_running_loop())

    def ask(self, request: Request) -> None:
        self.server.handle(self.channel, request)

    async def reply(self, request: Request) -> Reply:
        """Send a request and give the one reply that comes."""
        before = len(self.replies)
        self.ask(request)
        await turns(8)
        (reply,) = self.replies[before:]
        return reply

    def batch(
        self,
        first: int,
        count: int = 1,
        *,
        known: int = 1,
        sequencer: str = SEQUENCER,
    ) -> Store:
        last, value = stored(first, count)
        return Store(self.storage, LOGLET, sequencer, known, last, value, 1)

    def fill(self, *firsts: int, ballot: Ballot) -> Fill:
        return Fill(77, self.storage, LOGLET, ballot, [stored(first, 1) for first in firsts])

    @property
    def storage(self) -> str:
        return self.server.storage

    async def info(self) -> Info:
        reply = await self.reply(GetInfo(1, self.storage, LOGLET))
        assert isinstance(reply, Info)
        return reply

    async def read(self, first: int = 1, known: int = 1, *, uncommitted: bool = False) -> Batches:
        reply = await self.reply(Read(2, self.storage, LOGLET, first, 1 << 20, known, uncommitted))
        assert isinstance(reply, Batches)
        return reply

    def lives(self) -> Iterator["Scene"]:
        """This life, and then the next one."""
        yield self
        yield self.again()

    def again(self) -> "Scene":
        """The next life of the server, on what the disk keeps."""
        self.writer.close()
        return Scene(self.store.crash())


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())
