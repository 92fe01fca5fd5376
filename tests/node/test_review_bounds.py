"""What grows while nobody works, and what is nearly too long."""

import asyncio

import pytest

from perdure.core.protocol import messages
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.partition_processor import attempt_keeper, outcomes
from perdure.partition_processor.invoker import invoker as invoker_module
from perdure.partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    Deliver,
    Invoke,
    Kill,
    encode_command,
)
from perdure.partition_processor.tables.invocations import Sink
from perdure.testing import InProcessNode

from .raw_worker import RawWorker, hello, output
from .test_superseded import heard_on

OPTIONS = ["partitions.count=1", "log.sync_inline=always"]
GREET = InvocationRequest("Greeter", "greet", None, b'"Ann"')


async def registered(node: InProcessNode) -> None:
    """Make the service known, without a worker that could take anything."""
    worker = await RawWorker.connect(node, hello())
    await heard_on(worker, messages.WELCOME)
    await worker.connection.close()
    while node.engine.manager.invoker.sessions:
        await asyncio.sleep(0)


def test_what_was_killed_while_no_worker_was_there_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invoker_module, "SWEPT_MIN", 4)

    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            await registered(node)
            processor = node.engine.manager.processors[0]
            invoker = node.engine.manager.invoker
            stays = node.submit(GREET)
            for number in range(50):
                request = InvocationRequest(
                    "Greeter", "greet", None, b"1", idempotency_key=str(number)
                )
                future = node.submit(request)
                while invoker.waiting_count() < 2:
                    await asyncio.sleep(0)
                invocation_id = list(processor.keeper.attempts)[-1]
                told: list[object] = []
                processor.operate(Kill(invocation_id), told.append)
                reply = await future
                assert isinstance(reply, Completed)
                assert told == [outcomes.DONE]
            assert sum(map(len, invoker._waiting.values())) <= 6

            worker = await RawWorker.connect(node, hello())
            (stream,) = await heard_on(worker, messages.OPEN)
            worker.say(stream, output(b'"done"'))
            reply = await asyncio.wait_for(stays, 60)
            assert isinstance(reply, Completed)
            assert reply.value == b'"done"'

    asyncio.run(scenario())


def test_frames_that_would_not_fit_into_another_partitions_record_fail_the_invocation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempt_keeper, "CHUNK_BYTES_MAX", 1_000)

    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            worker = await RawWorker.connect(node, hello())
            await heard_on(worker, messages.WELCOME)
            future = node.submit(GREET)
            (stream,) = await heard_on(worker, messages.OPEN)
            worker.say(stream, output(bytes(1_001)))
            reply = await asyncio.wait_for(future, 60)
            assert isinstance(reply, Completed)
            assert reply.failure is not None
            assert reply.failure.code == 413

    asyncio.run(scenario())


def test_what_a_longest_chunk_asks_of_another_partition_fits_into_a_record() -> None:
    ident = bytes(24)
    body = encode_command(
        Invoke(
            ident,  # type: ignore[arg-type]
            "S" * 255,
            "h" * 255,
            "k" * 2048,
            KIND_OBJECT_EXCLUSIVE,
            b"",
            "i" * 2048,
            1 << 62,
            1 << 62,
            1 << 62,
            Sink(ident, 1 << 20, 1 << 15, 1 << 62),  # type: ignore[arg-type]
            ident,  # type: ignore[arg-type]
            tuple(bytes(16) for _ in range(64)),
            1 << 62,
            "t" * 512,
        )
    )
    around = len(encode_command(Deliver(1 << 15, 1 << 62, ((1, body),))))
    assert attempt_keeper.CHUNK_BYTES_MAX + around < attempt_keeper.RECORD_BYTES_MAX
