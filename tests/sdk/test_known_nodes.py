"""Workers follow the cluster: they find nodes that join, and let those go that leave."""

import asyncio

import msgspec

from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.core.protocol.session import NodeAddress, Nodes
from perdure.sdk import app
from perdure.sdk.known_nodes import NODES_MAX, KnownNodes

from .fake_session import FakeNode, World
from .test_worker import service


def nodes(version: int, **addresses: str) -> Nodes:
    """What a node tells."""
    told = tuple(NodeAddress(name, where) for name, where in addresses.items())
    return Nodes(version, told, "f1")


def test_given_addresses_stay_and_told_ones_come_and_go() -> None:
    known = KnownNodes(["a:1", "b:1", "a:1"])
    assert known.wanted() == ["a:1", "b:1"]
    known.tell(nodes(2, n1="a:1", n3="c:1"))
    assert known.wanted() == ["a:1", "b:1", "c:1"]
    known.tell(nodes(1, n4="d:1"))
    assert known.wanted() == ["a:1", "b:1", "c:1"], "what is older says nothing"
    known.tell(nodes(3, n1="a:1"))
    assert known.wanted() == ["a:1", "b:1"]
    assert not known.is_wanted("c:1")
    assert known.is_wanted("b:1")


def test_a_node_under_two_addresses_is_one() -> None:
    known = KnownNodes(["name:1"])
    known.met("name:1", "n1")
    known.tell(nodes(1, n1="10.0.0.1:1", n2="10.0.0.2:1"))
    assert known.wanted() == ["name:1", "10.0.0.2:1"]
    # Behind the name there may be nobody any more: it is found where it says that it is.
    known.lost("name:1")
    assert known.wanted() == ["name:1", "10.0.0.1:1", "10.0.0.2:1"]


def test_what_is_told_is_bounded() -> None:
    known = KnownNodes(["a:1"])
    known.tell(nodes(1, **{f"n{number}": f"h{number}:1" for number in range(NODES_MAX + 5)}))
    assert len(known.wanted()) == NODES_MAX + 1


def tell(node: FakeNode, told: Nodes) -> None:
    """Have a node tell a worker."""
    node.send((0, frame(messages.NODES, msgspec.msgpack.encode(told))))


def test_a_worker_goes_to_the_nodes_that_it_is_told_of() -> None:
    """And not back to one that is no longer among them."""

    async def main() -> None:
        world = World(app([service]))
        listeners = [await world.listen(f"node:{number}") for number in (1, 2)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1"))
            first = await world.node()
            await first.until(lambda: first.hello)
            # One of them is not there, which hinders nobody.
            tell(first, nodes(1, n1="node:1", n2="node:2", n3="node:3"))
            second = await world.node(1)
            await second.until(lambda: second.hello)
            # Nothing of it is to get to another cluster that answers there.
            assert [node.hello.cluster for node in (first, second) if node.hello] == ["", "f1"]
            tell(first, nodes(2, n1="node:1"))
            second.send((0, frame(messages.NODES, msgspec.msgpack.encode(nodes(2, n1="node:1")))))
            await second.connection.close()
            tell(first, nodes(3, n1="node:1", n4="node:4"))
            listeners.append(await world.listen("node:4"))
            fourth = await world.node(2)
            await fourth.until(lambda: fourth.hello)
            assert len(world.nodes) == 3
            world.stop.set()
        for listener in listeners:
            await listener.close()

    asyncio.run(main())


def test_a_node_that_was_told_of_and_refuses_does_not_stop_the_worker() -> None:
    async def main() -> None:
        world = World(app([service]))
        world.greetings = ["welcome", "never", "welcome"]
        listeners = [await world.listen(f"node:{number}") for number in (1, 2)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1"))
            first = await world.node()
            await first.until(lambda: first.hello)
            tell(first, nodes(1, n2="node:2"))
            again = await world.node(2)
            await again.until(lambda: again.hello)
            world.stop.set()
        for listener in listeners:
            await listener.close()

    asyncio.run(main())


def test_a_worker_that_is_cancelled_begins_nothing_anew() -> None:
    async def main() -> None:
        world = World(app([service]))
        listeners = [await world.listen(f"node:{number}") for number in (1, 2)]
        async with asyncio.timeout(60):
            worker = asyncio.create_task(world.worker("node:1"))
            first = await world.node()
            await first.until(lambda: first.hello)
            # Under another address, so that it is wanted there once this session ends.
            tell(first, nodes(1, n1="node:2"))
            await asyncio.sleep(0)
            worker.cancel()
            await asyncio.wait([worker])
        assert len(world.nodes) == 1
        for listener in listeners:
            await listener.close()

    asyncio.run(main())
