"""Where partitions go: what must hold of every plan, and what must not move."""

from collections import Counter
from dataclasses import replace

import pytest

from perdure.metadata.placement import (
    PLACEMENT_FORMAT,
    PartitionPlacement,
    Placement,
    decode_placement,
    encode_placement,
)
from perdure.node.controller.moves import MoveRefusedError, move_lead
from perdure.node.controller.planner import plan
from perdure.node.controller.sketch import Facts

from .facts import drawn, facts_of, moves, nodes_of, plan_to_the_end, view_of

SEEDS = 400


def leads(placement: Placement) -> Counter[int]:
    return Counter(item.leader for item in placement.partitions)


def copies(placement: Placement) -> Counter[int]:
    return Counter(node for item in placement.partitions for node in item.replicas)


def check(facts: Facts, placement: Placement) -> None:
    """What holds of every plan, balanced or not."""
    nodes, view = facts.nodes, facts.view
    fit = {node.id for node in nodes.having("worker") if not node.drained}
    may_lead = {
        status.node_id
        for status in view.nodes
        if status.node_id in fit and status.state != "dead" and not status.leaving
    }
    takers = fit & set(view.steady())
    assert len(placement.partitions) == nodes.partition_count
    for item in placement.partitions:
        assert item.leader in {0, *item.replicas}
        assert item.leader == 0 or item.leader in may_lead
        if takers:
            assert item.leader
        assert len(item.replicas) == len(set(item.replicas)) <= max(nodes.replicas, 1)
        assert all(nodes.node(node) is not None for node in item.replicas)
        if len(takers) >= nodes.replicas:
            assert len(item.replicas) == nodes.replicas
            assert not facts.lost & set(item.replicas)
            assert set(item.replicas) <= fit


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
def test_every_plan_names_who_lives_and_comes_to_rest(first: int) -> None:
    for seed in range(first, first + 100):
        before, after = drawn(seed)
        placement = None
        for facts in (before, after, before):
            # The number of partitions is fixed for the life of a cluster.
            nodes = facts.nodes
            if placement is not None:
                count = len(placement.partitions)
                nodes = type(nodes)(1, "c", "f", count, nodes.replicas, nodes.next_id, nodes.nodes)
            facts = replace(facts, nodes=nodes)
            first_plan = plan(facts, placement)
            check(facts, first_plan.placement)
            assert first_plan == plan(facts, placement), f"seed {seed}"
            placement, _ = plan_to_the_end(facts, placement)
            check(facts, placement)


@pytest.mark.parametrize(("count", "replicas"), [(1, 1), (2, 2), (3, 3), (5, 3), (7, 3), (4, 1)])
def test_settled_nodes_come_to_have_as_much_as_each_other(count: int, replicas: int) -> None:
    facts = facts_of(nodes_of(count, partitions=24, replicas=replicas))
    placement, _ = plan_to_the_end(facts, None)

    for counts in (leads(placement), copies(placement)):
        assert max(counts.values()) - min(counts[node] for node in range(1, count + 1)) <= 1


def test_zones_each_have_a_copy() -> None:
    facts = facts_of(nodes_of(6, zones="aabbcc"))
    placement, _ = plan_to_the_end(facts, None)

    for item in placement.partitions:
        assert {"aabbcc"[node - 1] for node in item.replicas} == {"a", "b", "c"}


def test_a_new_zone_gets_copies() -> None:
    before, _ = plan_to_the_end(facts_of(nodes_of(4, zones="aabb")), None)
    placement, _ = plan_to_the_end(facts_of(nodes_of(5, zones="aabbc")), before)

    assert all(5 in item.replicas for item in placement.partitions)


def test_a_death_moves_the_leads_of_the_dead_and_nothing_else() -> None:
    nodes = nodes_of(5)
    before, _ = plan_to_the_end(facts_of(nodes), None)
    after = plan(facts_of(nodes, dead=(2,)), before).placement

    assert moves(before, after) == len(before.led_by(2)) > 0
    # A restart is quicker than a copy.
    assert copies(after) == copies(before)


def test_copies_of_who_is_lost_are_made_elsewhere() -> None:
    nodes = nodes_of(5)
    before, _ = plan_to_the_end(facts_of(nodes), None)
    facts = replace(facts_of(nodes, dead=(2,)), lost=frozenset({2}))
    after, _ = plan_to_the_end(facts, before)

    assert after.kept_by(2) == ()
    assert all(len(item.replicas) == 3 for item in after.partitions)


def test_who_comes_back_gets_nothing_until_it_is_settled() -> None:
    nodes = nodes_of(3)
    before, _ = plan_to_the_end(facts_of(nodes), None)
    gone, _ = plan_to_the_end(facts_of(nodes, dead=(2,)), before)
    back = facts_of(nodes)

    assert plan(replace(back, settled=frozenset({1, 3})), gone).placement == gone

    assert len(plan_to_the_end(back, gone)[0].led_by(2)) >= 2


def test_suspects_keep_what_they_have_and_get_nothing() -> None:
    nodes = nodes_of(3)
    before, _ = plan_to_the_end(facts_of(nodes), None)
    assert plan(facts_of(nodes, suspect=(1, 2, 3)), before).placement == before

    after, _ = plan_to_the_end(facts_of(nodes, suspect=(3,), dead=(1,)), before)
    assert len(after.led_by(3)) == len(before.led_by(3))


@pytest.mark.parametrize("how", ["drained", "leaving"])
def test_draining_moves_the_leads_away(how: str) -> None:
    nodes = nodes_of(4)
    before, _ = plan_to_the_end(facts_of(nodes), None)
    if how == "drained":
        after, _ = plan_to_the_end(facts_of(nodes_of(4, drained=(2,))), before)
        assert after.kept_by(2) == ()
    else:
        after, _ = plan_to_the_end(facts_of(nodes, leaving=(2,)), before)
        assert after.kept_by(2) == before.kept_by(2)
    assert after.led_by(2) == ()


def test_the_last_copy_stays_even_on_a_drained_node() -> None:
    before, _ = plan_to_the_end(facts_of(nodes_of(1, replicas=1)), None)
    planned = plan(facts_of(nodes_of(1, replicas=1, drained=(1,))), before)

    assert all(item.replicas == (1,) for item in planned.placement.partitions)
    assert any("drained" in warning for warning in planned.warnings)
    assert any("no leader" in warning for warning in planned.warnings)


def test_more_replicas_than_nodes_are_fewer_and_a_warning() -> None:
    two = facts_of(nodes_of(2))
    planned = plan(two, None)
    assert all(item.replicas == (1, 2) for item in planned.placement.partitions)
    assert any("to have 3 replicas, but only 2" in warning for warning in planned.warnings)

    # And the cluster grows into it.
    grown = plan(facts_of(nodes_of(3)), planned.placement)
    assert all(item.replicas == (1, 2, 3) for item in grown.placement.partitions)
    assert grown.warnings == ()


def test_who_is_further_leads() -> None:
    nodes = nodes_of(3, partitions=1)
    before = plan(facts_of(nodes), None).placement
    leader = before.partitions[0].leader
    others = sorted({1, 2, 3} - {leader})
    applied = {(0, others[0]): 5, (0, others[1]): 9, (0, leader): 99}
    after = plan(replace(facts_of(nodes, dead=(leader,)), applied=applied), before).placement

    assert after.partitions[0].leader == others[1]


def test_a_copy_that_is_unfit_never_leads_while_another_lives() -> None:
    nodes = nodes_of(3, partitions=1, replicas=2)
    before = plan(facts_of(nodes), None).placement
    leader = before.partitions[0].leader
    (other,) = set(before.partitions[0].replicas) - {leader}
    (third,) = {1, 2, 3} - {leader, other}
    unfit = frozenset({(0, leader)})

    # It loses the lead, also when it is further.
    facts = replace(facts_of(nodes), unfit=unfit, applied={(0, leader): 9, (0, other): 1})
    after, _ = plan_to_the_end(facts, before)
    assert after.partitions[0].leader == other
    assert plan(facts, after).warnings == ()
    # And does not get it when the other one dies: a node that has nothing yet is filled.
    facts = replace(facts_of(nodes, dead=(other,)), unfit=unfit)
    assert plan(facts, after).placement.partitions[0].leader == third
    with pytest.raises(MoveRefusedError, match="is not to be gone on from"):
        move_lead(nodes, facts.view, after, 0, leader, unfit=unfit)
    # Where nobody is left, nobody leads, and it is said how that ends.
    alone = replace(facts_of(nodes, dead=(other, third)), unfit=unfit)
    planned = plan(alone, after)
    assert planned.placement.partitions[0].leader == 0
    assert [warning for warning in planned.warnings if "no leader" in warning] == [
        "partition 0 has no leader, as its only copies that live are not to be gone on from "
        f"(node-{leader}); start the nodes that have others; if none come back: perdure "
        f"partitions refill 0 --on node-{leader}"
    ]
    # Once it is filled anew it may.
    facts = facts_of(nodes, dead=(other, third))
    assert plan(facts, planned.placement).placement.partitions[0].leader == leader


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_no_plan_has_an_unfit_copy_lead_or_gives_a_node_one(first: int) -> None:
    for seed in range(first, first + 20):
        _, facts = drawn(seed)
        before, _ = plan_to_the_end(facts, None)
        unfit = frozenset(
            (number, item.leader or 1)
            for number, item in enumerate(before.partitions)
            if number % 3 == seed % 3
        )
        facts = replace(facts, unfit=unfit)
        after, _ = plan_to_the_end(facts, before)
        if all(item.leader for item in after.partitions):
            check(facts, after)
        for number, node in unfit:
            assert after.partitions[number].leader != node
            if node not in before.partitions[number].replicas:
                assert node not in after.partitions[number].replicas


def uneven() -> tuple[Facts, Placement]:
    """Three nodes that keep everything, of which node 3 leads nothing."""
    nodes = nodes_of(3, partitions=8)
    placement, _ = plan_to_the_end(facts_of(nodes, dead=(3,)), None)
    back, _ = plan_to_the_end(replace(facts_of(nodes), settled=frozenset({1, 2})), placement)
    assert back.led_by(3) == ()
    return facts_of(nodes), back


def test_balance_gives_no_lead_to_who_is_far_behind() -> None:
    facts, before = uneven()
    everybody = {(number, node) for number in range(8) for node in (1, 2, 3)}
    far = frozenset(pair for pair in everybody if pair[1] != 3)
    assert plan(replace(facts, near=far), before).placement == before
    assert plan(replace(facts, near=frozenset()), before).placement == before

    # What it is near with, and no more.
    some = far | {(5, 3)}
    after, _ = plan_to_the_end(replace(facts, near=some), before)
    assert after.led_by(3) == (5,)
    after, _ = plan_to_the_end(replace(facts, near=frozenset(everybody)), before)
    assert len(after.led_by(3)) >= 2


@pytest.mark.parametrize("how", ["dead", "leaving", "drained"])
def test_a_lead_that_must_go_goes_also_to_who_is_far_behind(how: str) -> None:
    nodes = nodes_of(3)
    before, _ = plan_to_the_end(facts_of(nodes), None)
    facts = facts_of(nodes_of(3, drained=(2,))) if how == "drained" else None
    facts = facts or facts_of(nodes, **{how: (2,)})
    after = plan(replace(facts, near=frozenset()), before).placement
    assert after.led_by(2) == ()
    assert all(item.leader for item in after.partitions)


def test_a_copy_moves_from_its_leader_only_when_another_is_near() -> None:
    nodes = nodes_of(3, partitions=6, replicas=2)
    before = Placement(PLACEMENT_FORMAT, (PartitionPlacement((1, 2), 1, False),) * 6)
    here = frozenset((number, 1) for number in range(6))
    after, _ = plan_to_the_end(replace(facts_of(nodes), near=here), before)
    assert (len(after.kept_by(1)), len(after.kept_by(3))) == (6, 3)
    assert after.led_by(1) == (0, 1, 2, 3, 4, 5)
    both = here | {(2, 2)}
    after, _ = plan_to_the_end(replace(facts_of(nodes), near=both), before)
    assert (after.led_by(2), len(after.kept_by(1))) == ((2,), 5)

    # Of a single copy nobody can be near: it moves, with the lead.
    nodes = nodes_of(2, partitions=6, replicas=1)
    before, _ = plan_to_the_end(facts_of(nodes, dead=(2,)), None)
    after, _ = plan_to_the_end(replace(facts_of(nodes), near=frozenset()), before)
    assert len(after.led_by(2)) == 3


def test_a_move_is_honoured_and_kept() -> None:
    nodes = nodes_of(4, partitions=4)
    facts = facts_of(nodes)
    placement, _ = plan_to_the_end(facts, None)
    for partition in range(4):
        placement = move_lead(nodes, facts.view, placement, partition, 3)
        check(facts, placement)
    placement, _ = plan_to_the_end(facts, placement)

    assert placement.led_by(3) == (0, 1, 2, 3)


def test_a_moved_lead_moves_again_when_it_must() -> None:
    nodes = nodes_of(3, partitions=4)
    facts = facts_of(nodes)
    placement = move_lead(nodes, facts.view, plan_to_the_end(facts, None)[0], 0, 3)
    placement, _ = plan_to_the_end(facts_of(nodes, dead=(3,)), placement)

    assert placement.partitions[0].leader in (1, 2)
    assert not placement.partitions[0].moved


def test_a_move_to_who_has_no_copy_gives_it_one() -> None:
    nodes = nodes_of(4, partitions=4, replicas=1)
    facts = facts_of(nodes)
    before, _ = plan_to_the_end(facts, None)
    target = next(node for node in range(1, 5) if node not in before.partitions[0].replicas)
    after = move_lead(nodes, facts.view, before, 0, target)

    assert after.partitions[0].replicas == (target,)


@pytest.mark.parametrize(
    ("node_id", "reason"),
    [
        (2, "is dead"),
        (3, "is drained"),
        (4, "not the role"),
        (5, "is suspect"),
        (6, "about to stop"),
        (9, "no node n9"),
    ],
)
def test_a_move_to_who_cannot_lead_is_refused_with_the_reason(node_id: int, reason: str) -> None:
    nodes = nodes_of(6, drained=(3,), idle=(4,))
    view = view_of(nodes, dead=(2,), suspect=(5,), leaving=(6,))
    placement = plan(facts_of(nodes), None).placement
    with pytest.raises(MoveRefusedError, match=reason) as refused:
        move_lead(nodes, view, placement, 0, node_id)

    assert "these can lead it: node-1" in str(refused.value)
    with pytest.raises(MoveRefusedError, match="no partition 8"):
        move_lead(nodes, view, placement, 8, 1)


def test_a_placement_is_read_as_it_was_written() -> None:
    placement = plan(facts_of(nodes_of(3)), None).placement

    assert decode_placement(encode_placement(placement)) == placement
