"""Nodes whose clocks are hours apart: what they take, and what they refuse."""

from perdure.ingress.requests import Rejected
from perdure.partition_processor.clients import InvocationExpiredError

from .cluster import MS, Cluster
from .ledgers import APP
from .test_forwarding import add, value_of


def test_who_asks_by_a_clock_that_is_hours_behind_is_refused_with_the_cause() -> None:
    """It might have been asked for hours ago, as far as the leader can tell."""
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        near.clock.shift_ns = -2 * 3600 * 1000 * MS
        reply = await near.call(add(key, "a"))[0]
        assert isinstance(reply, Rejected)
        assert isinstance(reply.error, InvocationExpiredError)
        assert "clocks are minutes apart" in reply.error.message
        # Another node takes it, and nothing of the first has happened.
        assert await value_of(far.call(add(key, "a"))[0]) == 1
        near.clock.shift_ns = 0
        assert await value_of(near.call(add(key, "b"))[0]) == 2

    cluster.run(scenario())
