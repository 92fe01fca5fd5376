"""Membership over real transports: greetings, strangers, ends of connections, changes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from perdure.core.clock import SystemClock
from perdure.core.errors import MalformedMessageError, PerdureError, TransportError
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.net.tcp import TcpTransport
from perdure.core.net.transport import Connection, Listener, Transport
from perdure.core.random import SeededRandom
from perdure.core.tasks import TaskScope
from perdure.metadata.nodes import Addresses, NodeConfiguration, NodeId, NodesConfiguration
from perdure.node.cluster.errors import NodeRemovedError, SupersededError
from perdure.node.membership.membership import Membership, answers_as
from perdure.node.membership.messages import (
    MEMBERSHIP_SERVICE,
    MESSAGE_BYTES_MAX,
    Entry,
    Gossip,
    Hello,
    Turned,
    Welcome,
    decode_message,
    encode_message,
)
from perdure.node.membership.peer import DetectorOptions

from ...ports import HOST, free_port

MS = 1_000_000
# Quick, so that the test is, and patient about silence, so that a slow machine fails nothing.
OPTIONS = DetectorOptions(tick_ns=10 * MS, dead_ns=60_000 * MS, suspect_ns=50_000 * MS)


class Cluster:
    """Some members over one transport."""

    def __init__(self, transport: Transport, count: int) -> None:
        self.transport = transport
        self.count = count
        self.members: dict[int, Membership] = {}
        self.listeners: dict[int, Listener] = {}
        self.scopes: dict[int, TaskScope] = {}
        self.ended: list[PerdureError] = []
        self.newer: list[tuple[int, int]] = []
        self.nodes = NodesConfiguration(1, "c", "print", 1, 1, NodeId(count + 1))

    async def start(self) -> None:
        for node_id in range(1, self.count + 1):
            self.listeners[node_id] = await self.transport.listen(
                f"{HOST}:{free_port()}", {MEMBERSHIP_SERVICE: self.server(node_id)}
            )
            self.nodes = self.nodes.with_node(
                NodeConfiguration(
                    NodeId(node_id),
                    f"node-{node_id}",
                    1,
                    Addresses(self.listeners[node_id].address),
                    ("worker",),
                    "",
                    "disabled",
                    False,
                    "t",
                )
            )
        for node in self.nodes.nodes:
            self.members[node.id] = self.member(node)
        for member in self.members.values():
            member.start()

    def server(self, node_id: int) -> Callable[[Connection], Awaitable[None]]:
        async def serve(connection: Connection) -> None:
            await self.members[node_id].serve(connection)

        return serve

    def member(self, node: NodeConfiguration) -> Membership:
        def failed(failure: BaseException) -> None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a task failed", "exception": failure}
            )

        self.scopes[node.id] = TaskScope(f"node {node.id}", on_failure=failed)
        return Membership(
            node,
            nodes_version=1,
            nodes=self.nodes,
            transport=self.transport,
            loop=asyncio.get_running_loop(),
            clock=SystemClock(),
            random=SeededRandom(node.id),
            scope=self.scopes[node.id],
            on_newer=lambda nodes, placement: self.newer.append((nodes, placement)),
            on_ended=self.ended.append,
            options=OPTIONS,
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, looking at each change and each tick."""
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.005)

    async def end(self, node_id: int) -> None:
        """As the end of the process."""
        self.members[node_id].stop()
        await self.scopes.pop(node_id).close()
        await self.listeners.pop(node_id).close(0)

    async def close(self) -> None:
        for node_id in list(self.listeners):
            await self.end(node_id)

    async def greet(self, node_id: int, *messages: bytes) -> tuple[Connection, bytes | None]:
        connection = await self.transport.connect(
            self.nodes.nodes[node_id - 1].addresses.node, MEMBERSHIP_SERVICE
        )
        for message in messages:
            connection.send(message)
        return connection, await connection.receive()


TRANSPORTS = {
    "in process": lambda: InProcTransport(InProcNetwork()),
    "tcp": TcpTransport,
}


@pytest.fixture(params=TRANSPORTS)
def run(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    def run_it(test: Callable[[Cluster], Awaitable[None]], count: int = 3) -> None:
        async def body() -> None:
            cluster = Cluster(TRANSPORTS[request.param](), count)
            await cluster.start()
            try:
                await test(cluster)
            finally:
                await cluster.close()

        asyncio.run(body())

    return run_it


def test_all_see_each_other_and_a_killed_process_is_dead(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        members = cluster.members.values()
        await cluster.until(lambda: all(item.view.steady() == (1, 2, 3) for item in members))
        seen: list[tuple[int, ...]] = []
        forget = cluster.members[1].on_change(lambda view: seen.append(view.alive()))
        await cluster.end(3)
        await cluster.until(lambda: cluster.members[1].alive() == (1, 2))
        await cluster.until(lambda: cluster.members[2].alive() == (1, 2))
        forget()
        assert seen[-1] == (1, 2)

    run(body)


def test_a_stranger_is_told_so(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        connection, answer = await cluster.greet(1, encode_message(Hello("other", 9, 1, 1)))
        assert answer is not None
        turned = decode_message(answer)
        assert isinstance(turned, Turned)
        assert turned.code == "PD1114"
        assert await connection.receive() is None
        await connection.close()

    run(body)


@pytest.mark.parametrize(
    "messages",
    [
        [b""],
        [b"\xff" * 100],
        [b"x" * (MESSAGE_BYTES_MAX + 1)],
        [encode_message(Gossip(1, 1, ()))],
        [encode_message(Hello("print", 2, 1, 1)), b"junk"],
        [encode_message(Hello("print", 2, 1, 1)), encode_message(Welcome(1, 1))],
    ],
)
def test_what_cannot_be_read_ends_its_connection_alone(run: Any, messages: list[bytes]) -> None:
    async def body(cluster: Cluster) -> None:
        connection, answer = await cluster.greet(1, *messages)
        while answer is not None:
            answer = await connection.receive()
        await connection.close()
        members = cluster.members.values()
        await cluster.until(lambda: all(item.view.steady() == (1, 2, 3) for item in members))

    run(body)


def test_a_node_answers_for_itself_and_nobody_else(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        one, two = cluster.nodes.nodes[:2]

        async def asked(node: NodeConfiguration, fingerprint: str = "print") -> bool:
            return await answers_as(node, fingerprint=fingerprint, transport=cluster.transport)

        assert await asked(one)
        moved = NodeConfiguration(
            two.id, two.name, 1, one.addresses, two.roles, "", two.storage, False, "t"
        )
        assert not await asked(moved)
        assert not await asked(one, "other")
        address = cluster.listeners[3].address
        await cluster.end(3)
        gone = NodeConfiguration(
            NodeId(3), "node-3", 1, Addresses(address), ("worker",), "", "disabled", False, "t"
        )
        assert not await asked(gone)

    run(body)


def test_versions_travel_until_they_are_known(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        cluster.members[1].use_placement(7)
        await cluster.until(lambda: (1, 7) in cluster.newer)
        cluster.members[1].use_nodes(5, cluster.nodes)
        await cluster.until(lambda: (5, 7) in cluster.newer)

    run(body)


def test_a_node_that_was_removed_or_started_again_is_told_to_stop(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        members = cluster.members.values()
        await cluster.until(lambda: all(item.view.steady() == (1, 2, 3) for item in members))
        cluster.members[3].use_nodes(2, cluster.nodes.without(3))
        assert isinstance(cluster.ended.pop(), NodeRemovedError)

        connection, answer = await cluster.greet(2, encode_message(Hello("print", 1, 1, 2)))
        assert answer == encode_message(Welcome(2, 1))
        connection.send(encode_message(Gossip(1, 0, (Entry(2, 2, 1, 0),))))
        await cluster.until(lambda: bool(cluster.ended))
        assert isinstance(cluster.ended.pop(), SupersededError)
        await connection.close()

    run(body)


def test_deployments_that_another_node_knows_are_asked_for(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        cluster.newer.clear()
        cluster.members[2].schema_version = lambda: 4
        await cluster.until(lambda: (0, 0) in cluster.newer)
        # Until they are known here, too.
        for node_id in (1, 3):
            cluster.members[node_id].schema_version = lambda: 4
        cluster.newer.clear()
        await cluster.until(lambda: all(item._ticks > 20 for item in cluster.members.values()))
        cluster.newer.clear()
        ticks = cluster.members[1]._ticks
        await cluster.until(lambda: cluster.members[1]._ticks > ticks + 10)
        assert (0, 0) not in cluster.newer

    run(body)


def test_admin_nodes_hear_how_far_others_are(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        first, second = cluster.members[1], cluster.members[2]
        admin = msgspec.structs.replace(cluster.nodes.nodes[0], roles=("admin",))
        nodes = cluster.nodes.with_node(admin)
        for member in cluster.members.values():
            member.use_nodes(2, nodes)
        second.own_applied = lambda: ((0, 17), (3, 5))
        cluster.members[3].own_applied = lambda: ((0, 12),)
        await cluster.until(lambda: len(first.applied()) == 3)
        assert first.applied() == {(0, 2): 17, (3, 2): 5, (0, 3): 12}
        second.own_applied = lambda: ((0, 18),)
        await cluster.until(lambda: first.applied() == {(0, 2): 18, (0, 3): 12})
        # What a node told before it was started again counts no more.
        again = msgspec.structs.replace(nodes.nodes[2], generation=2)
        first.use_nodes(3, nodes.with_node(again))
        assert first.applied() == {(0, 2): 18}
        assert not second.applied()

    run(body)


def test_everybody_hears_which_copies_have_stopped(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        first, second = cluster.members[1], cluster.members[2]
        second.own_stopped = lambda: ((0, 17, 2), (3, 5, 1))
        for other in (first, cluster.members[3]):
            await cluster.until(lambda other=other: len(other.stopped()) == 2)
            assert other.stopped() == {(0, 2): (17, 2), (3, 2): (5, 1)}
        # One goes on again, and the other one, too.
        second.own_stopped = lambda: ((3, 5, 1),)
        await cluster.until(lambda: first.stopped() == {(3, 2): (5, 1)})
        second.own_stopped = tuple
        await cluster.until(lambda: not first.stopped())
        # What a node told before it was started again counts no more.
        second.own_stopped = lambda: ((3, 5, 1),)
        await cluster.until(lambda: bool(first.stopped()))
        again = msgspec.structs.replace(cluster.nodes.nodes[1], generation=2)
        first.use_nodes(3, cluster.nodes.with_node(again))
        assert not first.stopped()

    run(body)


def test_who_leaves_is_given_nothing(run: Any) -> None:
    async def body(cluster: Cluster) -> None:
        members = cluster.members.values()
        await cluster.until(lambda: all(item.view.steady() == (1, 2, 3) for item in members))
        cluster.members[3].leave()
        await cluster.until(lambda: cluster.members[1].view.steady() == (1, 2))

    run(body)


def test_messages_are_read_as_they_were_written() -> None:
    for message in (
        Hello("print", 1, 2, 3),
        Welcome(1, 2),
        Turned("PD1114", "no"),
        Gossip(3, 4, (Entry(1, 2, 3, 4), Entry(5, 6, 7, 8)), 9, ((0, 10), (3, 11))),
        Gossip(3, 4, (), 9, (), 5, 6, ((2, 7, 1), (3, 8, 2))),
    ):
        assert decode_message(encode_message(message)) == message


def test_gossip_of_a_release_that_tells_less_is_read() -> None:
    less = msgspec.msgpack.encode(["gossip", 3, 4, [[1, 2, 3, 4]]])
    assert decode_message(less) == Gossip(3, 4, (Entry(1, 2, 3, 4),))


@pytest.mark.parametrize(
    "message",
    [
        Hello("print", -1, 2, 3),
        Welcome(1, 2**62),
        Gossip(1, 1, (Entry(1, 1, -1, 0),)),
        Gossip(1, 1, tuple(Entry(number, 1, 1, 0) for number in range(129))),
        Gossip(1, 1, (), -1),
        Gossip(1, 1, (), 1, ((0, -1),)),
        Gossip(1, 1, (), 1, tuple((number, 1) for number in range(1025))),
        Gossip(1, 1, (), stopped=((0, 1, -1),)),
        Gossip(1, 1, (), stopped=tuple((number, 1, 1) for number in range(1025))),
    ],
)
def test_numbers_and_counts_have_bounds(message: Any) -> None:
    with pytest.raises(MalformedMessageError):
        decode_message(encode_message(message))


def test_nobody_listening_is_told_apart_from_no_answer() -> None:
    async def body() -> None:
        for transport in (InProcTransport(InProcNetwork()), TcpTransport()):
            listener = await transport.listen(f"{HOST}:{free_port()}", {})
            address = listener.address
            with pytest.raises(TransportError) as other:
                await transport.connect(address, "nothing")
            assert other.value.code == "PD0201"
            await listener.close()
            with pytest.raises(TransportError) as refused:
                await transport.connect(address, "nothing")
            assert refused.value.code == "PD0206"

    asyncio.run(body())
