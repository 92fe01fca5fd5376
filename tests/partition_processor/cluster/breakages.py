"""Rules of following and leading that are broken on purpose; worlds must find each."""

from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.ids import PartitionId
from perdure.log.virtual_log import VirtualLog
from perdure.metadata.api import MetadataStore
from perdure.partition_processor import following, role_changes
from perdure.partition_processor.attempt_keeper import AttemptKeeper
from perdure.partition_processor.leadership import LeaderClaim, claim_leadership, read_claim
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.proposals import Proposals
from perdure.partition_processor.read_barrier import ReadBarrier


def reads_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    """A leader that may be deposed answers reads from what it has."""
    patch.setattr(ReadBarrier, "needed", staticmethod(lambda _log: False))


def lost_records_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A leader goes on numbering behind a gap."""
    patch.setattr(Proposals, "have_lost_records", lambda *_: False)


def an_epoch_is_claimed_twice(patch: pytest.MonkeyPatch) -> None:
    """Who claims takes the epoch that is there."""

    async def claim(store: MetadataStore, partition: PartitionId, node: str) -> LeaderClaim:
        known: LeaderClaim | None = await read_claim(store, partition)
        return await claim_leadership(store, partition, node) if known is None else known

    patch.setattr(role_changes, "claim_leadership", claim)


def the_old_tail_is_not_applied(patch: pytest.MonkeyPatch) -> None:
    """A candidate announces itself without what its predecessor committed last."""

    async def replayed(_processor: PartitionProcessor) -> bool:
        return True

    patch.setattr(PartitionProcessor, "replay_some", replayed)


def who_steps_down_keeps_the_log(patch: pytest.MonkeyPatch) -> None:
    """Commits of the segment still come in beside what the follower reads."""
    patch.setattr(VirtualLog, "resign", lambda *_: None)


def attempts_go_on(patch: pytest.MonkeyPatch) -> None:
    """A node that has handed over keeps its attempts."""
    patch.setattr(AttemptKeeper, "give_up_all", lambda *_: None)


def followers_act(patch: pytest.MonkeyPatch) -> None:
    """Who has led once carries out effects as a follower."""
    run_effects = PartitionProcessor.run_effects

    def run(processor: Any) -> None:
        if processor.role != "follower" or not processor._run:
            run_effects(processor)
            return
        processor.role = "leader"
        try:
            run_effects(processor)
        finally:
            processor.role = "follower"

    patch.setattr(PartitionProcessor, "run_effects", run)


def followers_do_not_write(patch: pytest.MonkeyPatch) -> None:
    """What was read is applied and not given to the store."""

    def apply(processor: PartitionProcessor, batches: Any, _finish: object) -> None:
        for item in batches:
            processor.committed(item)

    patch.setattr(following, "_apply", apply)


BREAKAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    breakage.__name__: breakage
    for breakage in (
        reads_do_not_wait,
        lost_records_are_ignored,
        an_epoch_is_claimed_twice,
        the_old_tail_is_not_applied,
        who_steps_down_keeps_the_log,
        attempts_go_on,
        followers_act,
        followers_do_not_write,
    )
}
