"""Nodes whose clocks are hours apart: requests by way of any of them are taken, and count once."""

import json

import pytest

from perdure.core.ids import invocation_id_text
from perdure.ingress.requests import InvocationRequest, Rejected
from perdure.partition_processor.clients import InvocationExpiredError

from .cluster import MS, Cluster
from .ledgers import APP
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
