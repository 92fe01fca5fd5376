"""Hints about who leads: they help, and a wrong one holds nobody up."""

from .cluster import MS, Cluster
from .ledgers import APP
from .test_forwarding import add, value_of


def test_a_hint_at_a_node_that_is_gone_is_given_up() -> None:
    cluster = Cluster(nodes=3)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        first, second, third = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        assert await value_of(first.call(add(key, "a"))[0]) == 1
        second.crash()
        # The one that asks knows already who is to lead; that one does not know it yet itself.
        first.table.set(1, third.name)
        call, _ = first.call(add(key, "b"))
        await cluster.loop.pause(100 * MS)
        assert not call.done()
        await third.lead(1)
        assert await value_of(call) == 2

    cluster.run(scenario())
