"""What the dispatcher makes of requests, whatever front door they came through."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.core.errors import PerdureError
from perdure.core.hashing import keyed_partition_key, workflow_invocation_id
from perdure.core.ids import InvocationId, unique_part
from perdure.core.random import SeededRandom
from perdure.ingress.errors import (
    BadRequestError,
    BodyTooLargeError,
    NotCompletedError,
    NotLeaderError,
)
from perdure.ingress.requests import (
    Accepted,
    Acknowledged,
    CallReply,
    Completed,
    InvocationFailure,
    InvocationRequest,
    OperationReply,
    Rejected,
    SendReply,
)
from perdure.partition_processor.clients import (
    InvocationExpiredError,
    WorkflowAlreadyInvokedError,
)
from perdure.partition_processor.processor import InvocationNotFoundError
from perdure.testing import InProcessNode

from .front_doors import open_node

UNKNOWN = InvocationId(bytes(range(24)))


def on(scenario: Callable[[InProcessNode], Awaitable[None]], *options: str) -> None:
    """Run a scenario on a node with a worker."""

    async def run() -> None:
        async with asyncio.timeout(60), open_node(*options) as node:
            await scenario(node)

    asyncio.run(run())


class Replies:
    """Collects one reply."""

    def __init__(self) -> None:
        self.future: asyncio.Future[CallReply | SendReply | OperationReply] = (
            asyncio.get_running_loop().create_future()
        )

    def __call__(self, reply: CallReply | SendReply | OperationReply) -> None:
        self.future.set_result(reply)


async def sent(node: InProcessNode, request: InvocationRequest) -> Accepted:
    """Send and give the acceptance."""
    replies = Replies()
    node.engine.dispatcher.send(request, replies)
    reply = await replies.future
    assert isinstance(reply, Accepted), reply
    return reply


async def attached(node: InProcessNode, invocation_id: InvocationId) -> Completed:
    """Attach and give the result."""
    replies = Replies()
    node.engine.dispatcher.attach(invocation_id, replies)
    reply = await replies.future
    assert isinstance(reply, Completed), reply
    return reply


async def output_of(node: InProcessNode, invocation_id: InvocationId) -> Completed:
    """The result that is there already."""
    replies = Replies()
    node.engine.dispatcher.output(invocation_id, replies)
    reply = await replies.future
    assert isinstance(reply, Completed), reply
    return reply


async def error_of(node: InProcessNode, request: InvocationRequest) -> PerdureError:
    """The error that a call is rejected with."""
    reply = await node.submit(request)
    assert isinstance(reply, Rejected), reply
    return reply.error


def test_client_that_waits_and_one_that_attaches_get_the_same_result_once() -> None:
    async def scenario(node: InProcessNode) -> None:
        request = InvocationRequest("Greeter", "wait_for_signal", None, b"", idempotency_key="k")
        waiting = node.submit(request)
        accepted = await sent(node, request)
        assert not accepted.new
        dispatcher = node.engine.dispatcher
        early = Replies()
        dispatcher.output(accepted.invocation_id, early)
        told = await early.future
        assert isinstance(told, Rejected)
        assert isinstance(told.error, NotCompletedError)
        attaching = asyncio.ensure_future(attached(node, accepted.invocation_id))
        acknowledged = Replies()
        dispatcher.send_signal(accepted.invocation_id, "go", b'"now"', acknowledged)
        assert await acknowledged.future == Acknowledged(accepted.invocation_id)

        first, second = await waiting, await attaching
        assert isinstance(first, Completed)
        assert first.value == second.value == b'"now"'
        assert first.expires_ns == second.expires_ns == 0
        stored = await output_of(node, accepted.invocation_id)
        assert stored.value == b'"now"'
        assert stored.expires_ns > 0

    on(scenario)


def test_client_that_attached_and_went_away_is_not_counted_any_more() -> None:
    async def scenario(node: InProcessNode) -> None:
        accepted = await sent(node, InvocationRequest("Greeter", "wait_for_signal", None, b""))
        pending = node.engine.dispatcher.attach(accepted.invocation_id, Replies())
        clients = [processor.clients for processor in node.engine.manager.processors]
        assert sum(map(len, clients)) == 1
        pending.forget()
        assert sum(map(len, clients)) == 0

    on(scenario)


def test_cancelled_invocation_fails_and_an_unknown_one_is_not_found() -> None:
    async def scenario(node: InProcessNode) -> None:
        accepted = await sent(node, InvocationRequest("Greeter", "wait_for_signal", None, b""))
        cancelled, unknown = Replies(), Replies()
        node.engine.dispatcher.cancel(accepted.invocation_id, cancelled)
        node.engine.dispatcher.cancel(UNKNOWN, unknown)

        assert await cancelled.future == Acknowledged(accepted.invocation_id)
        result = await attached(node, accepted.invocation_id)
        assert result.failure is not None
        assert result.failure.code == 409
        rejected = await unknown.future
        assert isinstance(rejected, Rejected)
        assert isinstance(rejected.error, InvocationNotFoundError)
        again = Replies()
        node.engine.dispatcher.cancel(accepted.invocation_id, again)
        assert await again.future == Acknowledged(accepted.invocation_id)

    on(scenario)


def test_failure_completes_a_signal_with_code_message_and_metadata() -> None:
    async def scenario(node: InProcessNode) -> None:
        accepted = await sent(node, InvocationRequest("Greeter", "wait_for_signal", None, b""))
        failure = InvocationFailure(410, "no more", (("who", "me"),))
        node.engine.dispatcher.send_signal(accepted.invocation_id, "go", failure, Replies())
        result = await attached(node, accepted.invocation_id)
        assert result.failure is not None
        assert (result.failure.code, result.failure.message) == (410, "no more")

    on(scenario)


def test_workflow_is_known_by_its_key_only() -> None:
    async def scenario(node: InProcessNode) -> None:
        run = workflow_invocation_id("Trip", "k")
        first = await sent(node, InvocationRequest("Trip", "run", "k", b'"Rome"'))
        fixed = InvocationRequest("Trip", "run", "k", b'"Rome"', invocation_id=run)
        assert first == Accepted(run, new=True)
        assert await sent(node, fixed) == Accepted(run, new=False)
        assert isinstance(await error_of(node, fixed), WorkflowAlreadyInvokedError)
        other = InvocationId(run[:8] + bytes(16))
        with pytest.raises(BadRequestError, match="can have no other id"):
            node.submit(InvocationRequest("Trip", "run", "k", b"", invocation_id=other))

    on(scenario)


def test_id_that_was_minted_long_ago_is_refused_unless_it_is_known() -> None:
    async def scenario(node: InProcessNode) -> None:
        long_ago_ns = 1_600_000_000 * 10**9
        routing = keyed_partition_key("k").to_bytes(8, "big")
        old = InvocationId(routing + unique_part(long_ago_ns, SeededRandom(1)))
        request = InvocationRequest("Box", "awaited", "k", b"", invocation_id=old)
        assert isinstance(await error_of(node, request), InvocationExpiredError)

    on(scenario)


def test_asking_for_results_writes_nothing() -> None:
    async def scenario(node: InProcessNode) -> None:
        called = await node.call("Greeter", "greet", b'"Ann"')
        before = [status.applied_lsn for status in node.engine.manager.partitions()]
        for _ in range(3):
            assert (await attached(node, called.invocation_id)).value == called.value
            assert (await output_of(node, called.invocation_id)).value == called.value
            assert node.engine.dispatcher.lookup(called.invocation_id) == called.invocation_id
        assert [status.applied_lsn for status in node.engine.manager.partitions()] == before

    on(scenario)


def test_what_is_too_large_or_too_late_is_refused_before_anything_is_logged() -> None:
    async def scenario(node: InProcessNode) -> None:
        dispatcher = node.engine.dispatcher
        before = [status.applied_lsn for status in node.engine.manager.partitions()]
        large = b"x" * 2000
        with pytest.raises(BodyTooLargeError):
            dispatcher.send_signal(UNKNOWN, "n", large, Replies())
        with pytest.raises(BodyTooLargeError):
            dispatcher.send_signal(UNKNOWN, "n", InvocationFailure(1, "x" * 2000), Replies())
        for name in ("", "n" * 2049):
            with pytest.raises(BadRequestError, match="a signal's name"):
                dispatcher.send_signal(UNKNOWN, name, b"", Replies())
        with pytest.raises(BadRequestError, match="a call waits for its result"):
            node.submit(InvocationRequest("Greeter", "greet", None, b'"A"', delay_ns=1))
        dispatcher.closing = True
        for refused in (
            lambda: dispatcher.attach(UNKNOWN, Replies()),
            lambda: dispatcher.output(UNKNOWN, Replies()),
            lambda: dispatcher.cancel(UNKNOWN, Replies()),
        ):
            with pytest.raises(NotLeaderError):
                refused()
        after = [status.applied_lsn for status in node.engine.manager.partitions()]
        assert after == before

    on(scenario, "limits.body_bytes_max=1KiB")
