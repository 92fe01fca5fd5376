"""The log-server: seals, ballots, trim points, deletions and disks that it remembers."""

import pytest

from perdure.core.errors import StorageCorruptError
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.log.chain import loglet_id
from perdure.log.errors import ForeignStorageError
from perdure.log.replicated.messages import (
    FAILED,
    GONE,
    LOST,
    MALFORMED,
    OK,
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
    Request,
    Seal,
    Spans,
    Store,
    StoreResult,
    Trim,
    Wait,
)
from perdure.log.replicated.server_store import ServerStore

from ..support import turns
from .server_scene import LOGLET, SEQUENCER, Scene, run, stored
from .support import CLUSTER


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
            reply = await scene.reply(scene.fill(first, ballot=ballot))
            assert isinstance(reply, StoreResult)
            assert (reply.status, reply.number) == (expected, 77)
        info = await scene.info()
        # A repair says nothing of what is committed.
        assert (info.tail, info.known_tail, info.promised) == (6, 1, (3, "n1"))

    run(story)


def test_a_server_that_nobody_sealed_takes_repairs_and_nothing_older_from_then_on() -> None:
    async def story() -> None:
        scene = Scene()
        reply = await scene.reply(scene.fill(1, ballot=(2, "n2")))
        assert isinstance(reply, StoreResult)
        assert reply.status == OK
        reply = await scene.reply(scene.fill(2, ballot=(1, "n9")))
        assert isinstance(reply, StoreResult)
        assert reply.status == SUPERSEDED
        info = await scene.info()
        assert (info.tail, info.promised) == (2, (2, "n2"))

    run(story)


def test_a_run_of_batches_is_taken_up_to_the_first_that_is_not() -> None:
    async def story() -> None:
        scene = Scene()
        await scene.reply(Seal(3, scene.storage, LOGLET, (2, "n2")))
        run = scene.fill(4, 5, 6, ballot=(2, "n2"))
        run.batches[1] = (5, b"damaged")
        reply = await scene.reply(run)
        assert isinstance(reply, StoreResult)
        assert reply.status == MALFORMED
        assert (await scene.info()).tail == 5
        for life in scene.lives():
            reply = await life.reply(life.fill(5, 6, ballot=(2, "n2")))
            assert isinstance(reply, StoreResult)
            assert reply.status == OK
            assert (await life.info()).tail == 7
            found = await life.read(4, known=7, uncommitted=True)
            assert [last for last, _ in found.batches] == [4, 5, 6]

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
            late = await life.reply(life.fill(2, ballot=(9, "n9")))
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


def test_a_late_trim_brings_nothing_back() -> None:
    """Trims of two nodes may arrive in either order: what is gone stays gone, and is said to be."""

    async def story() -> None:
        scene = Scene()
        for first in (1, 2, 3):
            scene.ask(scene.batch(first))
        await turns(8)
        for last_offset in (2, 1, 2):
            reply = await scene.reply(Trim(4, scene.storage, LOGLET, last_offset, 5, 4))
            assert isinstance(reply, Info)
            assert reply.trim_point == 2
        for life in scene.lives():
            for offset in (1, 2):
                trimmed = await life.read(offset)
                assert (trimmed.status, trimmed.trim_point) == (TRIMMED, 2)
            assert (await life.info()).tail == 4

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
        store = Store(lost, LOGLET, SEQUENCER, 1, last, value, 4)
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


def test_damaged_identity_stops_the_server() -> None:
    store = MemoryStore({b"i": b"1234 not what was written"})

    with pytest.raises(StorageCorruptError):
        ServerStore(store, cluster=CLUSTER, node="s1", random=SeededRandom(1))
