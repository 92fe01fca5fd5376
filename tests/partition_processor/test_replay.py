"""Determinism: the same log gives the same digest and rows, whatever the batches and restarts."""

import pytest

from perdure.core.random import SeededRandom
from perdure.log.types import Record
from perdure.partition_processor.context import WHOLE
from perdure.partition_processor.effects import ArmRetry, Effect, StartAttempt
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.records import (
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    Command,
)

from .support import RUN, RUN_DONE, Partition, add, answer, frames, greet, set_state


def random_command(random: SeededRandom, pending: list[Effect], number: int) -> Command:
    """Something that a leader in this state might append, now and then something late."""
    choice = random.bits(3)
    if not pending or choice < 3:
        return greet(number) if random.bits(1) else add(number, key="abc"[random.bits(4) % 3])
    effect = pending[random.bits(16) % len(pending)]
    if isinstance(effect, ArmRetry):
        return AttemptStarted(effect.invocation_id, effect.attempt + 1)
    assert isinstance(effect, StartAttempt)
    invocation_id, attempt = effect.invocation_id, effect.invocation.attempt
    if choice == 3:
        return AttemptFailed(
            invocation_id, attempt, 500, "boom", None if random.bits(3) == 0 else 10, True
        )
    if choice == 4:
        return AttemptChunk(invocation_id, attempt, "dp-1", frames(RUN, RUN_DONE))
    if effect.invocation.key is not None and choice < 7:
        state = set_state(b"n%d" % random.bits(1), b"%d" % number)
        return answer(invocation_id, state, attempt=attempt)
    return answer(invocation_id, attempt=attempt)


def history(seed: int, length: int = 120) -> Partition:
    """A partition after random commands, applied one at a time with restarts in between."""
    random = SeededRandom(seed)
    partition = Partition()
    for number in range(length):
        pending = list(pending_effects(partition.transaction, WHOLE))
        partition.apply(random_command(random, pending, number))
        if random.bits(4) == 0:
            partition.reopen()
    return partition


def replayed(records: list[Record], batch_length: int) -> Partition:
    """An empty partition fed the same records in batches of another length."""
    partition = Partition()
    for start in range(0, len(records), batch_length):
        partition.apply_records(records[start : start + batch_length])
    return partition


@pytest.mark.parametrize("seed", range(40))
def test_the_same_log_on_an_empty_store_gives_the_same_digest(seed: int) -> None:
    original = history(seed)
    records = original.history.copy()

    for batch_length in (1, 7, len(records)):
        copy = replayed(records, batch_length)
        assert copy.digest == original.digest
        assert copy.content() == original.content()
    assert original.digest != bytes(16)


def test_the_digest_tells_different_histories_apart() -> None:
    digests = {history(seed, length=30).digest for seed in range(30)}

    assert len(digests) == 30
