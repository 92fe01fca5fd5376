"""Nodes whose clocks are hours apart: requests by way of any of them are taken, and count once."""

import asyncio
import json

import pytest

from perdure.core.ids import invocation_id_text
from perdure.ingress.requests import Completed, InvocationRequest, Rejected
from perdure.partition_processor.clients import InvocationExpiredError

from .cluster import MS, Cluster, Node
from .ledgers import APP, naps_held
from .test_admin_elsewhere import operated
from .test_forwarding import add, entries_of, value_of

HOURS = 2 * 3600 * 1000 * MS


@pytest.mark.parametrize("known_by", ["records", "heartbeats"])
def test_what_is_asked_by_a_clock_that_is_behind_is_not_old(known_by: str) -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key, other = cluster.keys_in(1, 2)
        far.clock.shift_ns = HOURS
        # Records have that time from now on.
        assert await value_of(far.call(add(key, "a"))[0]) == 1
        far.clock.shift_ns = 0
        if known_by == "heartbeats":
            near.processor(1).record_time_ns = 0
            near.manager.latest_elsewhere_ns = far.manager.latest_record_ns
        assert await value_of(near.call(add(key, "b"))[0]) == 2
        assert await value_of(near.call(add(key, "b", idempotency_key="k"))[0]) == 3
        assert await value_of(near.call(add(key, "b", idempotency_key="k"))[0]) == 3
        sent = await near.send(
            InvocationRequest("Ledger", "collect", other, json.dumps(1).encode())
        )
        assert await operated(near, "kill", invocation_id_text(sent.invocation_id)) == ["done"]
        assert await entries_of(near, key) == ["a", "b", "b"]

    cluster.run(scenario())


def test_a_clock_that_was_set_back_stops_nobody() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, _ = cluster.nodes
        key = cluster.keys_in(0, 1)[0]
        near.clock.shift_ns = HOURS
        assert await value_of(near.call(add(key, "a"))[0]) == 1
        near.clock.shift_ns = 0
        assert await value_of(near.call(add(key, "b"))[0]) == 2

    cluster.run(scenario())


def test_who_asks_by_a_time_that_nobody_told_it_is_refused_with_the_cause() -> None:
    """It might have been asked for hours ago, as far as the leader can tell."""
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        near.clock.shift_ns = -HOURS
        near.processor(1).record_time_ns = 0
        reply = await near.call(add(key, "a"))[0]
        assert isinstance(reply, Rejected)
        assert isinstance(reply.error, InvocationExpiredError)
        assert "clocks are minutes apart" in reply.error.message
        # Another node takes it, and nothing of the first has happened.
        assert await value_of(far.call(add(key, "a"))[0]) == 1

    cluster.run(scenario())


SECOND = 1000 * MS


async def napped_ns(cluster: Cluster, node: Node, key: str) -> int:
    """How long an invocation took that sleeps for a second."""
    began_ns = cluster.loop.now_ns
    reply = await node.call(InvocationRequest("Ledger", "nap", key, b'"free"'))[0]
    assert isinstance(reply, Completed), reply
    return cluster.loop.now_ns - began_ns


@pytest.mark.parametrize("whose", ["the node's", "the worker's"])
@pytest.mark.parametrize("shift_ns", [HOURS, -HOURS])
def test_a_clock_that_was_set_since_the_greeting_changes_no_sleep(
    whose: str, shift_ns: int
) -> None:
    cluster = Cluster()

    async def scenario() -> None:
        near, far = cluster.nodes
        clock = far.clock if whose == "the node's" else cluster.worker_clock
        clock.shift_ns = shift_ns
        await cluster.add_worker(APP)
        clock.shift_ns = 0
        key, other = cluster.keys_in(1, 2)
        assert SECOND <= await napped_ns(cluster, near, key) < 2 * SECOND
        # And while it leads, by what its timers count.
        clock.shift_ns = shift_ns
        assert SECOND <= await napped_ns(cluster, near, other) < 2 * SECOND
        clock.shift_ns = 0
        assert SECOND <= await napped_ns(cluster, near, key) < 2 * SECOND

    cluster.run(scenario())


def test_a_sleep_is_counted_by_the_partition_where_its_records_are_ahead() -> None:
    """An attempt that has seen no record of that time would be woken at once."""
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key, other = cluster.keys_in(0, 2)
        naps_held.add("held")
        try:
            napping, _ = far.call(InvocationRequest("Ledger", "nap", key, b'"held"'))
            await cluster.loop.pause(100 * MS)
            # The leader's clock, by which records get their times, is ahead; then it is set right.
            near.clock.shift_ns = cluster.log_clock.shift_ns = HOURS
            assert await value_of(near.call(add(other, "a"))[0]) == 1
            near.clock.shift_ns = cluster.log_clock.shift_ns = 0
        finally:
            naps_held.clear()
        began_ns = cluster.loop.now_ns
        await cluster.move(0, far)
        assert isinstance(await napping, Completed)
        assert SECOND <= cluster.loop.now_ns - began_ns < 3 * SECOND

    cluster.run(scenario())


@pytest.mark.parametrize("shift_ns", [HOURS, -HOURS])
def test_a_worker_whose_clock_is_set_under_a_handler_sleeps_as_long(shift_ns: int) -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, _ = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        naps_held.add("held")
        try:
            sent = await near.send(InvocationRequest("Ledger", "nap", key, b'"held"'))
            await cluster.loop.pause(100 * MS)
        finally:
            naps_held.clear()
        cluster.worker_clock.shift_ns = shift_ns
        began_ns = cluster.loop.now_ns
        near.dispatcher.send_signal(sent.invocation_id, "word", b'"w"', lambda _reply: None)
        done: asyncio.Future[object] = cluster.loop.create_future()
        near.dispatcher.attach(sent.invocation_id, done.set_result)
        assert isinstance(await done, Completed)
        assert SECOND <= cluster.loop.now_ns - began_ns < 2 * SECOND

    cluster.run(scenario())
