"""Leaders that move, nodes that crash, lines that are cut, under load: each call counts once."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import InvocationId
from perdure.core.random import SystemRandom
from perdure.ingress.requests import Accepted, Completed, InvocationRequest, Rejected
from perdure.partition_processor.records import Command, Deliver
from perdure.partition_processor.tables import keys
from perdure.testing.simulation.chance import Chance

from .cluster import MS, Cluster, Node
from .ledgers import APP
from .test_forwarding import entries_of

CALLS = 10
CLIENTS = 3
FRESH = [SystemRandom().bits(31) for _ in range(8)]
SEEDS = [1, 2, 3, *FRESH]


class Load:
    """Clients that ask at every node, and what they know of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.chance = Chance(cluster.seed, "load")
        self.keys = [f"k{number}" for number in range(6)]
        self.asked: Counter[tuple[str, str]] = Counter()
        """What must be in a ledger, so many times at most: (key, entry)."""
        self.done: set[tuple[str, str]] = set()
        """What was acknowledged, so it must be there."""
        self.open: list[asyncio.Task[None]] = []
        self.sure = True
        """No node of a client ends, so each of them is answered."""

    def start(self, nodes: Sequence[Node]) -> list[asyncio.Task[None]]:
        """Have some clients ask at each of the nodes."""
        return [
            asyncio.create_task(self.run(node, CALLS, str(client)), name=f"client of {node.name}")
            for node in nodes
            for client in range(CLIENTS)
        ]

    async def run(self, node: Node, count: int, client: str = "") -> None:
        """One client's requests at one node, one after the other."""
        for number in range(count):
            await self.cluster.loop.pause(self.chance.between(0, 10 * MS))
            await self.ask(node, f"{node.name}/{client}/{number}")

    async def ask(self, node: Node, entry: str) -> None:
        """One request of a kind that chance says."""
        kind = self.chance.between(0, 5)
        key = self.chance.pick(self.keys)
        name = f"{entry}/{kind}"
        body: Any = name
        more: dict[str, Any] = {}
        service, handler, target, keys = "Ledger", "add", key, [key]
        if kind == 1:
            more = {"idempotency_key": name}
        elif kind == 2:
            service, handler, target, body = "Relay", "pass_on", "", [key, name]
        elif kind == 3:
            keys = self.keys
            service, handler, target, body = "Relay", "spread", "", [name, *keys]
        elif kind == 4:
            service, handler, target, keys = "Trip", "run", name, ["trips"]
        request = InvocationRequest(
            service, handler, target or None, json.dumps(body).encode(), **more
        )
        for one in keys:
            self.asked[one, name] += 1
        reply: Any
        if kind == 5:
            reply = await node.send(request)
            assert isinstance(reply, Accepted), reply
            assert reply.new
        else:
            reply = await node.call(request)[0]
            if isinstance(reply, Rejected):
                assert not self.sure, reply
                return
            assert isinstance(reply, Completed)
            assert reply.failure is None, reply.failure
        self.done.update((one, name) for one in keys)

    async def check(self) -> None:
        """Whatever was acknowledged is in its ledger once; nothing else is there."""
        node = next(n for n in self.cluster.nodes if not n.dispatcher.closing)
        wanted = self.done
        while True:
            found: Counter[tuple[str, str]] = Counter()
            for key in [*self.keys, "trips"]:
                reply = await node.call(InvocationRequest("Ledger", "entries", key, b""))[0]
                assert isinstance(reply, Completed), reply
                found.update((key, entry) for entry in json.loads(reply.value))
            twice = {place: count for place, count in found.items() if count > 1}
            assert not twice
            assert found.keys() <= self.asked.keys()
            # One-way calls are acknowledged before they run.
            if wanted <= found.keys():
                return
            await self.cluster.loop.pause(200 * MS)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: "fresh" if seed in FRESH else str(seed))
def test_each_call_counts_once_while_leaders_move_and_lines_are_cut(seed: int) -> None:
    print("seed", seed)
    cluster = Cluster(seed, nodes=3, partitions=4, delay_ns=(0, 3 * MS))

    async def scenario() -> None:
        await cluster.add_worker(APP)
        load = Load(cluster)
        chance = Chance(seed, "faults")
        clients = load.start(cluster.nodes)
        while not all(client.done() for client in clients):
            await cluster.loop.pause(chance.between(2 * MS, 30 * MS))
            fault = chance.between(0, 3)
            node = chance.pick(cluster.nodes)
            if fault <= 1:
                await cluster.move(
                    chance.between(0, 3),
                    node,
                    announce_none=chance.happens(0.5),
                    oblivious=chance.happens(0.3),
                )
            elif fault == 2:
                cluster.network.cut(node.name)
            else:
                cluster.network.freeze(node.name)
                await cluster.loop.pause(chance.between(0, 40 * MS))
                cluster.network.thaw(node.name)
        for client in clients:
            await client
        await cluster.see_to_leads()
        await load.check()
        for node in cluster.nodes:
            assert len(node.forwarding) == node.forwarding.waiting == 0
            assert node.forwarding.held_bytes == 0
            assert all(not place._pending for place in node.forwarding._partitions)
        await outboxes_empty(cluster)

    cluster.run(scenario())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: "fresh" if seed in FRESH else str(seed))
def test_when_a_node_crashes_the_clients_of_the_others_notice_nothing(seed: int) -> None:
    print("seed", seed)
    cluster = Cluster(seed, nodes=3, partitions=4, delay_ns=(0, 3 * MS))

    async def scenario() -> None:
        await cluster.add_worker(APP)
        load = Load(cluster)
        doomed, *others = cluster.nodes
        clients = load.start(others)
        await cluster.loop.pause(load.chance.between(20 * MS, 200 * MS))
        orphans = sorted(doomed.leads)
        doomed.crash()
        for partition in orphans:
            await cluster.loop.pause(load.chance.between(0, 300 * MS))
            await cluster.move(partition, load.chance.pick(others))
        for client in clients:
            await client
        await load.check()

    cluster.run(scenario())


async def outboxes_empty(cluster: Cluster) -> None:
    """Wait until every message was taken and the outboxes have forgotten it."""
    while any(
        len(node.processor(partition).drivers.shipments)
        for node in cluster.nodes
        for partition in node.leads
    ):
        await cluster.loop.pause(100 * MS)
    await cluster.loop.pause(1_000 * MS)
    # Those who follow have forgotten it, too.
    for node in cluster.nodes:
        assert not list(node.store.scan(keys.OUTBOX, keys.prefix_end(keys.OUTBOX)))


def test_the_same_seed_has_the_same_bytes_on_its_lines() -> None:
    digests = []
    for _ in range(2):
        cluster = Cluster(5, nodes=2, partitions=2)

        async def scenario(cluster: Cluster = cluster) -> None:
            await cluster.add_worker(APP)
            load = Load(cluster)
            work = [asyncio.create_task(load.run(node, 6)) for node in cluster.nodes]
            await cluster.move(1, cluster.nodes[0])
            await asyncio.wait(work)
            await cluster.see_to_leads()
            await load.check()

        cluster.run(scenario())
        digests.append(cluster.network.trace.digest())
    assert digests[0] == digests[1]


def test_messages_that_a_leader_does_not_take_come_again_soon() -> None:
    cluster = Cluster(nodes=2, partitions=2)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        processor = far.processor(1)
        propose = processor.propose_now
        refused = 0

        def refusing(command: Command) -> bool:
            nonlocal refused
            if isinstance(command, Deliver) and refused < 2:
                refused += 1
                return False
            return propose(command)

        processor.propose_now = refusing  # type: ignore[method-assign]
        sent = await near.send(
            InvocationRequest("Relay", "spread", None, json.dumps(["e", key]).encode())
        )
        assert isinstance(sent, Accepted)
        while await entries_of(far, key) != ["e"]:
            await cluster.loop.pause(10 * MS)
        assert refused == 2
        assert cluster.loop.now_ns < 2_000 * MS
        await outboxes_empty(cluster)

    cluster.run(scenario())


def test_words_of_what_was_taken_may_be_lost() -> None:
    cluster = Cluster(nodes=2, partitions=2)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        taken = near.processor(0).drivers.shipments.taken
        near.processor(0).drivers.shipments.taken = (  # type: ignore[method-assign]
            lambda _destination, _last, _gap=False: None
        )
        request = InvocationRequest("Relay", "spread", None, json.dumps(["e", key]).encode())
        sent = [await near.send(request) for _ in range(4)]
        while len(await entries_of(far, key)) < len(sent):
            await cluster.loop.pause(10 * MS)
        assert len(near.processor(0).drivers.shipments)
        near.processor(0).drivers.shipments.taken = taken  # type: ignore[method-assign]
        await outboxes_empty(cluster)
        assert await entries_of(far, key) == ["e"] * 4

    cluster.run(scenario())


def test_an_outbox_that_is_larger_than_what_is_kept_arrives_whole() -> None:
    cluster = Cluster(nodes=2, partitions=2)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        (key,) = cluster.keys_in(1, 1)
        far.give_up(1)
        cluster.tell_all(1, None)
        shipments = near.processor(0).drivers.shipments
        shipments.KEPT_MESSAGES_MAX = 10  # type: ignore[misc]
        entries = [f"e{number}" for number in range(25)]
        for entry in entries:
            body = json.dumps([entry, key]).encode()
            here = cluster.keys_in(0, 1)[0]
            identity = InvocationId(
                keyed_partition_key(here).to_bytes(8, "big") + entry.encode().ljust(16)
            )
            await near.send(
                InvocationRequest("Relay", "spread", None, body, invocation_id=identity)
            )
        while len(shipments) < len(entries):
            await cluster.loop.pause(10 * MS)
        assert shipments.kept <= 10
        await far.lead(1)
        cluster.tell_all(1, far.name)
        await outboxes_empty(cluster)
        assert sorted(await entries_of(near, key)) == sorted(entries)

    cluster.run(scenario())
