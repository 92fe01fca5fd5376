"""Upkeep: when a log goes on on other log-servers, and how well its segments are kept."""

from itertools import product

import msgspec
import pytest

from perdure.log.chain import Segment, SegmentParams
from perdure.log.placement import LogServer, Placement, Replica, place
from perdure.log.upkeep import Review, health_of, renewable_through, review

NAMES = ("a", "b", "c", "d")


def placed(*names: str, nodes: int = 2) -> Placement:
    return Placement(1, nodes, 1, tuple(Replica(name, f"disk {name}") for name in names))


def servers(
    names: str = "abcd", *, dead: str = "", drained: str = "", lost: str = ""
) -> list[LogServer]:
    """Those of `names`; a lost one is there with another disk."""
    return [
        LogServer(
            name,
            f"new disk {name}" if name in lost else f"disk {name}",
            writable=name not in drained,
            alive=name not in dead,
            unwanted="is drained" if name in drained else "",
        )
        for name in names
    ]


def judged(placement: Placement, known: list[LogServer], nodes: int = 2) -> Review:
    return review(placement, known, nodes=nodes, zones=1, own="a", turn=0)


def test_a_dead_member_is_replaced_where_somebody_can_take_its_place() -> None:
    assert judged(placed("a", "b", "c"), servers(dead="c")) == Review(("c is dead",))
    # With nobody to take its place it stays: a smaller nodeset cannot be ended without all of it.
    assert judged(placed("a", "b", "c"), servers("abc", dead="c")) == Review()


def test_who_is_out_of_use_goes_in_any_case() -> None:
    assert judged(placed("a", "b", "c"), servers("abc", drained="c")).reasons == ("c is drained",)
    lost = judged(placed("a", "b", "c"), servers("abc", lost="c"))
    assert "c does not have the disk any more" in lost.reasons[0]
    removed = judged(placed("a", "b", "c"), servers("ab"))
    assert (removed.reasons, removed.hindered) == (lost.reasons, "")


def test_those_that_are_left_can_end_what_a_disk_is_lost_of() -> None:
    lost = judged(placed("a", "b"), servers("abc", lost="b"))
    assert (len(lost.reasons), lost.hindered) == (1, "")
    assert health_of(placed("a", "b"), servers("abc", lost="b")).health == "under-replicated"
    # Nobody says so of a server that is not there.
    for known in (servers("ac"), servers("abc", lost="b", dead="b")):
        assert "too few" in judged(placed("a", "b"), known).hindered
        assert health_of(placed("a", "b"), known).health == "unavailable"


def test_a_small_nodeset_grows_when_somebody_is_back() -> None:
    assert judged(placed("a", "b"), servers("ab")) == Review()
    assert judged(placed("a", "b"), servers("abc")).reasons == ("3 log-servers can keep it",)
    assert judged(placed("a", "b"), servers("abc", dead="c")) == Review()


def test_more_copies_than_there_were_are_made_from_now_on() -> None:
    more = judged(placed("a", "b", "c"), servers(), nodes=3)
    assert more.reasons == ("there are to be 3 copies in 1 zones",)
    assert more.hindered == ""


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (servers("abc", drained="bc"), "needs 2 log-servers"),
        (servers("abcde", dead="bc"), "too few of its log-servers are there to end"),
    ],
)
def test_what_cannot_be_finished_is_not_begun(known: list[LogServer], why: str) -> None:
    found = judged(placed("a", "b", "c"), known)

    assert found.reasons
    assert why in found.hindered


def test_health_says_who_is_missing_and_what_that_means() -> None:
    kept = placed("a", "b", "c")
    assert health_of(kept, servers()).health == "whole"
    assert health_of(kept, servers(drained="c")).health == "whole"
    one = health_of(kept, servers(dead="c"))
    assert (one.health, one.problems) == ("under-replicated", ("c is dead",))
    assert health_of(kept, servers(dead="bc")).health == "unavailable"
    assert health_of(kept, servers(dead="b", lost="c")).health == "unavailable"
    # What only b and c had is gone.
    assert health_of(kept, servers(lost="bc")).health == "incomplete"


def test_a_change_is_followed_by_no_other_and_always_gives_a_nodeset_of_fit_servers() -> None:
    """Over all states of four servers and all nodesets of them."""
    states = ("fit", "dead", "drained", "lost")
    for nodes, of in product((1, 2), product(states, repeat=4)):
        marked = {state: "".join(n for n, s in zip(NAMES, of, strict=True) if s == state)
                  for state in states}  # fmt: skip
        known = servers(dead=marked["dead"], drained=marked["drained"], lost=marked["lost"])
        for members in ("ab", "abc", "bcd", "d"):
            if len(members) < nodes:
                continue
            before = placed(*members, nodes=nodes)
            found = judged(before, known, nodes)
            if not found.reasons or found.hindered:
                continue
            after = place(known, nodes=nodes, zones=1, own="a", generation=1, turn=0)
            fit = {server.node for server in known if server.writable}
            assert {member.node for member in after.members} <= fit
            assert judged(after, known, nodes) == Review()
            assert msgspec.structs.replace(before, members=after.members) == after


def test_sealed_segments_are_renewed_whose_disks_are_lost_or_out_of_use() -> None:
    def through(known: list[LogServer], *placements: Placement | None) -> int:
        segments = [
            Segment(index + 1, index * 10 + 1, "replicated", SegmentParams(1, 1, 0, "a", placement))
            for index, placement in enumerate(placements)
        ]
        return renewable_through(segments, known)

    old, new = placed("a", "b", "c"), placed("a", "b", "d")
    assert through(servers(), old, old, new) == 0
    assert through(servers(dead="c"), old, old, new) == 0
    for known in (servers(lost="c"), servers("abd"), servers(drained="c")):
        assert through(known, old, old, new) == 20
        assert through(known, old, new, new) == 10
        # The last one is not sealed: the log leaves it first.
        assert through(known, new, old) == 0
        assert through(known, old) == 0
    assert through(servers(lost="abcd"), None, None) == 0
