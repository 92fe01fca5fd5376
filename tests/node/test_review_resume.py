"""An operation that takes no attempt away must not make the log refuse what the attempt writes."""

import asyncio

import pytest

from perdure.core.protocol import messages
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.partition_processor import outcomes
from perdure.partition_processor.records import Resume
from perdure.testing import InProcessNode

from .raw_worker import RawWorker, hello, output
from .test_superseded import heard_on

OPTIONS = ["partitions.count=1", "log.sync_inline=always", "retry.initial_interval=1ms"]


@pytest.mark.parametrize("late", ["answer", "loss"])
@pytest.mark.parametrize("resumed", [1, 3])
def test_resuming_what_runs_takes_no_attempt_for_ever(late: str, resumed: int) -> None:
    """In one turn, somebody resumes what runs already, and its worker answers or goes."""

    async def scenario() -> None:
        async with InProcessNode(options=OPTIONS) as node:
            worker = await RawWorker.connect(node, hello())
            await heard_on(worker, messages.WELCOME)
            future = node.submit(InvocationRequest("Greeter", "greet", None, b'"Ann"'))
            (stream,) = await heard_on(worker, messages.OPEN)
            processor = node.engine.manager.processors[0]
            session = node.engine.manager.invoker.sessions[0]
            told: list[object] = []
            for _ in range(resumed):
                (attempt,) = processor.keeper.attempts.values()
                processor.operate(Resume(attempt.invocation_id), told.append)
                if late == "answer":
                    session._reply(attempt, output(b'"refused"'))
                else:
                    session._reply(attempt, messages.frame(messages.ABORT, b""))
                assert await heard_on(worker, messages.SUPERSEDED) == [stream]
                (stream,) = await heard_on(worker, messages.OPEN)
            worker.say(stream, output(b'"done"'))

            reply = await asyncio.wait_for(future, 60)
            assert isinstance(reply, Completed)
            assert reply.value == b'"done"'
            assert told == [outcomes.UNCHANGED] * resumed

    asyncio.run(scenario())
