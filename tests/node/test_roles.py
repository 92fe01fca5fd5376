"""A partition that stops leading and leads again while its node runs."""

import asyncio
from collections.abc import Callable

import pytest

from perdure.admin.api.invocation_scan import confirm_leads, find
from perdure.core.errors import TransportError
from perdure.core.ids import InvocationId, LogId, PartitionId
from perdure.core.protocol import messages
from perdure.ingress.errors import NotLeaderError
from perdure.ingress.requests import Completed, InvocationRequest, Rejected
from perdure.log import Record
from perdure.log.types import Batch, LogBatch, LogTail
from perdure.log.virtual_log import VirtualLog
from perdure.partition_processor import following
from perdure.partition_processor.effects import Answer
from perdure.partition_processor.errors import InvocationNotFoundError, NotLeadingError
from perdure.partition_processor.leadership import claim_leadership
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.records import (
    ANNOUNCE_LEADER,
    ATTEMPT_CHUNK,
    AnnounceLeader,
    encode_command,
)
from perdure.testing import InProcessNode

from .raw_worker import RawWorker, hello, output

OPTIONS = ["partitions.count=1", "log.sync_inline=always", "log.trim_interval=1h"]
UNKNOWN = InvocationId(bytes(24))
GREET = InvocationRequest("Greeter", "greet", None, b'"Ann"', idempotency_key="one")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def heard_on(worker: RawWorker, kind: int) -> list[int]:
    while True:
        streams = [stream for stream, heard, _ in await worker.hear() if heard == kind]
        if streams:
            return streams


async def connected(node: InProcessNode) -> RawWorker:
    worker = await RawWorker.connect(node, hello())
    await heard_on(worker, messages.WELCOME)
    return worker


async def kinds_of(node: InProcessNode) -> list[int]:
    log = await node.engine.logs.open(LogId(0))
    kinds: list[int] = []
    while batches := await log.read(len(kinds) + 1):
        kinds += [record.kind for item in batches for record in item.batch.records]
    return kinds


def first(node: InProcessNode) -> PartitionProcessor:
    return node.engine.manager.processors[0]


def test_who_hands_over_answers_everybody_at_once_and_leads_again_without_a_loss() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            manager = node.engine.manager
            worker = await connected(node)
            future = node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            epoch = first(node).epoch

            manager.apply_placement({0: "leader"})
            assert first(node).leading
            assert first(node).epoch == epoch

            manager.apply_placement({0: "follower"})
            # In this very turn.
            assert first(node).role == "follower"
            assert future.done()
            reply = future.result()
            assert isinstance(reply, Rejected)
            assert reply.error.retryable
            assert not first(node).keeper.attempts
            assert await heard_on(worker, messages.ABORT) == [stream]
            with pytest.raises(NotLeaderError):
                node.submit(GREET)
            # Nor is anything read here.
            invocation_id = reply.invocation_id
            with pytest.raises(NotLeadingError):
                find(manager, invocation_id)
            with pytest.raises(NotLeadingError):
                await first(node).confirm_lead()
            assert await confirm_leads(manager, [0]) == []
            before = await kinds_of(node)

            manager.apply_placement({0: "leader"})
            await until(lambda: first(node).leading)
            assert first(node).epoch == epoch + 1
            (again,) = await heard_on(worker, messages.OPEN)
            again_future = node.submit(GREET)
            # The worker of the reign before has not understood: the log refuses it.
            worker.say(stream, output(b'"late"'))
            assert await heard_on(worker, messages.SUPERSEDED) == [stream]
            worker.say(again, output(b'"second"'))
            reply = await asyncio.wait_for(again_future, 60)
            assert isinstance(reply, Completed)
            assert reply.value == b'"second"'
            after = await kinds_of(node)
            assert after[: len(before)] == before
            assert after.count(ATTEMPT_CHUNK) == 1
            assert not node.failures

    asyncio.run(scenario())


def test_late_frames_of_a_reign_before_are_refused_though_nothing_was_announced_in_between() -> (
    None
):
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            manager = node.engine.manager
            worker = await connected(node)
            node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            (attempt,) = first(node).keeper.attempts.values()
            manager.apply_placement({0: "follower"})
            manager.apply_placement({0: "leader"})
            await until(lambda: first(node).leading)
            session = manager.invoker.sessions[0]
            session._reply(attempt, output(b'"late"'))
            await heard_on(worker, messages.SUPERSEDED)
            assert ATTEMPT_CHUNK not in await kinds_of(node)
            assert first(node).keeper.superseded == 1
            assert stream == attempt.stream

    asyncio.run(scenario())


def test_the_last_of_many_placements_wins() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            manager = node.engine.manager
            worker = await connected(node)
            for turn in range(60):
                role = ("follower", "leader", "absent", "leader")[turn % 4]
                manager.apply_placement({0: role})  # type: ignore[dict-item]
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
            manager.apply_placement({0: "absent"})
            await until(lambda: first(node).role == "absent")
            assert first(node).log is None
            manager.apply_placement({0: "follower"})
            manager.apply_placement({0: "leader"})
            await until(lambda: first(node).leading)
            future = node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            worker.say(stream, output(b"1"))
            assert isinstance(await asyncio.wait_for(future, 60), Completed)
            assert not node.failures
            # Nobody waits for anything any more.
            assert not [
                seat for seat in manager._roles._seats if seat.supervisor is not None or seat.step
            ]

    asyncio.run(scenario())


def test_a_leader_that_was_outclaimed_does_not_open_its_log_again() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            await connected(node)
            processor = first(node)
            log = processor.log
            assert log is not None
            # Another node is about to lead: it has claimed, and sealed, and is slow from there on.
            claim = await claim_leadership(node.engine._metadata, PartitionId(0), "other")
            epoch = claim.epoch
            await log._loglet(log.chain.tail).seal()
            chain = log.chain
            reply = await asyncio.wait_for(node.submit(GREET), 60)
            assert isinstance(reply, Rejected)
            assert reply.error.retryable
            await until(lambda: processor.role == "follower")
            assert log.chain == chain
            other = VirtualLog(log.log, chain, node.engine.logs._resources)
            await other.lead(epoch)
            announced = AnnounceLeader("other", epoch)
            other.enqueue(Record(ANNOUNCE_LEADER, encode_command(announced), None, epoch, None, 1))
            await until(lambda: processor.status().leader_epoch == epoch)
            assert processor.role == "follower"
            status = processor.status()
            assert (status.lag, status.applied_lsn) == (0, status.tail_lsn - 1)

    asyncio.run(scenario())


def test_an_announcement_of_a_higher_epoch_deposes_before_anything_behind_it_is_told() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            await connected(node)
            processor = first(node)
            future = node.submit(GREET)
            await until(lambda: processor.status().invocations["running"] == 1)
            lsn, epoch = processor.next_lsn, processor.epoch + 1
            record = Record(
                ANNOUNCE_LEADER, encode_command(AnnounceLeader("x", epoch)), None, epoch, None, 1
            )
            processor.committed(LogBatch(lsn, Batch(1, 1 << 62, epoch, [record])))
            node.engine.manager.finish_turn()
            assert processor.role == "follower"
            reply = future.result()
            assert isinstance(reply, Rejected)
            assert reply.error.retryable

    asyncio.run(scenario())


def test_what_is_read_leaves_the_node_only_once_nobody_else_can_lead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            worker = await connected(node)
            future = node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            worker.say(stream, output(b"1"))
            done = await asyncio.wait_for(future, 60)
            assert isinstance(done, Completed)
            tails: list[asyncio.Future[LogTail]] = []

            def find_tail(_log: VirtualLog) -> asyncio.Future[LogTail]:
                tails.append(asyncio.get_running_loop().create_future())
                return tails[-1]

            monkeypatch.setattr(VirtualLog, "shared", True)
            monkeypatch.setattr(VirtualLog, "find_tail", find_tail)
            replies: list[object] = []

            async def ask() -> None:
                first(node).output(done.invocation_id, replies.append)
                first(node).attach(done.invocation_id, replies.append)
                first(node).output(UNKNOWN, replies.append)
                await until(lambda: bool(tails))
                for _ in range(10):
                    await asyncio.sleep(0)
                assert replies == []

            await ask()
            tails.pop().set_result(LogTail(1, False))
            await until(lambda: len(replies) == 3)
            assert [type(reply) for reply in replies] == [Answer, Answer, InvocationNotFoundError]
            replies.clear()
            await ask()
            tails.pop().set_exception(TransportError("no log-server answers"))
            await until(lambda: len(replies) == 3)
            assert [type(reply) for reply in replies] == [NotLeadingError] * 3
            replies.clear()
            await ask()
            node.engine.manager.apply_placement({0: "follower"})
            tails.pop().set_result(LogTail(1, False))
            await until(lambda: len(replies) == 3)
            assert [type(reply) for reply in replies] == [NotLeadingError] * 3
            monkeypatch.undo()

    asyncio.run(scenario())


def test_a_follower_whose_log_cannot_be_read_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[int] = []

    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            manager = node.engine.manager
            worker = await connected(node)
            future = node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            worker.say(stream, output(b"1"))
            await asyncio.wait_for(future, 60)
            status = first(node).status()
            store = node.stores["store"]
            manager.apply_placement({0: "absent"})
            await until(lambda: first(node).role == "absent")
            store.delete_range(b"", b"\xff")
            manager.read_anew(0)
            read = VirtualLog.read

            async def failing(
                log: VirtualLog, lsn: int, bytes_max: int = 1 << 20
            ) -> list[LogBatch]:
                if len(failures) < 3:
                    failures.append(lsn)
                    raise TransportError("no log-server answers")
                return await read(log, lsn, bytes_max)

            monkeypatch.setattr(VirtualLog, "read", failing)
            manager.apply_placement({0: "follower"})
            await until(lambda: first(node).status().lag > 0)
            await until(lambda: len(failures) == 3)
            await until(lambda: first(node).status().applied_lsn == status.applied_lsn)
            assert first(node).status().lag == 0
            assert first(node).status().error == ""
            # As a replica it has the same, and has done nothing.
            assert first(node).detail().running == 0

    asyncio.run(scenario())
    assert failures == [1, 1, 1]


def test_a_follower_that_nobody_wakes_looks_at_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "WAKE_SECONDS", 0.001)

    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            manager = node.engine.manager
            manager.apply_placement({0: "follower"})
            log = await node.engine.logs.open(LogId(0))
            sealed, chain = log.chain.tail, log.chain
            loglet = log._loglet(sealed)
            never = asyncio.get_running_loop().create_future()
            monkeypatch.setattr(type(loglet), "wait_for_tail", lambda *_: asyncio.shield(never))
            other = VirtualLog(log.log, chain, node.engine.logs._resources)
            claim = await claim_leadership(node.engine._metadata, PartitionId(0), "other")
            epoch = claim.epoch
            await other.lead(epoch)
            await until(lambda: log.chain == other.chain)
            announced = AnnounceLeader("other", epoch)
            other.enqueue(Record(ANNOUNCE_LEADER, encode_command(announced), None, epoch, None, 1))
            await until(lambda: first(node).status().leader_epoch == epoch)
            never.cancel()

    asyncio.run(scenario())
