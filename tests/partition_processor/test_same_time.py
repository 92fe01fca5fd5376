"""Stores of another past than their log are told before anything is applied."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from perdure.core.ids import PartitionId
from perdure.log.chain import Chain, Segment, SegmentParams
from perdure.partition_processor.errors import AheadOfLogError
from perdure.partition_processor.same_time import check_same_records


def check(applied_lsn: int, epoch: int, *segments: tuple[int, int]) -> None:
    """Check a store against a log with segments of (base LSN, epoch)."""
    made = tuple(
        Segment(index + 1, base_lsn, "replicated", SegmentParams(index + 1, leader, 0))
        for index, (base_lsn, leader) in enumerate(segments)
    )
    log = cast("Any", SimpleNamespace(chain=Chain(made)))
    context = cast("Any", SimpleNamespace(lsn=applied_lsn, epoch=epoch))
    check_same_records(PartitionId(0), context, log)


@pytest.mark.parametrize(
    ("applied_lsn", "epoch", "segments"),
    [
        (0, 0, [(1, 1)]),  # empty
        (9, 1, [(1, 1), (10, 2)]),  # it has not come to the next leader yet
        (10, 2, [(1, 1), (10, 2)]),  # it has its announcement
        (15, 2, [(1, 1), (10, 2), (20, 2), (20, 3)]),
        (15, 3, [(1, 1), (10, 2)]),  # the last announcement was of a leader that wrote nothing
        (5, 1, [(10, 2)]),  # behind the trim point, which is told elsewhere
    ],
)
def test_who_has_applied_what_the_log_has_goes_on(
    applied_lsn: int, epoch: int, segments: list[tuple[int, int]]
) -> None:
    check(applied_lsn, epoch, *segments)


@pytest.mark.parametrize("applied_lsn", [10, 12, 30])
def test_who_has_applied_what_was_given_up_stops(applied_lsn: int) -> None:
    with pytest.raises(AheadOfLogError, match="another leader wrote from LSN 10 on"):
        check(applied_lsn, 1, (1, 1), (10, 2))
