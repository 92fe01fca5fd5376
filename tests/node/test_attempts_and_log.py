"""Attempts whose worker, partition or log stands still: no room is lost, nothing hangs."""

import asyncio

import pytest

from perdure.core.ids import InvocationId, LogId
from perdure.core.protocol import messages
from perdure.ingress.errors import NotLeaderError
from perdure.ingress.requests import CallReply, Completed, InvocationRequest, SendReply
from perdure.log.types import Record
from perdure.partition_processor.commands import attempt_chunk
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
GREET = InvocationRequest("Greeter", "greet", None, b'"Ann"')
UNKNOWN_KIND = 99


async def heard_on(worker: RawWorker, kind: int) -> list[int]:
    """The streams on which the next message of this kind comes; others are passed over."""
    while True:
        streams = [stream for stream, heard, _ in await worker.hear() if heard == kind]
        if streams:
            return streams


async def connected(node: InProcessNode, attempts_max: int = 10) -> RawWorker:
    worker = await RawWorker.connect(node, hello(attempts_max=attempts_max))
    await heard_on(worker, messages.WELCOME)
    return worker


def step() -> bytes:
    """A step and its proposed result: the worker waits for the node now."""
    run = wire.RunCommand(result_completion_id=1).SerializeToString()
    proposal = wire.ProposeRunCompletion(result_completion_id=1, value=b"7").SerializeToString()
    return messages.frame(messages.RUN_COMMAND, run) + messages.frame(
        messages.PROPOSE_RUN_COMPLETION, proposal
    )


def state_of_a_service() -> bytes:
    """A frame that only apply finds out to break the protocol."""
    change = wire.SetStateCommand(key=b"k", value=wire.Value(content=b"v")).SerializeToString()
    return messages.frame(messages.SET_STATE_COMMAND, change)


def ticks(node: InProcessNode, count: int = 100) -> None:
    """Let the abort timeout pass, as far as attempts are concerned."""
    node.engine.manager.invoker.ticks.now += count
    # Once to have what is silent suspended, once more to give it up.
    node.engine.manager.invoker.end_silent()
    node.engine.manager.invoker.ticks.now += count
    node.engine.manager.invoker.end_silent()


def test_a_retry_that_meets_a_record_of_the_attempt_before_it_is_decided_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempt_chunk, "VIOLATION_DELAY_NS", 1_000_000)

    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            worker = await connected(node)
            future = node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            timers = node.engine.manager.processors[0]._retries
            fire = timers._fire

            def fire_in_the_turn_of_a_late_answer(
                invocation_id: InvocationId, attempt: int
            ) -> None:
                timers._fire = fire
                session = node.engine.manager.invoker.sessions[0]
                (late,) = session.attempts.values()
                session._reply(late, output(b'"late"'))
                fire(invocation_id, attempt)

            timers._fire = fire_in_the_turn_of_a_late_answer
            worker.say(stream, state_of_a_service())
            (again,) = await heard_on(worker, messages.OPEN)
            worker.say(again, output(b'"second"'))
            reply = await asyncio.wait_for(future, 60)
            assert isinstance(reply, Completed)
            assert reply.value == b'"second"'

    asyncio.run(scenario())


def test_a_draining_worker_is_not_silent_for_ever() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            worker = await connected(node)
            future = node.submit(GREET)
            await heard_on(worker, messages.OPEN)
            worker.say(0, messages.frame(messages.DRAIN, b""))
            while node.engine.manager.invoker.sessions:
                await asyncio.sleep(0)
            other = await connected(node)
            ticks(node)
            (again,) = await heard_on(other, messages.OPEN)
            other.say(again, output(b"1"))
            assert isinstance(await asyncio.wait_for(future, 60), Completed)

    asyncio.run(scenario())


def test_a_stopped_partition_leaves_its_workers_to_the_others() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=["partitions.count=2", *OPTIONS[1:]]) as node:
            worker = await connected(node, attempts_max=2)
            stopped, other = node.engine.manager.processors
            accepted: list[SendReply] = []
            for number in (1, 2, 3):
                request = InvocationRequest("Greeter", "greet", None, b'"Ann"')
                command_id = InvocationId(bytes(8) + number.to_bytes(16, "big"))
                node.engine.dispatcher.send(
                    InvocationRequest(
                        request.service,
                        request.handler,
                        None,
                        request.body,
                        invocation_id=command_id,
                    ),
                    accepted.append,
                )
            streams: list[int] = []
            while len(streams) < 2:
                streams += await heard_on(worker, messages.OPEN)
            assert node.engine.manager.invoker.waiting_of(stopped.keeper) == 1

            # A record that no release can apply.
            assert stopped.log is not None
            stopped.log.enqueue(Record(UNKNOWN_KIND, b"", (), stopped.epoch))
            aborted: list[int] = []
            while len(aborted) < 2:
                aborted += await heard_on(worker, messages.ABORT)
            assert stopped.role == "stopped"
            assert sorted(aborted) == sorted(streams)
            for stream in aborted:
                worker.say(stream, messages.frame(messages.ABORT, b""))
            reply: list[CallReply] = []
            node.engine.dispatcher.call(
                InvocationRequest(
                    "Greeter", "greet", None, b"1", invocation_id=InvocationId(b"\xff" * 24)
                ),
                reply.append,
            )
            (stream,) = await heard_on(worker, messages.OPEN)
            session = node.engine.manager.invoker.sessions[0]
            assert [attempt.owner for attempt in session.attempts.values()] == [other.keeper]
            worker.say(stream, output(b"1"))
            while not reply:
                await asyncio.sleep(0)
            assert isinstance(reply[0], Completed)

    asyncio.run(scenario())


def test_who_waits_for_a_sealed_log_is_not_taken_for_silent() -> None:
    async def scenario() -> None:
        options = [*OPTIONS, "retry.max_attempts=1"]
        async with InProcessNode(options=options) as node:
            worker = await connected(node)
            future = node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            log = await node.engine.logs.open(LogId(0))
            await log.seal()
            worker.say(stream, step())
            processor = node.engine.manager.processors[0]
            while processor.flowing:
                await asyncio.sleep(0)
            ticks(node)
            ticks(node)
            await log.reconfigure()
            assert await heard_on(worker, messages.RUN_COMPLETION) == [stream]
            worker.say(stream, output(b'"done"'))
            reply = await asyncio.wait_for(future, 60)
            assert isinstance(reply, Completed)
            assert reply.failure is None

    asyncio.run(scenario())


def test_a_call_that_comes_while_the_log_is_being_sealed_is_refused_like_the_next_one() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            await connected(node)
            log = await node.engine.logs.open(LogId(0))
            sealing = asyncio.ensure_future(log.seal())
            while not log._lock.writer.locked:
                await asyncio.sleep(0)
            during = node.submit(GREET)
            await sealing
            reply = await asyncio.wait_for(during, 60)
            assert not isinstance(reply, Completed)
            assert "perdure logs reconfigure 0" in str(reply.error)
            with pytest.raises(NotLeaderError, match="perdure logs reconfigure 0"):
                node.submit(GREET)
            assert node.engine.manager.in_flight() == 0

    asyncio.run(scenario())


def test_clients_that_left_while_their_calls_were_held_back_take_no_place() -> None:
    async def scenario() -> None:
        options = [*OPTIONS, "limits.in_flight_max_per_partition=3"]
        async with InProcessNode(options=options) as node:
            worker = await connected(node)
            log = await node.engine.logs.open(LogId(0))
            replies: list[CallReply] = []
            async with log._exclusive():
                calls = [node.engine.dispatcher.call(GREET, replies.append) for _ in range(3)]
                for call in calls:
                    call.forget()
            opened: list[int] = []
            while len(opened) < 3:
                opened += await heard_on(worker, messages.OPEN)
            assert node.engine.manager.in_flight() == 0
            assert replies == []

    asyncio.run(scenario())
