"""Joining a cluster: who is let in, as what, and what happens when the start is cut short."""

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest

from perdure.core.errors import StorageCorruptError, StorageFormatError, TransportError
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.metadata.api import Precondition, Version
from perdure.metadata.memory import MemoryMetadataStore
from perdure.metadata.nodes import (
    NODES_KEY,
    NODES_MAX,
    Addresses,
    NodeConfiguration,
    NodesConfiguration,
    decode_nodes,
    encode_nodes,
)
from perdure.node.cluster.errors import (
    AlreadyProvisionedError,
    ClusterNameError,
    ClusterRefusedError,
    FingerprintError,
    NameTakenError,
    NodeChangeError,
    NodeRemovedError,
    NotProvisionedError,
    StorageLostError,
    SupersededError,
)
from perdure.node.cluster.joining import complete_join
from perdure.node.cluster.marker import MARKER_KEY, read_marker
from perdure.node.cluster.registry import Joined, NodeRegistry

ROLES: Any = ("worker", "log-server", "admin")


class Cluster:
    """A metadata store, some disks, and which nodes answer when asked."""

    def __init__(self, metadata: Any = None) -> None:
        self.metadata = metadata or MemoryMetadataStore()
        self.registry = NodeRegistry(self.metadata, SeededRandom(1))
        self.alive: set[int] = set()
        self.asked: list[str] = []

    async def ask(self, holder: NodeConfiguration) -> bool:
        self.asked.append(str(holder))
        return holder.id in self.alive

    async def provision(self) -> None:
        await self.registry.provision("c", partition_count=4, replicas=3)

    async def join(self, disk: MemoryStore, name: str = "a", **changed: Any) -> Joined:
        arguments: dict[str, Any] = {
            "cluster": "c",
            "name": name,
            "addresses": Addresses(f"{name}:5122"),
            "roles": ROLES,
            "ask_holder": self.ask,
        }
        return await self.registry.join(disk, **{**arguments, **changed})

    async def nodes(self) -> NodesConfiguration:
        return (await self.registry.read()).nodes


def copy_of(disk: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    copied.write(list(disk.scan(b"", b"\xff")))
    return copied


def run(test: Any) -> None:
    async def body() -> None:
        cluster = Cluster()
        await cluster.provision()
        await test(cluster)

    asyncio.run(body())


def test_a_new_node_gets_a_number_and_takes_records_once_its_disk_is_marked() -> None:
    async def body(cluster: Cluster) -> None:
        disk = MemoryStore()
        joined = await cluster.join(disk)

        assert (joined.me.id, joined.me.generation, joined.me.storage) == (1, 1, "read-write")
        assert read_marker(disk).node_id == 1
        assert joined.me == (await cluster.nodes()).named("a")
        assert joined.me.roles == ("admin", "log-server", "worker")

    run(body)


def test_each_start_is_a_new_generation_of_the_same_node() -> None:
    async def body(cluster: Cluster) -> None:
        disk = MemoryStore()
        for generation in range(1, 5):
            joined = await cluster.join(disk, addresses=Addresses(f"h{generation}:1"))
            assert (joined.me.id, joined.me.generation) == (1, generation)
            assert joined.me.addresses.node == f"h{generation}:1"
        assert cluster.asked == []

    run(body)


def test_a_node_without_a_cluster_is_told_so() -> None:
    async def body() -> None:
        with pytest.raises(NotProvisionedError) as refused:
            await Cluster().join(MemoryStore())
        assert refused.value.retryable

    asyncio.run(body())


def test_a_cluster_is_provisioned_once() -> None:
    async def body(cluster: Cluster) -> None:
        before = await cluster.nodes()
        with pytest.raises(AlreadyProvisionedError, match="'c'"):
            await cluster.registry.provision("d", partition_count=1, replicas=1)
        assert await cluster.nodes() == before

    run(body)


@pytest.mark.parametrize(("partitions", "replicas"), [(0, 1), (1025, 1), (1, 0), (1, 10)])
def test_a_cluster_out_of_bounds_is_refused(partitions: int, replicas: int) -> None:
    async def body() -> None:
        cluster = Cluster()
        with pytest.raises(NodeChangeError):
            await cluster.registry.provision("c", partition_count=partitions, replicas=replicas)
        assert await cluster.metadata.get(NODES_KEY) is None

    asyncio.run(body())


def refusals() -> list[Any]:
    return [
        ({"cluster": "other"}, ClusterNameError, "node.cluster"),
        ({"name": ""}, NodeChangeError, "node.name"),
        ({"name": "x" * 129}, NodeChangeError, "node.name"),
        ({"name": "b"}, NodeChangeError, "node.name"),
    ]


@pytest.mark.parametrize(("changed", "error", "field"), refusals())
def test_what_does_not_fit_is_refused_by_field(
    changed: dict[str, Any], error: type[ClusterRefusedError], field: str
) -> None:
    async def body(cluster: Cluster) -> None:
        disk = MemoryStore()
        await cluster.join(disk)
        before, mark = await cluster.nodes(), read_marker(disk)
        with pytest.raises(error) as refused:
            await cluster.join(disk, **changed)

        assert refused.value.field == field
        assert (await cluster.nodes(), read_marker(disk)) == (before, mark)

    run(body)


def test_a_disk_of_another_cluster_of_the_same_name_is_refused() -> None:
    async def body(cluster: Cluster) -> None:
        other = Cluster()
        other.registry = NodeRegistry(other.metadata, SeededRandom(2))
        await other.provision()
        disk = MemoryStore()
        await other.join(disk)
        with pytest.raises(FingerprintError) as refused:
            await cluster.join(disk, "b")
        assert refused.value.field == "node.base_dir"

    run(body)


def test_a_second_live_node_of_a_name_is_refused_and_harms_nobody() -> None:
    async def body(cluster: Cluster) -> None:
        first = await cluster.join(MemoryStore())
        cluster.alive = {1}
        with pytest.raises(NameTakenError, match="n1:1"):
            await cluster.join(MemoryStore())
        assert (await cluster.nodes()).nodes == (first.me,)

    run(body)


def test_an_empty_disk_under_an_old_name_is_a_loss_and_never_counts() -> None:
    async def body(cluster: Cluster) -> None:
        disk = MemoryStore()
        await cluster.join(disk)
        for _ in range(2):
            with pytest.raises(StorageLostError) as refused:
                await cluster.join(MemoryStore())
            assert refused.value.field == "node.base_dir"
            assert "cluster.accept_storage_loss" in refused.value.message
            entry = (await cluster.nodes()).named("a")
            assert entry is not None
            assert (entry.storage, entry.generation) == ("data-loss", 1)

        # The way out: the disk that counts comes back.
        joined = await cluster.join(disk)
        assert (joined.me.id, joined.me.generation, joined.me.storage) == (1, 2, "read-write")

    run(body)


def test_an_old_copy_of_a_disk_is_a_loss_too() -> None:
    async def body(cluster: Cluster) -> None:
        disk = MemoryStore()
        await cluster.join(disk)
        old = copy_of(disk)
        await cluster.join(disk)
        with pytest.raises(StorageLostError):
            await cluster.join(old)

    run(body)


@pytest.mark.parametrize("keeps_old_disk", [False, True])
def test_a_loss_that_is_accepted_makes_a_new_node(keeps_old_disk: bool) -> None:
    async def body(cluster: Cluster) -> None:
        disk = MemoryStore()
        await cluster.join(disk)
        old = copy_of(disk)
        await cluster.join(disk)
        new = old if keeps_old_disk else MemoryStore()
        joined = await cluster.join(new, accept_loss=True)

        assert (joined.me.id, joined.me.generation, joined.me.storage) == (2, 1, "read-write")
        assert (await cluster.nodes()).node(1) is None
        assert (await cluster.join(new)).me.generation == 2
        with pytest.raises(NodeRemovedError, match="n1"):
            await cluster.join(disk)

    run(body)


def test_accepting_a_loss_changes_nothing_where_there_is_none() -> None:
    async def body(cluster: Cluster) -> None:
        disk = MemoryStore()
        await cluster.join(disk)
        joined = await cluster.join(disk, accept_loss=True)
        assert (joined.me.id, joined.me.generation) == (1, 2)

    run(body)


def test_a_node_without_data_may_come_back_on_any_disk() -> None:
    async def body(cluster: Cluster) -> None:
        first = await cluster.join(MemoryStore(), roles=("worker",))
        again = await cluster.join(MemoryStore(), roles=("worker",))

        assert first.me.storage == again.me.storage == "disabled"
        assert (again.me.id, again.me.generation) == (1, 2)

    run(body)


def test_no_more_nodes_than_there_may_be() -> None:
    async def body(cluster: Cluster) -> None:
        for number in range(NODES_MAX):
            await cluster.join(MemoryStore(), f"n{number}", roles=("worker",))
        with pytest.raises(NodeChangeError, match=str(NODES_MAX)):
            await cluster.join(MemoryStore(), "late")

    run(body)


class CrashingDisk(MemoryStore):
    """Ends the start at the nth write, before or after it is done."""

    countdown = -1

    def write(self, operations: Any) -> None:
        self.countdown -= 1
        if self.countdown == 0:
            raise KeyboardInterrupt
        super().write(operations)


class CrashingMetadata(MemoryMetadataStore):
    """Ends the start at the nth put: 'before' it, or once it is made."""

    countdown = -1
    before = True

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        self.countdown -= 1
        if self.countdown == 0 and self.before:
            raise TransportError("gone")
        version = await super().put(key, value, precondition)
        if self.countdown == 0:
            raise TransportError("gone")
        return version


@pytest.mark.parametrize("starts_before", [0, 1, 2])
@pytest.mark.parametrize("place", ["disk 1", "disk 2", "put 1 before", "put 1", "put 2"])
@pytest.mark.parametrize("crashes", [1, 3])
def test_a_start_that_is_cut_short_anywhere_is_made_good_by_the_next(
    place: str, starts_before: int, crashes: int
) -> None:
    async def body() -> None:
        metadata = CrashingMetadata()
        cluster = Cluster(metadata)
        await cluster.provision()
        disk = CrashingDisk()
        for _ in range(starts_before):
            await cluster.join(disk)
        what, number, *when = place.split()
        for _ in range(crashes):
            if what == "disk":
                disk.countdown = int(number)
            else:
                metadata.countdown, metadata.before = int(number), when == ["before"]
            with contextlib.suppress(KeyboardInterrupt, TransportError):
                await cluster.join(disk)
        disk.countdown = metadata.countdown = -1
        joined = await cluster.join(disk)

        assert cluster.asked == []
        assert (joined.me.id, joined.me.storage) == (1, "read-write")
        assert joined.me.generation > starts_before
        assert len((await cluster.nodes()).nodes) == 1

    asyncio.run(body())


def test_a_late_put_of_a_crashed_start_is_known_again() -> None:
    """The put of a start that crashed is made after the next start has read the nodes."""

    async def body() -> None:
        metadata = CrashingMetadata()
        cluster = Cluster(metadata)
        await cluster.provision()
        disk = MemoryStore()
        await cluster.join(disk)
        kept: list[Any] = []

        async def keep(key: str, value: bytes, precondition: Precondition = None) -> Version:
            kept.append((key, value, precondition))
            raise TransportError("gone")

        put = metadata.put
        metadata.put = keep  # type: ignore[method-assign]
        with pytest.raises(TransportError):
            await cluster.join(disk)

        async def late_first(key: str, value: bytes, precondition: Precondition = None) -> Version:
            if kept:
                await put(*kept.pop())
            return await put(key, value, precondition)

        metadata.put = late_first  # type: ignore[method-assign]
        joined = await cluster.join(disk)
        assert joined.me.generation == 3
        assert cluster.asked == []

        assert (await cluster.join(disk)).me.generation == 4

    asyncio.run(body())


def test_nodes_that_join_at_once_all_get_in() -> None:
    async def body(cluster: Cluster) -> None:
        joined = await asyncio.gather(
            *(cluster.join(MemoryStore(), f"n{number}") for number in range(10))
        )
        assert sorted(item.me.id for item in joined) == list(range(1, 11))

    run(body)


def test_two_starts_of_one_new_name_at_once_do_not_both_live() -> None:
    """Both have an empty disk and neither answers yet: the later one takes the name over."""

    async def body(cluster: Cluster) -> None:
        first, second = MemoryStore(), MemoryStore()
        results = await asyncio.gather(
            cluster.join(first), cluster.join(second), return_exceptions=True
        )
        entry = (await cluster.nodes()).named("a")
        assert entry is not None
        holders = [disk for disk in (first, second) if entry.disk_token in read_marker(disk).tokens]
        assert len(holders) == 1
        for result in results:
            if isinstance(result, BaseException):
                assert isinstance(result, StorageLostError | SupersededError | NameTakenError)

    run(body)


def test_the_configuration_is_read_as_it_was_written() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.join(MemoryStore(), zone="z1")
        nodes = await cluster.nodes()
        assert decode_nodes(encode_nodes(nodes)) == nodes

    run(body)


def test_a_newer_or_broken_configuration_is_told_apart() -> None:
    with pytest.raises(StorageFormatError, match="format 9"):
        decode_nodes(msgspec.json.encode({"format": 9, "anything": 1}))
    for value in (b"", b"{", b'{"format": 1}', b"[]"):
        with pytest.raises(StorageCorruptError):
            decode_nodes(value)


def test_a_newer_or_broken_mark_is_told_apart() -> None:
    for value, error in (
        (b'{"format": 2}', StorageFormatError),
        (b"{}", StorageCorruptError),
        (b'{"format": 1}', StorageCorruptError),
    ):
        disk = MemoryStore()
        disk.write([(MARKER_KEY, value)])
        with pytest.raises(error):
            read_marker(disk)


def test_a_join_is_completed_for_its_own_start_only() -> None:
    """Another disk took the name over meanwhile: it says itself when it is marked."""

    async def body(cluster: Cluster) -> None:
        me = (await cluster.join(MemoryStore())).me
        fresh = msgspec.structs.replace(me, storage="provisioning")
        other = msgspec.structs.replace(fresh, disk_token="other")
        nodes = (await cluster.nodes()).with_node(fresh)

        assert complete_join(nodes, fresh).named("a") == me
        assert complete_join(nodes, other) is nodes

    run(body)
