"""The log-server: what it takes, what it shows, and what it remembers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from perdure.core.errors import StorageCorruptError
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.log.batch_codec import encode_batch
from perdure.log.chain import loglet_id
from perdure.log.errors import ForeignStorageError
from perdure.log.replicated.channel import Channel
from perdure.log.replicated.messages import (
    FAILED,
    GONE,
    HOLE,
    LOST,
    MALFORMED,
    OK,
    OVERLOADED,
    SEALED,
    SUPERSEDED,
    TRIMMED,
    WRONG_SEQUENCER,
    Accept,
    Ballot,
    Batches,
    Decided,
    Delete,
    Digest,
    Finish,
    GetInfo,
    Info,
    Read,
    Release,
    Reply,
    Request,
    Seal,
    Spans,
    Store,
    Stored,
    StoreResult,
    Trim,
    Wait,
    decode_replies,
)
from perdure.log.replicated.server import LogServerLimits
from perdure.log.replicated.server_store import ServerStore
from perdure.log.types import Batch

from ..support import HeldSyncs, LaterSyncs, group, turns
from .support import CLUSTER, open_server

LOGLET = loglet_id(0, 1)
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

        return Channel(take, asyncio.get_running_loop())

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
        ballot: Ballot | None = None,
        sequencer: str = SEQUENCER,
    ) -> Store:
        last, value = stored(first, count)
        number = 0 if ballot is None else 77
        return Store(number, self.storage, LOGLET, sequencer, known, last, value, 1, ballot)

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


def test_what_is_stored_is_acknowledged_once_per_sync() -> None:
    async def story() -> None:
        scene = Scene()
        for first in (1, 3, 5):
            scene.ask(scene.batch(first, 2))
        await turns(8)

        assert scene.replies == [Stored(scene.storage, LOGLET, 7)]
        assert scene.writer.syncs == 1

    run(story)


def test_nothing_is_shown_before_it_is_synced() -> None:
    async def story() -> None:
        scene = Scene(held=True)
        scene.ask(scene.batch(1, 2, known=3))
        scene.ask(Seal(5, scene.storage, LOGLET, (1, "n2")))
        await turns(8)
        assert scene.replies == []
        info = await scene.info()
        assert (info.tail, info.sealed) == (1, False)
        assert (await scene.read(known=3)).batches == []
        assert (await scene.read(uncommitted=True)).batches == []
        spans = await scene.reply(Digest(3, scene.storage, LOGLET, 1, 9))
        assert isinstance(spans, Spans)
        assert spans.spans == []
        # A refusal that rests on the seal waits for it, too.
        scene.ask(scene.batch(3))
        await turns(8)
        before = len(scene.replies)
        scene.syncs.release()
        await turns(8)
        scene.syncs.release()
        await turns(8)

        first, sealed, refused = scene.replies[before:]
        assert first == Stored(scene.storage, LOGLET, 3)
        assert isinstance(sealed, Info)
        assert (sealed.tail, sealed.promised) == (3, (1, "n2"))
        assert isinstance(refused, StoreResult)
        assert refused.status == SEALED
        assert len((await scene.read()).batches) == 1

    run(story)


def test_readers_get_only_what_is_known_to_be_committed() -> None:
    async def story() -> None:
        scene = Scene()
        for first in (1, 2, 3):
            scene.ask(scene.batch(first))
        await turns(8)
        assert (await scene.read()).batches == []
        scene.ask(Release(scene.storage, LOGLET, 3))
        assert [last for last, _ in (await scene.read()).batches] == [1, 2]
        assert [last for last, _ in (await scene.read(uncommitted=True)).batches] == [1, 2, 3]
        assert [last for last, _ in (await scene.read(2, known=4)).batches] == [2, 3]

    run(story)


def test_a_hole_is_refused_unless_what_is_missing_is_committed() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1))
        refused = await scene.reply(scene.batch(3))
        assert refused == StoreResult(0, scene.storage, LOGLET, HOLE, 1)
        assert (await scene.info()).tail == 2
        assert await scene.reply(scene.batch(4, known=4)) == Stored(scene.storage, LOGLET, 5)
        # Reads stop at the hole, and begin behind it.
        assert [last for last, _ in (await scene.read(1, known=5)).batches] == [1]
        assert (await scene.read(2)).batches == []
        assert [last for last, _ in (await scene.read(4)).batches] == [4]
        # A late copy may still fill it.
        scene.ask(scene.batch(2, 2))
        await turns(8)
        assert [last for last, _ in (await scene.read(1)).batches] == [1, 3, 4]

    run(story)


def test_second_copies_are_acknowledged_and_not_written_again() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1, 2))
        puts = scene.store.puts

        assert await scene.reply(scene.batch(1, 2)) == Stored(scene.storage, LOGLET, 3)
        assert scene.store.puts == puts

    run(story)


def test_damaged_and_unfitting_batches_are_refused() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1, 3))
        last, value = stored(4)
        flipped = value[:-1] + bytes([value[-1] ^ 1])
        wrong = [
            Store(0, scene.storage, LOGLET, SEQUENCER, 1, last, flipped, 1),
            Store(0, scene.storage, LOGLET, SEQUENCER, 1, last + 1, value, 1),
            Store(0, scene.storage, LOGLET, SEQUENCER, 1, last, b"", 1),
            scene.batch(2, 4),
        ]
        for request in wrong:
            reply = await scene.reply(request)
            assert isinstance(reply, StoreResult)
            assert reply.status == MALFORMED
        assert (await scene.info()).tail == 4

    run(story)


def test_only_one_sequencer_ever_writes() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1))
        for life in scene.lives():
            reply = await life.reply(life.batch(1, sequencer="n1:1:cd"))
            assert isinstance(reply, StoreResult)
            assert reply.status == WRONG_SEQUENCER

    run(story)


def test_seal_outlives_a_restart() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1, 2))
        await scene.reply(Seal(3, scene.storage, LOGLET, (2, "n2")))
        again = scene.again()
        info = await again.info()
        assert (info.tail, info.promised, info.record_time_ns) == (3, (2, "n2"), 5)
        refused = await again.reply(again.batch(3))
        assert isinstance(refused, StoreResult)
        assert refused.status == SEALED

    run(story)


def test_sealed_server_takes_repairs_of_the_greatest_ballot_only() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1))
        await scene.reply(Seal(3, scene.storage, LOGLET, (2, "n2")))
        cases: list[tuple[int, Ballot, int]] = [
            (2, (1, "n9"), SUPERSEDED),
            (2, (2, "n2"), OK),
            (5, (3, "n1"), OK),
            (6, (2, "n2"), SUPERSEDED),
        ]
        for first, ballot, expected in cases:
            reply = await scene.reply(scene.batch(first, ballot=ballot))
            assert isinstance(reply, StoreResult)
            assert (reply.status, reply.number) == (expected, 77)
        info = await scene.info()
        # A repair says nothing of what is committed.
        assert (info.tail, info.known_tail, info.promised) == (6, 1, (3, "n1"))

    run(story)


def test_ballots_are_kept_and_smaller_ones_refused() -> None:
    async def story() -> None:
        scene = Scene()
        assert (await _status(scene, Seal(1, scene.storage, LOGLET, (3, "b")))) == OK
        assert (await _status(scene, Seal(1, scene.storage, LOGLET, (3, "a")))) == SUPERSEDED
        accept = Accept(1, scene.storage, LOGLET, (2, "z"), 4, 9)
        assert (await _status(scene, accept)) == SUPERSEDED
        accept = Accept(1, scene.storage, LOGLET, (3, "b"), 4, 9)
        assert (await _status(scene, accept)) == OK
        info = await scene.again().info()
        assert info.promised == (3, "b")
        assert info.accepted == Decided((3, "b"), 4, 9)
        assert info.final is None

    run(story)


async def _status(scene: Scene, request: Request) -> int:
    reply = await scene.reply(request)
    assert isinstance(reply, Info)
    return reply.status


def test_final_tail_cuts_what_is_behind_it() -> None:
    async def story() -> None:
        scene = Scene()
        for first in (1, 2, 3):
            scene.ask(scene.batch(first))
        await turns(8)
        scene.ask(Finish(scene.storage, LOGLET, 2, 5))
        await turns(8)
        for life in scene.lives():
            info = await life.info()
            assert info.final is not None
            assert (info.tail, info.final.tail, info.sealed) == (2, 2, True)
            assert [last for last, _ in (await life.read(1, known=9)).batches] == [1]
            assert (await life.read(2, known=9, uncommitted=True)).batches == []
            late = await life.reply(life.batch(2, ballot=(9, "n9")))
            assert isinstance(late, StoreResult)
            assert late.status == SEALED

    run(story)


def test_trim_is_kept_and_clamped_to_what_is_committed() -> None:
    async def story() -> None:
        scene = Scene()
        for first in (1, 2, 3):
            scene.ask(scene.batch(first))
        await turns(8)
        reply = await scene.reply(Trim(4, scene.storage, LOGLET, 3, 5, 3))
        assert isinstance(reply, Info)
        assert reply.trim_point == 0
        reply = await scene.reply(Trim(4, scene.storage, LOGLET, 2, 5, 3))
        assert isinstance(reply, Info)
        assert reply.trim_point == 2
        for life in scene.lives():
            trimmed = await life.read(2)
            assert (trimmed.status, trimmed.trim_point) == (TRIMMED, 2)
            info = await life.info()
            assert (info.tail, info.known_tail) == (4, 3)

    run(story)


def test_trim_of_what_is_not_here_moves_the_tail() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(Trim(4, scene.storage, LOGLET, 7, 33, 8))
        for life in scene.lives():
            info = await life.info()
            assert (info.tail, info.trim_point, info.record_time_ns) == (8, 7, 33)

    run(story)


def test_another_disk_never_answers_for_the_one_that_was_lost() -> None:
    async def story() -> None:
        scene = Scene()
        lost = "0123456789abcdef"
        for request in (
            GetInfo(1, lost, LOGLET),
            Seal(1, lost, LOGLET, (1, "n")),
            Wait(1, lost, LOGLET, 0, 10),
            Accept(1, lost, LOGLET, (1, "n"), 1, 0),
            Trim(1, lost, LOGLET, 1, 0, 2),
        ):
            assert await scene.reply(request) == Info(1, LOST)
        last, value = stored(1)
        store = Store(0, lost, LOGLET, SEQUENCER, 1, last, value, 4)
        assert await scene.reply(store) == StoreResult(0, lost, LOGLET, LOST, 4)
        read = await scene.reply(Read(1, lost, LOGLET, 1, 1, 9))
        assert read == Batches(1, LOST, [])
        assert await scene.reply(Digest(1, lost, LOGLET, 1, 9)) == Spans(1, LOST, [], 1, 0)
        assert (await scene.info()) == Info(1, OK)

    run(story)


def test_every_disk_has_a_name_of_its_own_and_keeps_it() -> None:
    async def story() -> None:
        scene = Scene()
        assert scene.again().storage == scene.storage
        assert Scene().storage != scene.storage

    run(story)


@pytest.mark.parametrize(("cluster", "node"), [(CLUSTER, "s2"), ("other", "s1")])
def test_disk_of_somebody_else_is_not_used(cluster: str, node: str) -> None:
    store = MemoryStore()
    ServerStore(store, cluster=CLUSTER, node="s1", random=SeededRandom(1))

    with pytest.raises(ForeignStorageError, match="s1"):
        ServerStore(store, cluster=cluster, node=node, random=SeededRandom(2))


def test_deleted_loglets_are_gone_for_ever() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1))
        first, end = loglet_id(0, 0), loglet_id(0, 2)
        assert await scene.reply(Delete(4, first, end)) == Info(4, OK)
        for life in scene.lives():
            assert await life.reply(GetInfo(1, life.storage, LOGLET)) == Info(1, GONE)
            reply = await life.reply(life.batch(1))
            assert isinstance(reply, StoreResult)
            assert reply.status == GONE
            assert (await life.reply(GetInfo(1, life.storage, LOGLET + 1))) == Info(1, OK)
        assert not list(scene.store.reopen().scan(b"r", b"s"))

    run(story)


def test_a_deletion_over_several_logs_is_refused() -> None:
    async def story() -> None:
        scene = Scene()
        for first, end in ((loglet_id(0, 0), loglet_id(1, 1)), (LOGLET, LOGLET + 1)):
            assert await scene.reply(Delete(4, first, end)) == Info(4, FAILED)

    run(story)


def test_more_than_may_wait_for_the_disk_is_refused() -> None:
    async def story() -> None:
        scene = Scene(held=True, limits=LogServerLimits(staged_bytes_max=10))
        scene.ask(scene.batch(1))
        refused = await scene.reply(scene.batch(2))
        assert refused == StoreResult(0, scene.storage, LOGLET, OVERLOADED, 1)
        scene.syncs.release()
        await turns(8)
        scene.ask(scene.batch(2))
        await turns(8)
        scene.syncs.release()
        await turns(8)
        assert (await scene.info()).tail == 3

    run(story)


def test_waits_end_with_news_with_a_seal_and_with_their_time() -> None:
    async def story() -> None:
        scene = Scene(limits=LogServerLimits(waits_max=3))
        scene.ask(Wait(11, scene.storage, LOGLET, 2, 0))
        scene.ask(Wait(12, scene.storage, LOGLET, 1 << 40, 0))
        scene.ask(Wait(13, scene.storage, LOGLET, 1 << 40, 60_000))
        over = await scene.reply(Wait(14, scene.storage, LOGLET, 9, 0))
        assert isinstance(over, Info)
        assert over.status == OVERLOADED
        scene.ask(Release(scene.storage, LOGLET, 2))
        await turns()
        assert _numbers(scene) == [14]
        scene.ask(Release(scene.storage, LOGLET, 3))
        await turns()
        assert _numbers(scene) == [14, 11]
        scene.ask(Wait(17, scene.storage, LOGLET, 1 << 40, 1))
        async with asyncio.timeout(10):
            while 17 not in _numbers(scene):
                await asyncio.sleep(0)
        await scene.reply(Wait(15, scene.storage, LOGLET, 0, 0))
        scene.ask(Seal(16, scene.storage, LOGLET, (1, "n")))
        await turns(8)
        assert sorted(_numbers(scene)[-3:]) == [12, 13, 16]
        assert scene.server._waits == 0

    run(story)


def _numbers(scene: Scene) -> list[int]:
    return [reply.number for reply in scene.replies if isinstance(reply, Info)]


def test_failed_disk_is_said_so() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(scene.batch(1))
        scene.ask(Wait(11, scene.storage, LOGLET, 9, 0))
        scene.store.fail_next_sync()
        before = len(scene.replies)
        scene.ask(scene.batch(2))
        await turns(8)
        assert scene.replies[before:] == [Info(11, FAILED)]
        assert await scene.reply(GetInfo(1, scene.storage, LOGLET)) == Info(1, FAILED)
        refused = await scene.reply(scene.batch(3))
        assert isinstance(refused, StoreResult)
        assert refused.status == FAILED

    run(story)


def test_damaged_mark_is_not_taken_for_none() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(Seal(3, scene.storage, LOGLET, (2, "n2")))
        key = b"m" + LOGLET.to_bytes(8, "big")
        value = scene.store.get(key)
        assert value is not None
        scene.store.write([(key, value[:-1] + bytes([value[-1] ^ 1]))])
        scene.store.sync()
        again = scene.again()
        assert await again.reply(GetInfo(1, again.storage, LOGLET)) == Info(1, FAILED)

    run(story)


def test_damaged_identity_stops_the_server() -> None:
    store = MemoryStore({b"i": b"1234 not what was written"})

    with pytest.raises(StorageCorruptError):
        ServerStore(store, cluster=CLUSTER, node="s1", random=SeededRandom(1))


def test_digest_leaves_out_damaged_batches_and_comes_in_parts() -> None:
    async def story() -> None:
        scene = Scene()
        for first in (1, 3, 5):
            scene.ask(scene.batch(first, 2))
        await turns(8)
        key = b"r" + LOGLET.to_bytes(8, "big") + (4).to_bytes(8, "big")
        value = scene.store.get(key)
        assert value is not None
        scene.store.write([(key, value[:-1] + bytes([value[-1] ^ 1]))])
        reply = await scene.reply(Digest(3, scene.storage, LOGLET, 1, 20))
        assert reply == Spans(3, OK, [(1, 2), (5, 6)], 20, 0)
        rows = scene.server._store
        assert rows.spans(LOGLET, 1, 7, 1) == ([(1, 2)], 3)

    run(story)


def test_loglets_that_were_forgotten_are_read_again() -> None:
    async def story() -> None:
        scene = Scene(limits=LogServerLimits(loglets_max=1))
        await scene.reply(scene.batch(1, 2))
        await scene.reply(GetInfo(1, scene.storage, LOGLET + 1))
        assert list(scene.server._loglets) == [LOGLET + 1]
        assert (await scene.info()).tail == 3

    run(story)
