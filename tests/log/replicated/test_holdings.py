"""What log-servers hold of a segment, compared: who lacks what, and whether they agree."""

import asyncio
from collections.abc import Mapping

import pytest

from perdure.core.storage.memory import MemoryStore
from perdure.log.replicated import holdings as under_test
from perdure.log.replicated.holdings import Comparison, SegmentHoldings, ServerHolding
from perdure.log.replicated.messages import OK, Spans

from ..support import segment_of
from .support import Cluster
from .test_loglet import filled, has_tail, run, tampered

END = 1 << 40


async def seen(
    cluster: Cluster, segment: object, first: int = 1, end: int = END, by: str = "n1"
) -> SegmentHoldings:
    found = await cluster.provider(by).holdings(segment, first, end, 1)  # type: ignore[arg-type]
    assert found is not None
    return found


def of(found: SegmentHoldings) -> dict[str, ServerHolding]:
    return {item.node: item for item in found.servers}


def test_servers_that_hold_the_same_agree() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2, 3, 1)
        for name in cluster.names:
            await has_tail(cluster, name, segment, 7)
        found = await seen(cluster, segment)
        assert (found.verdict, found.fewest, found.copies) == ("whole", 3, 2)
        assert (found.first_offset, found.end_offset, found.complete) == (1, 7, True)
        assert {item.batches for item in found.servers} == {3}
        assert len({item.digest for item in found.servers}) == 1
        assert not any(item.sealed or item.final_tail for item in found.servers)

        await loglet.seal()
        found = await seen(cluster, segment, by="n2")
        assert {(item.sealed, item.final_tail) for item in found.servers} <= {(True, 7), (True, 0)}
        assert any(item.final_tail == 7 for item in found.servers)

    run(story)


def test_what_a_server_missed_is_told_and_is_no_fault() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2)
        for name in cluster.names:
            await has_tail(cluster, name, segment, 3)
        await cluster.stop_server("s3")
        await filled(loglet, 3, 1)
        await cluster.restart_server("s3")
        while not all(client.is_connected for client in loglet.members.clients):
            await asyncio.sleep(0)
        await filled(loglet, 4)
        await has_tail(cluster, "s3", segment, 11)
        found = await seen(cluster, segment)
        assert (found.verdict, found.fewest) == ("whole", 2)
        assert of(found)["s3"].missing == ((3, 6),)
        assert of(found)["s3"].batches == 2
        assert of(found)["s1"].missing == ()
        assert of(found)["s1"].digest == of(found)["s2"].digest != of(found)["s3"].digest
        # A part, and one that begins and ends within batches.
        part = await seen(cluster, segment, 4, 6)
        assert (part.verdict, part.first_offset, part.fewest) == ("whole", 4, 2)
        assert not part.complete or part.end_offset >= 6

    run(story)


def test_a_damaged_copy_and_servers_that_are_away_make_it_thin_and_then_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from perdure.log.replicated import provider

    # Who is connected has all the time, and who is not is asked once.
    monkeypatch.setattr(provider, "HOLDINGS_SECONDS", 60.0)
    monkeypatch.setattr(under_test, "_AGAIN_SECONDS", 1000.0)

    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2, 3)
        for name in cluster.names:
            await has_tail(cluster, name, segment, 6)
        tampered(cluster, "s1", segment, 5)
        found = await seen(cluster, segment)
        assert (found.verdict, found.fewest) == ("whole", 2)
        assert of(found)["s1"].missing == ((3, 5),)
        await cluster.stop_server("s2")
        found = await seen(cluster, segment)
        assert (found.verdict, found.fewest) == ("thin", 1)
        assert (of(found)["s2"].status, bool(of(found)["s2"].problem)) == ("no answer", True)
        await cluster.stop_server("s3")
        found = await seen(cluster, segment)
        assert (found.verdict, found.fewest) == ("missing", 0)
        await cluster.stop_server("s1")
        assert (await seen(cluster, segment)).verdict == "unknown"

    run(story)


def test_a_server_with_another_disk_is_told() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2)
        await cluster.stop_server("s2")
        cluster.stores["s2"] = MemoryStore()
        await cluster.restart_server("s2")
        found = await seen(cluster, segment)
        assert of(found)["s2"].status == "lost"
        assert found.verdict == "whole"

    run(story)


def test_what_is_trimmed_is_not_compared() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2, 3)
        for name in cluster.names:
            await has_tail(cluster, name, segment, 6)
        await loglet.trim(2)
        found = await seen(cluster, segment)
        assert (found.first_offset, found.end_offset, found.verdict) == (3, 6, "whole")

    run(story)


# The comparison alone ----------------------------------------------------------------------------


def compare(
    pages: list[Mapping[int, tuple[list[tuple[int, int]], int]]],
    end: int,
    *,
    first: int = 1,
    at_border: bool = True,
) -> Comparison:
    """Compare pages of (spans, how far they go) by member."""
    compared = Comparison(pages[0], 2, first, at_border=at_border)
    for page in pages:
        compared.page(
            {member: Spans(0, OK, spans, reached, 0) for member, (spans, reached) in page.items()},
            end,
        )
    return compared


def test_pages_go_as_far_as_the_shortest_answer() -> None:
    compared = compare(
        [
            {0: ([(1, 2), (3, 5)], 6), 1: ([(1, 2)], 3)},
            {0: ([(3, 5), (6, 9)], 10), 1: ([(3, 5), (6, 9)], 10)},
        ],
        10,
    )
    assert (compared.next_offset, compared.verdict()) == (10, "whole")
    assert [tally.batches for tally in compared.tallies.values()] == [3, 3]
    assert len({tally.digest for tally in compared.tallies.values()}) == 1


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [
        ([(1, 2), (3, 5)], [(1, 2), (3, 5)], "whole"),
        ([(1, 2), (3, 5)], [(1, 2)], "thin"),
        ([(1, 2)], [(1, 2)], "missing"),
        ([(3, 5)], [(3, 5)], "missing"),
        ([(1, 2), (3, 5)], [(1, 3), (4, 5)], "conflict"),
        ([(1, 5)], [(1, 2), (3, 5)], "conflict"),
        ([(1, 2), (3, 6)], [(1, 2), (3, 5)], "conflict"),
        ([], [], "missing"),
    ],
)
def test_verdicts(left: list[tuple[int, int]], right: list[tuple[int, int]], verdict: str) -> None:
    compared = compare([{0: (left, 6), 1: (right, 6)}], 6)

    assert compared.verdict() == verdict
    assert compared.next_offset >= 6


def test_a_start_within_a_batch_is_no_hole() -> None:
    spans = [(5, 6), (7, 9)]
    compared = compare([{0: (spans, 10), 1: (spans, 10)}], 10, first=4, at_border=False)
    assert compared.verdict() == "whole"
    assert compare([{0: (spans, 10), 1: (spans, 10)}], 10, first=4).verdict() == "missing"


def test_ranges_are_joined_and_bounded() -> None:
    spans = [(number, number) for number in range(1, 101)]
    some = [span for span in spans if span[0] % 4 in (0, 1)]
    compared = compare([{0: (spans, 101), 1: (some, 101)}], 101)

    missing = compared.tallies[1].missing
    assert missing[:2] == [(2, 3), (6, 7)]
    assert len(missing) == under_test.RANGES_SHOWN
    assert compared.tallies[0].missing == []
