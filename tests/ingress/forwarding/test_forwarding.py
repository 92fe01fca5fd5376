"""Requests reach the leader from any node, and count once when it moves under them."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from perdure.core.ids import InvocationId, partition_key_of
from perdure.ingress.errors import (
    NotCompletedError,
    NotLeaderError,
    OverloadedError,
)
from perdure.ingress.requests import (
    Accepted,
    Acknowledged,
    Completed,
    InvocationRequest,
    OperationReply,
    Rejected,
    WorkflowRun,
)
from perdure.partition_processor import outcomes
from perdure.partition_processor.clients import WorkflowAlreadyInvokedError
from perdure.partition_processor.processor import InvocationNotFoundError
from perdure.partition_processor.records import Invoke, Kill, Pause, Resume, Signal

from .cluster import MS, Cluster, Node
from .ledgers import APP


def add(key: str, entry: str, **more: Any) -> InvocationRequest:
    """A call that has a ledger note an entry."""
    return InvocationRequest("Ledger", "add", key, json.dumps(entry).encode(), **more)


async def value_of(call: "asyncio.Future[Any]") -> Any:
    """What a call has come to."""
    reply = await call
    assert isinstance(reply, Completed), reply
    assert reply.failure is None, reply.failure
    return json.loads(reply.value)


async def entries_of(node: Node, key: str) -> list[str]:
    """What a ledger has noted."""
    call, _ = node.call(InvocationRequest("Ledger", "entries", key, b""))
    found: list[str] = await value_of(call)
    return found


async def asked(node: Node, method: str, *arguments: Any) -> Any:
    """The reply to something that the dispatcher is asked."""
    future = node.cluster.loop.create_future()
    getattr(node.dispatcher, method)(*arguments, future.set_result)
    return await future


async def operated(node: Node, invocation_id: InvocationId, operation: Any) -> Any:
    """The outcome of an operation, as admin asks for it."""
    future = node.cluster.loop.create_future()
    partition = node.manager.partition_for(partition_key_of(invocation_id))
    partition.operate(operation, future.set_result)
    return await future


def test_calls_of_any_node_reach_the_leader_and_come_back() -> None:
    cluster = Cluster(nodes=3, partitions=6)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        calls = []
        for number in range(60):
            node = cluster.nodes[number % 3]
            calls.append(node.call(add(f"k{number % 10}", f"e{number}"))[0])
        counts = [await value_of(call) for call in calls]
        assert Counter(counts) == dict.fromkeys(range(1, 7), 10)
        for key in range(10):
            found = await entries_of(cluster.nodes[key % 3], f"k{key}")
            # In the order in which one client asked at one node, each node's being in order.
            for node in range(3):
                asked_here = [e for e in found if int(e[1:]) % 3 == node]
                assert asked_here == sorted(asked_here, key=lambda e: int(e[1:]))
            assert len(found) == 6
        assert all(len(node.forwarding) == 0 for node in cluster.nodes)

    cluster.run(scenario())


def test_requests_of_one_turn_travel_in_one_message_and_their_answers_too() -> None:
    cluster = Cluster(delay_ns=(0, 0))

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        await value_of(near.call(add(key, "first"))[0])
        link = near.forwarding.link_to(far.name)
        assert link is not None
        sent, received = [0], [0]
        send, receive = link._peer.send, link.received

        def count_sent(message: bytes) -> bool:
            sent[0] += 1
            return send(message)

        def count_received(message: bytes) -> None:
            received[0] += 1
            receive(message)

        link._peer.send = count_sent  # type: ignore[method-assign]
        link.received = count_received  # type: ignore[method-assign]
        sends = [near.send(add(key, f"e{number}")) for number in range(100)]
        for send_reply in sends:
            assert isinstance(await send_reply, Accepted)
        assert (sent[0], received[0]) == (1, 1)

    cluster.run(scenario())


def test_every_kind_of_request_works_at_a_node_that_does_not_lead() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, _ = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        request = InvocationRequest("Ledger", "collect", key, b"2", idempotency_key="i")
        first = await near.send(request)
        again = await near.send(request)
        assert isinstance(first, Accepted)
        assert isinstance(again, Accepted)
        assert (first.new, again.new) == (True, False)
        collecting = first.invocation_id
        early = await asked(near, "output", collecting)
        assert isinstance(early, Rejected)
        assert isinstance(early.error, NotCompletedError)
        attached: asyncio.Future[Any] = cluster.loop.create_future()
        near.dispatcher.attach(collecting, attached.set_result)
        for word in ("one", "two"):
            reply = await asked(near, "send_signal", collecting, "word", json.dumps(word).encode())
            assert reply == Acknowledged(collecting)
        assert await value_of(attached) == ["one", "two"]
        stored = await asked(near, "output", collecting)
        assert json.loads(stored.value) == ["one", "two"]
        assert stored.expires_ns > 0
        assert stored.content_type == "application/json"

        waiting = await near.send(InvocationRequest("Ledger", "collect", key, b"1"))
        assert await asked(near, "cancel", waiting.invocation_id) == Acknowledged(
            waiting.invocation_id
        )
        unknown = InvocationId(collecting[:8] + bytes(16))
        for method in ("attach", "output", "cancel"):
            refused = await asked(near, method, unknown)
            assert isinstance(refused, Rejected)
            assert isinstance(refused.error, InvocationNotFoundError)
        third = await near.send(InvocationRequest("Ledger", "collect", key, b"1"))
        assert isinstance(third, Accepted)
        assert await operated(near, third.invocation_id, Pause(third.invocation_id)) in (
            outcomes.DONE,
            outcomes.UNCHANGED,
        )
        assert isinstance(
            await operated(near, third.invocation_id, Resume(third.invocation_id)), str
        )
        assert await operated(near, third.invocation_id, Kill(third.invocation_id)) == outcomes.DONE
        killed = await asked(near, "attach", third.invocation_id)
        assert killed.failure.code == 409

    cluster.run(scenario())


def test_a_workflow_run_that_was_sent_again_is_no_second_run() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        request = InvocationRequest("Trip", "run", key, b'"away"')
        call, _ = near.call(request)
        # The connection is lost when the run is known to the leader and not to the first node.
        while not far.processor(1).active:
            await cluster.loop.pause(MS // 10)
        cluster.network.cut(near.name)

        assert await value_of(call) == "away"
        second = await near.call(request)[0]
        assert isinstance(second, Rejected)
        assert isinstance(second.error, WorkflowAlreadyInvokedError)
        attached = await asked(near, "attach", WorkflowRun("Trip", key))
        assert json.loads(attached.value) == "away"

    cluster.run(scenario())


def test_a_request_waits_for_a_leader_and_goes_on_when_there_is_one() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        far.give_up(1)
        cluster.tell_all(1, None)
        call, _ = near.call(add(key, "a"))
        await cluster.loop.pause(3_000 * MS)
        assert len(near.forwarding) == 1
        await near.lead(1)
        assert await value_of(call) == 1
        call, _ = far.call(add(key, "b"))
        cluster.tell_all(1, near.name)
        assert await value_of(call) == 2

    cluster.run(scenario())


def test_without_a_leader_a_request_is_refused_in_time_and_a_client_may_leave_before() -> None:
    cluster = Cluster(limits={"waiting_max": 3})

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        far.give_up(1)
        cluster.tell_all(1, None)
        start_ns = cluster.loop.now_ns
        calls = [near.call(add(key, str(number))) for number in range(3)]
        with pytest.raises(OverloadedError, match="waiting_max"):
            near.call(add(key, "too many"))
        calls[0][1].forget()
        assert len(near.forwarding) == near.forwarding.waiting == 2
        for call, _ in calls[1:]:
            reply = await call
            assert isinstance(reply, Rejected)
            assert isinstance(reply.error, NotLeaderError)
            assert reply.error.retryable
        assert 15_000 * MS <= cluster.loop.now_ns - start_ns <= 17_000 * MS
        assert not calls[0][0].done()
        assert len(near.forwarding) == near.forwarding.waiting == 0

    cluster.run(scenario())


def test_what_may_be_under_way_to_a_node_is_bounded() -> None:
    cluster = Cluster(limits={"in_flight_max_per_peer": 5})

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, _ = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        await value_of(near.call(add(key, "connects"))[0])
        pending = [near.call(InvocationRequest("Ledger", "collect", key, b"1")) for _ in range(5)]
        with pytest.raises(OverloadedError, match="in_flight_max_per_peer"):
            near.call(add(key, "one more"))
        pending[0][1].forget()
        call, _ = near.call(add(key, "fits"))
        assert not call.done()
        for _, item in pending[1:]:
            item.forget()

    cluster.run(scenario())


def test_the_leader_s_own_limits_hold_for_what_is_forwarded() -> None:
    cluster = Cluster(limits={"active_max_per_partition": 2})

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, _ = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        for _ in range(2):
            await near.send(InvocationRequest("Ledger", "collect", key, b"1"))
        reply = await near.call(add(key, "one more"))[0]
        assert isinstance(reply, Rejected)
        assert isinstance(reply.error, OverloadedError)
        assert "active_max_per_partition" in reply.error.message

    cluster.run(scenario())


def test_a_client_that_leaves_is_forgotten_by_the_leader_too() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        call, pending = near.call(InvocationRequest("Ledger", "collect", key, b"1"))
        while not len(far.processor(1).clients):
            await cluster.loop.pause(MS)
        pending.forget()
        await cluster.loop.pause(100 * MS)
        assert len(far.processor(1).clients) == 0
        assert len(near.forwarding) == 0
        assert not call.done()
        cluster.network.cut(near.name)

    cluster.run(scenario())


def test_a_node_that_does_not_lead_passes_nothing_on_but_says_who_does() -> None:
    cluster = Cluster(nodes=3)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        first, second, third = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        await second_to_third(cluster)
        # The first node still believes in the second one, which knows better.
        first.table.set(1, second.name)
        asked_second = second.forwarding.next_number()
        assert await value_of(first.call(add(key, "a"))[0]) == 1
        assert second.forwarding.next_number() == asked_second + 1
        assert len(third.processor(1).clients) == 0

    async def second_to_third(cluster: Cluster) -> None:
        _, second, third = cluster.nodes
        second.give_up(1)
        await third.lead(1)
        cluster.tell_all(1, third.name)

    cluster.run(scenario())


def test_a_named_signal_comes_once_although_the_connection_is_lost_under_it() -> None:
    cluster = Cluster(delay_ns=(5 * MS, 5 * MS))

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        call, _ = near.call(InvocationRequest("Ledger", "collect", key, b"3"))
        processor = far.processor(1)
        while not processor.active:
            await cluster.loop.pause(MS)
        (collecting,) = processor.transaction.active(processor.own.first, processor.own.last)
        replies: list[OperationReply] = []
        for word in ("one", "two", "three"):
            before = processor._machine.context.lsn
            near.dispatcher.send_signal(
                collecting[0], "word", json.dumps(word).encode(), replies.append
            )
            while processor._machine.context.lsn == before:
                await cluster.loop.pause(MS // 10)
            cluster.network.cut(near.name)
            while len(replies) == 0:
                await cluster.loop.pause(MS)
            assert replies.pop() == Acknowledged(collecting[0])
        assert await value_of(call) == ["one", "two", "three"]

    cluster.run(scenario())


def test_a_call_whose_result_is_kept_too_shortly_is_not_sent_again_after_a_loss() -> None:
    cluster = Cluster(delay_ns=(5 * MS, 5 * MS))

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        for handler, again in (("briefly", False), ("add", True)):
            request = InvocationRequest("Ledger", handler, key, b'"e"', idempotency_key="i")
            call, _ = near.call(request)
            before = far.processor(1)._machine.context.lsn
            while far.processor(1)._machine.context.lsn == before:
                await cluster.loop.pause(MS // 10)
            cluster.network.cut(near.name)
            reply = await call
            if again:
                assert isinstance(reply, Completed)
            else:
                assert isinstance(reply, Rejected)
                assert isinstance(reply.error, NotLeaderError)
        assert sorted(await entries_of(near, key)) == ["e", "e"]

    cluster.run(scenario())


def test_a_copy_of_a_request_that_comes_late_is_refused_by_the_log() -> None:
    cluster = Cluster(nodes=1, partitions=1)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        (node,) = cluster.nodes
        commands: list[Invoke] = []
        processor = node.processor(0)
        invoke = processor.invoke

        def noting(command: Invoke, *arguments: Any, **more: Any) -> None:
            commands.append(command)
            invoke(command, *arguments, **more)

        processor.invoke = noting  # type: ignore[method-assign]
        for more in ({}, {"idempotency_key": "i"}):
            await node.send(add("k", "e", **more))
        await node.send(InvocationRequest("Ledger", "briefly", "k", b'"e"', idempotency_key="j"))
        now_ns = node.forwarding.clock.time_ns()
        for command in commands[:2]:
            assert 0 < command.expires_ns - now_ns <= 300 * 10**9
            assert 2 * (command.expires_ns - now_ns) <= command.completion_retention_ns
        assert commands[2].expires_ns == 0
        assert len({command.request_id for command in commands}) == 3
        assert all(len(command.request_id or b"") == 8 for command in commands)

    cluster.run(scenario())


def test_operations_that_nobody_waits_for_are_sent_again_as_well() -> None:
    cluster = Cluster(delay_ns=(5 * MS, 5 * MS))

    def nobody(_outcome: object) -> None:
        return None

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        call, _ = near.call(InvocationRequest("Ledger", "collect", key, b"2"))
        processor = far.processor(1)
        while not processor.active:
            await cluster.loop.pause(MS)
        (collecting,) = processor.transaction.active(processor.own.first, processor.own.last)
        place = near.forwarding.partition(1)
        for word in ("one", "two"):
            value = json.dumps(word).encode()
            place.operate(Signal(collecting[0], 0, "word", value, None), nobody)
        await cluster.loop.pause(MS)
        cluster.network.cut(near.name)
        assert await value_of(call) == ["one", "two"]
        while len(near.forwarding):
            await cluster.loop.pause(MS)

    cluster.run(scenario())


def test_what_is_under_way_to_a_node_that_hangs_goes_to_the_next_leader() -> None:
    cluster = Cluster(nodes=3)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        first, second, third = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        assert await value_of(first.call(add(key, "a"))[0]) == 1
        cluster.network.freeze(second.name)
        call, _ = first.call(add(key, "b"))
        await cluster.loop.pause(100 * MS)
        assert not call.done()
        second.leads.discard(1)
        await third.lead(1)
        cluster.tell_all(1, third.name)
        # The node before still hangs, with the connection open.
        assert await value_of(call) == 2
        cluster.network.thaw(second.name)
        await cluster.loop.pause(1_000 * MS)
        assert await entries_of(second, key) == ["a", "b"]

    cluster.run(scenario())


def test_bodies_that_are_kept_for_another_try_are_bounded() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, _ = cluster.nodes
        near.forwarding.held_bytes_max = 1000
        key, here = cluster.keys_in(1, 1)[0], cluster.keys_in(0, 1)[0]
        long = "x" * 600
        calls = [near.call(add(key, long))[0]]
        with pytest.raises(OverloadedError, match="hold"):
            near.call(add(here, long))
        assert await value_of(calls[0]) == 1
        assert await value_of(near.call(add(here, long))[0]) == 1
        assert near.forwarding.held_bytes == 0

    cluster.run(scenario())
