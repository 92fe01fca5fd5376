"""A record that no replica can apply parks its partition everywhere; a decision has it go on."""

from collections.abc import Callable
from typing import Any

import pytest

from perdure.ingress.requests import Completed, InvocationRequest
from perdure.partition_processor.proposals import Proposal
from perdure.partition_processor.role_changes import Placement
from perdure.partition_processor.skipping import KnownElsewhere, SkipRefusedError
from perdure.partition_processor.tables.skipped import Skip

from .cluster import MS, Cluster, Node
from .ledgers import APP

POISON = 99


def poison(node: Node) -> int:
    """Have the leader write a record that nobody can apply; its LSN."""
    processor = node.processor(0)
    proposals = processor._proposals
    assert proposals is not None
    proposals.propose(Proposal(POISON, b"", (), 0, None, None, None))
    return processor.next_lsn


async def until(cluster: Cluster, condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        await cluster.loop.pause(MS)
    raise AssertionError("it does not come to that")


def expect_parked(cluster: Cluster) -> list[tuple[str, int]]:
    """Where partitions are parked from now on."""
    found: list[tuple[str, int]] = []
    for node in cluster.nodes:

        def parked(_processor: Any, error: Any, name: str = node.name) -> None:
            found.append((name, error.lsn))

        node.manager._on_parked = parked
    return found


async def decide(node: Node, lsn: int, others: dict[str, int]) -> None:
    skip = Skip(lsn, "a record", "it cannot be applied", "ann", node.name, 7)
    known = KnownElsewhere(others, 0)
    await node.manager.skip(skip, 0, known, accept_loss=False, dry_run=False)


def digests(cluster: Cluster) -> set[tuple[int, str]]:
    """LSN and digest of the partition on all nodes that have it."""
    return {
        (item.status.applied_lsn, item.digest)
        for node in cluster.nodes
        if (item := node.manager.partition(0)) is not None and item.status.role != "absent"
    }


@pytest.mark.parametrize("decider", [0, 1])
def test_a_parked_partition_goes_on_everywhere_without_its_record(decider: int) -> None:
    cluster = Cluster(3, nodes=3, partitions=1)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        one, two, three = cluster.nodes
        absent: dict[int, Placement] = {0: "absent"}
        three.manager.apply_placement(absent)
        await until(cluster, lambda: three.processor(0).role == "absent")
        key = cluster.keys_in(0, 1)[0]
        request = InvocationRequest("Ledger", "add", key, b'"first"', idempotency_key="first")
        future, _ = one.call(request)
        assert isinstance(await future, Completed)

        found = expect_parked(cluster)
        lsn = poison(one)
        await until(cluster, lambda: len(found) == 2)
        assert found == [("n0", lsn), ("n1", lsn)]
        # Nobody else leads past it either.
        two.manager.apply_placement({0: "leader"})
        one.manager.apply_placement({0: "follower"})
        await cluster.loop.pause(3000 * MS)
        assert [node.processor(0).role for node in cluster.nodes] == ["stopped"] * 2 + ["absent"]
        asked = cluster.nodes[decider]
        with pytest.raises(SkipRefusedError, match="not at"):
            await decide(asked, lsn + 1, {"n0": lsn - 1, "n1": lsn - 1})
        others = {node.name: lsn - 1 for node in (one, two) if node is not asked}
        await decide(asked, lsn, others)
        await until(cluster, lambda: two.processor(0).leading)
        one.leads.discard(0)
        two.leads.add(0)
        cluster.tell_all(0, "n1")

        second = InvocationRequest("Ledger", "add", key, b'"second"', idempotency_key="second")
        future, _ = two.call(second)
        assert isinstance(await future, Completed)
        # What was acknowledged before is there.
        future, _ = two.call(request)
        assert isinstance(await future, Completed)
        # A replica that replays the whole log skips it, too.
        three.manager.apply_placement({0: "follower"})
        await until(
            cluster, lambda: all(node.processor(0).role != "absent" for node in cluster.nodes)
        )
        await until(cluster, lambda: len(digests(cluster)) == 1)
        assert found == [("n0", lsn), ("n1", lsn)]
        for node in cluster.nodes:
            detail = node.manager.partition(0)
            assert detail is not None
            assert [(skip.lsn, skip.by) for skip in detail.skipped] == [(lsn, "ann")]
            assert detail.status.parked_lsn == 0
        contents = [dict(node.store.scan(b"", b"\xff")) for node in cluster.nodes]
        assert contents[0] == contents[1] == contents[2]

    cluster.run(scenario())


def test_a_replica_that_has_applied_it_meanwhile_stops_and_says_so() -> None:
    cluster = Cluster(4, nodes=2, partitions=1)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        one, two = cluster.nodes
        key = cluster.keys_in(0, 1)[0]
        future, _ = one.call(InvocationRequest("Ledger", "add", key, b'"first"'))
        assert isinstance(await future, Completed)
        found = expect_parked(cluster)
        lsn = poison(one)
        await until(cluster, lambda: len(found) == 2)
        # As if the other one ran a release that can apply the record, and nobody had asked it.
        behind = two.processor(0)
        behind._machine.context.lsn = lsn
        behind.transaction.put(b"i" + bytes(24), b"")
        behind._machine._digest = behind.transaction.commit_record(behind._machine._digest)
        two.store.write(behind.take_writes())
        await decide(one, lsn, {})
        await until(cluster, lambda: one.processor(0).leading)
        two.manager.apply_placement({0: "absent"})
        await until(cluster, lambda: two.processor(0).role == "absent")
        two.manager.apply_placement({0: "follower"})
        await until(cluster, lambda: two.processor(0).role == "stopped")

        assert two.processor(0).error.startswith("PD0917")
        two.manager.apply_placement({0: "leader"})
        await cluster.loop.pause(2000 * MS)
        assert two.processor(0).role == "stopped"
        assert one.processor(0).leading

    cluster.run(scenario())
