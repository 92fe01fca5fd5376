"""The log-server: what it takes and what it shows."""

import asyncio

import pytest

from perdure.core.net.peers import Introduction
from perdure.log.replicated.messages import (
    FAILED,
    HOLE,
    MALFORMED,
    OK,
    OVERLOADED,
    SEALED,
    Batches,
    Digest,
    GetInfo,
    Info,
    Read,
    Release,
    Seal,
    Spans,
    Store,
    Stored,
    StoreResult,
    Wait,
    decode_replies,
    encode,
)
from perdure.log.replicated.server import LogServerLimits

from ..support import turns
from .server_scene import LOGLET, SEQUENCER, Scene, run, stored


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
            Store(scene.storage, LOGLET, SEQUENCER, 1, last, flipped, 1),
            Store(scene.storage, LOGLET, SEQUENCER, 1, last + 1, value, 1),
            Store(scene.storage, LOGLET, SEQUENCER, 1, last, b"", 1),
            scene.batch(2, 4),
        ]
        for request in wrong:
            reply = await scene.reply(request)
            assert isinstance(reply, StoreResult)
            assert reply.status == MALFORMED
        assert (await scene.info()).tail == 4

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
        async with asyncio.timeout(60):
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
        assert rows.spans(LOGLET, 1, 7, 1, 1 << 20) == ([(1, 2)], 3)
        assert rows.spans(LOGLET, 1, 7, 99, 1) == ([(1, 2)], 3)

    run(story)


class _Deaf:
    """A connection whose other end asks and takes nothing."""

    peer = "somebody"

    def __init__(self, queued_bytes: int, message: bytes) -> None:
        self.queued_bytes = queued_bytes
        self.received = 0
        self.sent: list[bytes] = []
        self._message = message

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    async def receive(self) -> bytes | None:
        self.received += 1
        await asyncio.sleep(0)
        return self._message if self.received < 10 else None

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(("queued", "received"), [(100, 10), (101, 10), (201, 1)])
def test_who_takes_no_replies_gets_no_more_of_them(queued: int, received: int) -> None:
    async def story() -> None:
        scene = Scene(limits=LogServerLimits(queued_bytes_max=100))
        (message,) = encode([Read(1, scene.storage, LOGLET, 1, 1, 1)])
        connection = _Deaf(queued, message)
        await scene.server.serve(Introduction(1, "c", "n", 1), connection)

        assert connection.received == received
        replies = [item for sent in connection.sent for item in decode_replies(sent)]
        statuses = {item.status for item in replies if isinstance(item, Batches)}
        assert statuses == {100: {OK}, 101: {OVERLOADED}, 201: set()}[queued]

    run(story)


def test_it_counts_what_is_durable_and_what_it_refuses() -> None:
    async def story() -> None:
        scene = Scene(held=True)
        first = scene.batch(1, 2)
        scene.ask(first)
        scene.ask(scene.batch(9))
        await turns(8)
        figures = scene.server.figures()
        # Nothing counts before it is on the disk.
        assert (figures.batches, figures.bytes, figures.staged_bytes) == (0, 0, len(first.value))
        assert figures.loglets == {"open": 1, "sealed": 0}
        scene.syncs.release()
        scene.ask(Seal(5, scene.storage, LOGLET, (1, "n2")))
        scene.ask(scene.fill(3, ballot=(1, "n2")))
        scene.ask(scene.batch(4))
        scene.ask(Wait(6, scene.storage, LOGLET + 1, 9, 0))
        scene.ask(Store("another disk", LOGLET, SEQUENCER, 1, 1, first.value))
        await turns(8)
        while scene.syncs.waiting is not None:
            scene.syncs.release()
            await turns(8)
        figures = scene.server.figures()
        assert figures.batches == 2
        assert figures.bytes == len(first.value) + len(stored(3)[1])
        assert figures.refused == {"hole": 1, "sealed": 1, "lost": 1}
        assert figures.loglets == {"open": 1, "sealed": 1}
        assert (figures.staged_bytes, figures.waits) == (0, 1)

    run(story)


def test_loglets_that_were_forgotten_are_read_again() -> None:
    async def story() -> None:
        scene = Scene(limits=LogServerLimits(loglets_max=1))
        await scene.reply(scene.batch(1, 2))
        await scene.reply(GetInfo(1, scene.storage, LOGLET + 1))
        assert list(scene.server._loglets) == [LOGLET + 1]
        assert (await scene.info()).tail == 3

    run(story)
