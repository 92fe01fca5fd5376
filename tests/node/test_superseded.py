"""Which attempt is current is decided by the log: what an older one writes is refused there."""

import asyncio

import pytest

from perdure.core.ids import LogId
from perdure.core.protocol import messages
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.log import Record
from perdure.partition_processor.records import (
    ANNOUNCE_LEADER,
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    INVOKE,
    attempt_key,
)
from perdure.proto.generated import service_protocol_pb2 as wire
from perdure.testing import InProcessNode

from .raw_worker import RawWorker, hello, output

OPTIONS = [
    "partitions.count=1",
    "log.sync_inline=always",
    "retry.inactivity_timeout=20ms",
    "retry.abort_timeout=100ms",
    "retry.initial_interval=1ms",
]


async def records_of(node: InProcessNode) -> list[Record]:
    log = await node.engine.logs.open(LogId(0))
    return [record for item in await log.read(1) for record in item.batch.records]


async def heard_on(worker: RawWorker, kind: int) -> list[int]:
    """The streams on which the next message of this kind comes; others are passed over."""
    while True:
        streams = [stream for stream, heard, _ in await worker.hear() if heard == kind]
        if streams:
            return streams


def step(value: bytes) -> bytes:
    run = wire.RunCommand(result_completion_id=1).SerializeToString()
    proposal = wire.ProposeRunCompletion(result_completion_id=1, value=value).SerializeToString()
    return messages.frame(messages.RUN_COMMAND, run) + messages.frame(
        messages.PROPOSE_RUN_COMPLETION, proposal
    )


@pytest.mark.parametrize("late", [output(b'"late"'), step(b"7")], ids=["answer", "step"])
def test_a_frozen_attempt_that_wakes_is_refused_by_the_log(late: bytes) -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            frozen = await RawWorker.connect(node, hello())
            await heard_on(frozen, messages.WELCOME)
            future = node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"'))
            (stream,) = await heard_on(frozen, messages.OPEN)
            other = await RawWorker.connect(node, hello())
            await heard_on(other, messages.WELCOME)
            # The frozen worker is the fuller one, so the retry goes to the other.
            (again,) = await heard_on(other, messages.OPEN)
            other.say(again, output(b'"from the second"'))
            reply = await future
            assert isinstance(reply, Completed)
            assert reply.value == b'"from the second"'
            before = await records_of(node)

            frozen.say(stream, late)
            assert await heard_on(frozen, messages.SUPERSEDED) == [stream]

            assert await records_of(node) == before
            processor = node.engine.manager.processors[0]
            assert processor.keeper.superseded == 1
            assert [record.kind for record in before] == [
                ANNOUNCE_LEADER,
                INVOKE,
                ATTEMPT_FAILED,
                ATTEMPT_STARTED,
                ATTEMPT_CHUNK,
            ]
            # Whatever an attempt writes rests on the attempt key.
            (key,) = before[2].keys or ()
            assert key == attempt_key(reply.invocation_id)
            assert [record.conditions for record in before] == [
                (),
                (),
                ((key, 2),),
                ((key, 3),),
                ((key, 4),),
            ]
            assert processor.status().invocations["completed"] == 1

    asyncio.run(scenario())


def test_the_refusal_waits_until_its_cause_is_durable() -> None:
    async def scenario() -> None:
        log = MemoryStore()
        stores = {"log": log, "store": MemoryStore(), "metadata": MemoryStore()}
        async with InProcessNode(options=OPTIONS, stores=dict(stores)) as node:
            worker = await RawWorker.connect(node, hello())
            await heard_on(worker, messages.WELCOME)
            node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"'))
            (stream,) = await heard_on(worker, messages.OPEN)
            processor = node.engine.manager.processors[0]
            (attempt,) = processor.keeper.attempts.values()
            # In one turn: the attempt is given up, and its worker answers. Only the first counts,
            # and the worker must not hear of it before that is on the disk.
            node.engine.manager.invoker.ticks.now += 100
            node.engine.manager.invoker.end_silent()
            node.engine.manager.invoker.ticks.now += 100
            node.engine.manager.invoker.end_silent()
            session = node.engine.manager.invoker.sessions[0]
            session._reply(attempt, output(b'"late"'))
            assert processor.keeper.superseded == 0
            assert log.unsynced_writes == 0

            assert await heard_on(worker, messages.SUPERSEDED) == [stream]
            kinds = [record.kind for record in await records_of(node)]
            assert kinds[:3] == [ANNOUNCE_LEADER, INVOKE, ATTEMPT_FAILED]
            assert ATTEMPT_CHUNK not in kinds

    asyncio.run(scenario())


def test_a_worker_that_confirms_the_abort_is_free_again() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            worker = await RawWorker.connect(node, hello(attempts_max=1))
            await heard_on(worker, messages.WELCOME)
            future = node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"'))
            (stream,) = await heard_on(worker, messages.OPEN)
            assert await heard_on(worker, messages.ABORT) == [stream]
            session = node.engine.manager.invoker.sessions[0]
            # It may still be at it, so it counts as busy.
            assert not session.has_room()

            worker.say(stream, messages.frame(messages.ABORT, b""))
            (again,) = await heard_on(worker, messages.OPEN)
            worker.say(again, output(b"1"))
            assert isinstance(await future, Completed)
            assert node.engine.manager.processors[0].keeper.superseded == 0

    asyncio.run(scenario())
