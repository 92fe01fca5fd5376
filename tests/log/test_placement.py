"""Placements: quorums meet, and nodesets are chosen so that failures can be borne."""

from itertools import combinations

import msgspec
import pytest

from perdure.core.ids import LogId
from perdure.log.chain import SegmentParams, decode_chain, encode_chain, first_chain
from perdure.log.errors import CorruptChainError, LogUnavailableError
from perdure.log.placement import LogServer, Placement, Replica, place

SHAPES = [
    (nodes, zones, count, zone_count)
    for count in range(1, 6)
    for zone_count in (1, 2, 3)
    for nodes in range(1, count + 1)
    for zones in range(1, min(nodes, zone_count) + 1)
]


def servers(count: int, zone_count: int = 1) -> list[LogServer]:
    return [
        LogServer(f"n{item}", f"disk {item}", f"zone {item % zone_count}") for item in range(count)
    ]


def placement_of(nodes: int, zones: int, count: int, zone_count: int) -> Placement:
    members = tuple(
        Replica(item.node, item.storage, item.zone) for item in servers(count, zone_count)
    )
    return Placement(1, nodes, zones, members)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_f_majority_meets_every_write_quorum_and_nothing_less_does(
    shape: tuple[int, int, int, int],
) -> None:
    placement = placement_of(*shape)
    members = range(len(placement.members))
    sets = [
        set(chosen) for size in range(len(members) + 1) for chosen in combinations(members, size)
    ]
    quorums = [item for item in sets if placement.is_write_quorum(item)]

    for item in sets:
        meets_all = all(item & quorum for quorum in quorums)
        assert placement.is_f_majority(item) == meets_all


def test_copies_are_counted_by_nodes_and_by_zones() -> None:
    placement = placement_of(3, 2, 5, 2)  # Zone 0 has n0, n2, n4; zone 1 has n1, n3.

    assert not placement.is_write_quorum({0, 1})
    assert not placement.is_write_quorum({0, 2, 4})
    assert placement.is_write_quorum({0, 2, 3})


@pytest.mark.parametrize(
    ("nodes", "count", "expected"), [(1, 3, 1), (2, 3, 3), (2, 5, 3), (3, 5, 5)]
)
def test_a_nodeset_bears_the_loss_of_all_copies_but_one(
    nodes: int, count: int, expected: int
) -> None:
    chosen = place(servers(count), nodes=nodes, zones=1, own="n1", generation=7, turn=0)

    assert len(chosen.members) == expected
    assert chosen.tolerates(nodes - 1)
    assert (chosen.generation, chosen.nodes, chosen.zones) == (7, nodes, 1)
    assert chosen.members[0] == Replica("n1", "disk 1", "zone 0")


def test_a_nodeset_in_zones_grows_until_it_bears_a_loss() -> None:
    chosen = place(servers(4, 2), nodes=2, zones=2, own="n0", generation=1, turn=0)

    assert [item.zone for item in chosen.members] == ["zone 0", "zone 1"] * 2
    assert chosen.tolerates(1)


def test_too_few_servers_for_a_loss_are_taken_all_the_same() -> None:
    chosen = place(servers(2), nodes=2, zones=1, own="n9", generation=1, turn=0)

    assert len(chosen.members) == 2
    assert not chosen.tolerates(1)


def test_logs_spread_over_the_servers() -> None:
    firsts = {
        place(servers(5), nodes=2, zones=1, own="n9", generation=1, turn=turn).members[0].node
        for turn in range(5)
    }

    assert firsts == {f"n{item}" for item in range(5)}


@pytest.mark.parametrize(
    ("count", "zone_count", "nodes", "zones"), [(0, 1, 1, 1), (1, 1, 2, 1), (3, 1, 2, 2)]
)
def test_too_few_servers_are_refused(count: int, zone_count: int, nodes: int, zones: int) -> None:
    with pytest.raises(LogUnavailableError, match="log-servers"):
        place(servers(count, zone_count), nodes=nodes, zones=zones, own="n0", generation=1, turn=0)


def test_servers_that_take_nothing_are_left_out() -> None:
    known = [msgspec.structs.replace(item, writable=item.node != "n0") for item in servers(3)]
    chosen = place(known, nodes=2, zones=1, own="n0", generation=1, turn=0)

    assert [item.node for item in chosen.members] == ["n1", "n2"]


def test_the_dead_fill_up_what_the_living_are_too_few_for() -> None:
    def chosen(count: int, dead: set[str]) -> list[str]:
        seen = [
            msgspec.structs.replace(item, alive=item.node not in dead) for item in servers(count)
        ]
        placement = place(seen, nodes=2, zones=1, own="n0", generation=1, turn=0)
        return [item.node for item in placement.members]

    assert chosen(5, {"n1"}) == ["n0", "n2", "n3"]
    assert chosen(3, {"n0"}) == ["n1", "n2", "n0"]
    with pytest.raises(LogUnavailableError, match="usable are n2"):
        chosen(3, {"n0", "n1"})


def test_placement_is_kept_in_the_chain() -> None:
    placement = placement_of(2, 1, 3, 1)
    chain = first_chain("replicated", SegmentParams(5, 1, 0, "n0", placement))

    assert decode_chain(LogId(0), encode_chain(chain)) == chain
    assert b"placement" not in encode_chain(first_chain("local", SegmentParams(5, 1, 0, "n0")))


@pytest.mark.parametrize(
    "wrong",
    [
        Placement(1, 2, 1, (Replica("a", "x"),)),
        Placement(1, 0, 0, (Replica("a", "x"),)),
        Placement(1, 1, 1, (Replica("a", "x"), Replica("a", "y"))),
        Placement(1, 2, 2, (Replica("a", "x", "z"), Replica("b", "y", "z"))),
    ],
)
def test_impossible_placement_is_a_damaged_chain(wrong: Placement) -> None:
    chain = first_chain("replicated", SegmentParams(5, 1, 0, "n0", wrong))

    assert wrong.problem()
    with pytest.raises(CorruptChainError, match="placed wrongly"):
        decode_chain(LogId(0), encode_chain(chain))
