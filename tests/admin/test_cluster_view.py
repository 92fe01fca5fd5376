"""What operators see of a cluster and may do with it; each refusal leaves everything as it was."""

import asyncio
from typing import Any

import pytest

from perdure.admin.errors import ClusterAloneError, ClusterNotJoinedError
from perdure.metadata.quorum import MemberChangeError
from perdure.node.cluster.errors import NodeChangeError, UnknownNodeError
from perdure.node.controller.moves import MoveRefusedError
from perdure.node.membership.view import MembershipView

from ..node.controller.facts import view_of
from .fake_view import FakeView
from .small_cluster import PARTITIONS, SmallCluster, on_cluster, unchanged


async def emptied(cluster: SmallCluster, node_id: int) -> None:
    """Have a node be dead and keep nothing."""
    await cluster.set_node(node_id, drained=True, storage="read-write")
    cluster.die(node_id)
    await cluster.decide()


# Looking -------------------------------------------------------------------------------------


def test_status_tells_nodes_places_and_how_it_is_here() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await cluster.place((2, (1, 2)), (0, (3,)))
        cluster.seen.change(view_of(cluster.seen.nodes, dead=(3,), suspect=(2,), leaving=(2,)))
        status = await cluster.view().status()

        assert (status.cluster, status.fingerprint, status.me) == ("c", "f", "node-1")
        assert [node.state for node in status.nodes] == ["alive", "suspect", "dead"]
        assert [node.leaving for node in status.nodes] == [False, True, False]
        first, second = status.partitions[:2]
        assert (first.leader, first.replicas) == ("node-2", ["node-1", "node-2"])
        assert (first.role, first.epoch, first.applied_lsn, first.lag) == ("follower", 3, 7, 2)
        assert (second.leader, second.replicas, second.role) == (None, ["node-3"], "absent")
        assert len(status.partitions) == PARTITIONS

    on_cluster(scenario)


@pytest.mark.parametrize("me", [1, 2])
def test_every_node_warns_of_what_all_can_see(me: int) -> None:
    """The one that decides has planned; the others plan from what they know."""

    async def scenario(cluster: SmallCluster) -> None:
        await cluster.set_node(2, drained=True)
        await cluster.set_node(3, drained=True)
        await cluster.controller.decide()
        cluster.seen.change(view_of(cluster.seen.nodes, me=me))

        warnings = (await cluster.view().status()).warnings
        assert any("add nodes, or take drained ones back" in warning for warning in warnings)

    on_cluster(scenario)


@pytest.mark.parametrize(("flag", "text"), [("isolated", "too few"), ("doubted", "dead")])
def test_a_node_that_may_be_wrong_says_so(flag: str, text: str) -> None:
    async def scenario(cluster: SmallCluster) -> None:
        cluster.seen.change(doubtful(cluster, flag))

        warnings = (await cluster.view().status()).warnings
        assert any(text in warning for warning in warnings)

    on_cluster(scenario)


def doubtful(cluster: SmallCluster, flag: str, **view: Any) -> MembershipView:
    """A view with one of its doubts."""
    seen = view_of(cluster.seen.nodes, **view)
    flags = {"settled": True, "isolated": False, "doubted": False}
    flags[flag] = not flags[flag]
    return MembershipView(seen.me, seen.nodes, **flags)


def test_a_cluster_that_is_new_is_not_warned_of() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        cluster.seen.change(view_of(cluster.seen.nodes, me=2))
        cluster.placement = None
        assert not cluster.controller.decides()
        cluster.joined_seconds = 9.0
        assert (await cluster.view().status()).warnings == []
        cluster.joined_seconds = 11.0
        [warning] = (await cluster.view().status()).warnings
        assert warning.startswith("partitions have no place yet")
        assert "role admin" in warning.rpartition("; ")[2]

    on_cluster(scenario)


def test_a_clock_that_is_off_is_told_with_how_far() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        before = await cluster.view().status()
        assert [node.clock_ahead_ms for node in before.nodes] == [0, None, None]
        cluster.seen.ahead_ns = {2: 7_200_000_000_000, 3: -4_000_000}
        status = await cluster.view().status()
        assert [node.clock_ahead_ms for node in status.nodes] == [0, 7_200_000, -4]
        [warning] = set(status.warnings) - set(before.warnings)
        assert "the clock of node-2 is 2h ahead of the others'" in warning

    on_cluster(scenario)


def test_nothing_is_told_before_the_node_has_joined() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        cluster.joined = False
        view = cluster.view()
        for doing in (
            view.status(),
            view.set_drained("node-2", True),
            view.remove_node("node-2", lost=False),
            view.move(0, "node-2"),
            view.metadata_members(),
            view.metadata_value("nodes"),
        ):
            assert isinstance(await unchanged(cluster, doing), ClusterNotJoinedError)

    on_cluster(scenario)


def test_a_node_that_is_alone_is_a_cluster_of_one() -> None:
    async def body() -> None:
        view = FakeView().cluster_view
        status = await view.status()
        assert [(node.name, node.state) for node in status.nodes] == [("node-1", "alive")]
        assert {row.leader for row in status.partitions} == {"node-1"}
        with pytest.raises(ClusterAloneError, match=r"cluster\.metadata_servers"):
            await view.set_drained("node-1", True)
        with pytest.raises(UnknownNodeError, match="the nodes are: node-1"):
            await view.move(0, "node-2")

    asyncio.run(body())


# Draining ------------------------------------------------------------------------------------


def test_a_drained_node_gives_up_what_it_has_and_is_taken_back() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        assert (await cluster.view().set_drained("node-2", True)).drained
        await cluster.decide()
        assert cluster.placement is not None
        assert cluster.placement.kept_by(2) == ()
        assert (await cluster.view().set_drained("node-2", True)).drained
        assert not (await cluster.view().set_drained("node-2", False)).drained
        await cluster.decide()
        assert cluster.placement.kept_by(2)

    on_cluster(scenario)


@pytest.mark.parametrize(
    "others", ["dead", "drained", "suspect", "leaving"], ids=lambda text: f"others {text}"
)
def test_the_last_node_is_not_drained(others: str) -> None:
    async def scenario(cluster: SmallCluster) -> None:
        if others == "drained":
            await cluster.set_node(2, drained=True)
            await cluster.set_node(3, drained=True)
        else:
            cluster.seen.change(view_of(cluster.seen.nodes, **{others: (2, 3)}))
        error = await unchanged(cluster, cluster.view().set_drained("node-1", True))

        assert isinstance(error, NodeChangeError)
        assert "Start one or take one back first" in error.message

    on_cluster(scenario)


def test_two_drains_at_once_do_not_drain_everybody() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await cluster.set_node(3, drained=True)
        results = await asyncio.gather(
            cluster.view().set_drained("node-1", True),
            cluster.view().set_drained("node-2", True),
            return_exceptions=True,
        )
        assert sum(isinstance(item, NodeChangeError) for item in results) == 1
        assert sum(node.drained for node in (await cluster.stored()).nodes) == 2

    on_cluster(scenario)


def test_unknown_nodes_are_refused_with_the_known_ones() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        view = cluster.view()
        for doing in (
            view.set_drained("node-9", True),
            view.set_drained("node-9", False),
            view.remove_node("node-9", lost=False),
            view.move(0, "node-9"),
            view.add_metadata_member("node-9"),
        ):
            error = await unchanged(cluster, doing)
            assert isinstance(error, UnknownNodeError)
            assert "node-1, node-2, node-3" in error.message

    on_cluster(scenario)


# Moving --------------------------------------------------------------------------------------


def test_a_lead_goes_to_another_node_that_keeps_the_partition() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await cluster.place((1, (1, 2)))
        moved = await cluster.view().move(0, "node-2")
        assert (moved.leader, moved.replicas) == ("node-2", ["node-1", "node-2"])
        await cluster.decide()
        assert cluster.placement is not None
        assert cluster.placement.partitions[0].leader == 2

    on_cluster(scenario)


@pytest.mark.parametrize(
    ("partition", "to", "state", "text"),
    [
        (0, "node-2", {"dead": (2,)}, "is dead; these can lead it: node-1"),
        (0, "node-2", {"suspect": (2,)}, "is suspect; these can lead it: node-1"),
        (0, "node-2", {"leaving": (2,)}, "is about to stop; these can lead it: node-1"),
        (0, "node-3", {}, "does not keep partition 0"),
        (0, "node-3", {}, "these can lead it: node-1, node-2"),
        (PARTITIONS, "node-2", {}, "they are 0 to 3"),
    ],
)
def test_a_lead_is_not_moved_to_who_cannot_have_it(
    partition: int, to: str, state: dict[str, Any], text: str
) -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await cluster.place((1, (1, 2)))
        cluster.seen.change(view_of(cluster.seen.nodes, **state))
        error = await unchanged(cluster, cluster.view().move(partition, to))

        assert isinstance(error, MoveRefusedError)
        assert text in error.message

    on_cluster(scenario)


# Removing ------------------------------------------------------------------------------------


def test_a_dead_node_that_nobody_needs_is_removed() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        await cluster.log_on(0, (1, 2, 3), (1, 2))
        removed = await cluster.view().remove_node("node-3", lost=False)

        assert (removed.name, removed.id) == ("node-3", 3)
        assert [node.name for node in (await cluster.stored()).nodes] == ["node-1", "node-2"]
        error = await unchanged(cluster, cluster.view().remove_node("node-3", lost=False))
        assert isinstance(error, UnknownNodeError)

    on_cluster(scenario)


async def refused_removal(cluster: SmallCluster, text: str, *, lost: bool = False) -> None:
    """Node 3 is not removed, for this reason."""
    error = await unchanged(cluster, cluster.view().remove_node("node-3", lost=lost))
    assert isinstance(error, NodeChangeError)
    assert text in error.message


def test_what_lives_is_not_removed() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        cluster.die()
        await refused_removal(cluster, "is alive: stop it first")
        await refused_removal(cluster, "is alive: stop it first", lost=True)
        cluster.seen.change(view_of(cluster.seen.nodes, suspect=(3,)))
        await refused_removal(cluster, "not known to be dead")

    on_cluster(scenario)


def test_a_silent_node_is_removed_when_somebody_vouches_for_it() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        cluster.seen.change(doubtful(cluster, "isolated", suspect=(3,)))
        await refused_removal(cluster, "cannot tell for certain who lives")
        await cluster.view().remove_node("node-3", lost=True)

        assert (await cluster.stored()).named("node-3") is None

    on_cluster(scenario)


def test_a_lost_node_may_keep_what_others_that_live_keep_too() -> None:
    """Where nobody decides, its partitions and logs cannot be moved before it is taken out."""

    async def scenario(cluster: SmallCluster) -> None:
        await cluster.place((3, (2, 3)), (3, (1, 3)), (1, (1, 2)), (1, (1, 2)))
        await cluster.log_on(4, (1, 2, 3))
        cluster.seen.change(doubtful(cluster, "isolated", suspect=(2, 3)))
        await refused_removal(cluster, "keeps partitions 0, and no other node", lost=True)
        await cluster.place((3, (1, 3)))
        await cluster.view().remove_node("node-3", lost=True)

        assert (await cluster.stored()).named("node-3") is None
        error = await unchanged(cluster, cluster.view().remove_node("node-2", lost=True))
        assert "may have the last copy of records of logs 4" in str(error)

    on_cluster(scenario)


def test_two_removals_at_once_do_not_take_all_copies() -> None:
    """Either node may go; with both, nobody would have what was stored on just those two."""

    async def scenario(cluster: SmallCluster) -> None:
        await cluster.place(*[(1, (1,))] * PARTITIONS)
        await cluster.log_on(1, (1, 2, 3), (1, 9))
        cluster.die(2, 3)
        results = await asyncio.gather(
            cluster.view().remove_node("node-2", lost=False),
            cluster.view().remove_node("node-3", lost=False),
            return_exceptions=True,
        )
        refused = [item for item in results if isinstance(item, NodeChangeError)]
        assert len(refused) == 1, results
        assert "last copy of records of logs 1" in refused[0].message
        assert len((await cluster.stored()).nodes) == 2

    on_cluster(scenario)


@pytest.mark.parametrize("doubt", ["settled", "isolated", "doubted"])
def test_a_node_that_may_be_wrong_removes_nobody(doubt: str) -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        cluster.seen.change(doubtful(cluster, doubt, dead=(3,)))
        await refused_removal(cluster, "ask another node")

    on_cluster(scenario)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((3, (1, 3)), "leads partitions 0 and keeps partitions 0: drain it"),
        ((1, (1, 3)), "keeps partitions 0: drain it"),
    ],
)
def test_what_leads_or_keeps_partitions_is_not_removed(
    place: tuple[int, tuple[int, ...]], text: str
) -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        await cluster.place(place)
        await refused_removal(cluster, text)

    on_cluster(scenario)


def test_what_keeps_last_copies_is_not_removed() -> None:
    """Records of two copies on three nodes: one node may go, and a second one may not."""

    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        await cluster.log_on(0, (1, 2))
        await cluster.log_on(7, (1, 2, 3), (1, 2))
        await cluster.set_node(2, storage="data-loss")
        await refused_removal(cluster, "may have the last copy of records of logs 7")
        # A node of the name with another disk has nothing of what the old one had.
        await cluster.set_node(2, storage="read-write")
        await cluster.log_on(8, (3, 9), (1, 2))
        await refused_removal(cluster, "may have the last copy of records of logs 8")

    on_cluster(scenario)


def test_what_is_to_keep_new_records_is_not_removed() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        await cluster.log_on(5, (1, 2), (1, 2, 3))
        await refused_removal(cluster, "perdure logs reconfigure 5")
        await cluster.log_on(5, (1, 2), (1, 2, 3), sealed=20)
        await cluster.view().remove_node("node-3", lost=False)

    on_cluster(scenario)


def test_a_metadata_server_is_not_removed() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        report = await cluster.servers.report()
        name = report.members[0].name
        await cluster.set_node(3, name=name)
        cluster.die(3)
        error = await unchanged(cluster, cluster.view().remove_node(name, lost=False))
        assert isinstance(error, NodeChangeError)
        assert f"perdure metadata remove {name}" in error.message

    on_cluster(scenario)


def test_a_node_that_came_back_meanwhile_is_not_removed() -> None:
    """It is looked at as dead; then it is started again, before the change is made."""

    async def scenario(cluster: SmallCluster) -> None:
        await emptied(cluster, 3)
        report = cluster.servers.report

        async def late() -> Any:
            found = await report()
            await cluster.set_node(3, generation=2)
            cluster.die(3)
            return found

        cluster.servers.report = late  # type: ignore[method-assign]
        with pytest.raises(NodeChangeError, match="has changed meanwhile"):
            await cluster.view().remove_node("node-3", lost=False)

        async def alive() -> Any:
            cluster.die()
            return await report()

        cluster.servers.report = alive  # type: ignore[method-assign]
        with pytest.raises(NodeChangeError, match="is alive"):
            await cluster.view().remove_node("node-3", lost=False)
        assert (await cluster.stored()).named("node-3") is not None

    on_cluster(scenario)


def test_the_node_that_answers_is_not_removed() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        error = await unchanged(cluster, cluster.view().remove_node("node-1", lost=True))
        assert "ask another node" in str(error)

    on_cluster(scenario)


# Metadata servers ----------------------------------------------------------------------------


def test_metadata_servers_are_shown_added_and_removed() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        hosts = cluster.hosts
        assert [member.name for member in (await cluster.view().metadata_members()).members] == [
            "n1"
        ]
        error = await unchanged(cluster, cluster.view().add_metadata_member("node-2"))
        assert "role metadata-server (cluster.roles)" in error.message
        assert "own address h2:1 among its cluster.metadata_servers" in error.message
        error = await unchanged(cluster, cluster.view().remove_metadata_member("n1"))
        assert isinstance(error, MemberChangeError)
        assert "add another one first" in error.message
        hosts.add()
        await cluster.set_node(
            2,
            roles=("admin", "metadata-server", "worker"),
            addresses=type(cluster.me.addresses)(hosts.addresses[1]),
        )
        added = await cluster.view().add_metadata_member("node-2")
        assert sorted(member.name for member in added.members) == ["n1", "n2"]
        left = await cluster.view().remove_metadata_member("n2")
        assert [member.name for member in left.members] == ["n1"]

    on_cluster(scenario)
