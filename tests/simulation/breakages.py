"""Products that are broken on purpose: each must be found by simulated worlds.

A breakage patches product objects and never stands in product code. `BREAKAGES` maps its name to
what sets it up and gives the options of the worlds that are to find it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from perdure.core.errors import StorageError
from perdure.log.answers import (
    Answer,
    Indeterminate,
    NotChangedSince,
    OutOfOrder,
    Producer,
    Refusal,
)
from perdure.log.batch_codec import batch_key, decode_batch
from perdure.log.chain_view import ChainView
from perdure.log.conditions import ConditionTable
from perdure.log.elsewhere import NotHere
from perdure.log.log_store import KvLogStore
from perdure.log.producers import ProducerFilter, ProducerTable, ProducerVerdict
from perdure.log.remote.appends import RemoteAppends
from perdure.log.remote.client import AppendClient
from perdure.log.sequencer import AnswerListener, Append, Sequencer
from perdure.log.types import Batch, Record
from perdure.metadata.local import LocalMetadataStore
from perdure.partition_processor.effects import ArmRetry
from perdure.partition_processor.invoker.attempt import Attempt
from perdure.partition_processor.lifecycle import lock
from perdure.partition_processor.log_trimmer import LogTrimmer
from perdure.partition_processor.minting import Minter
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.snapshots.service import Snapshots
from perdure.partition_processor.tables.invocations import Invocation
from perdure.testing.simulation import WorldOptions
from perdure.testing.simulation.faults import LOST_BATCH
from perdure.testing.simulation.node import SimulatedNode
from perdure.testing.simulation.observer import BATCH_ROWS

Breakage = Callable[[pytest.MonkeyPatch], WorldOptions]

LATE_ANSWERS = WorldOptions(
    fault_kinds=("segment changes behind a frozen worker",), abort_timeout="150ms"
)
"""Worlds where attempts that were given up long ago still send something."""

PARTITION_ONLY = WorldOptions(bare_log=False, end_ns=10_000_000_000)
"""Worlds that are given up early, for what shows when some work is never finished."""

LOST_BATCHES = WorldOptions(fault_kinds=(LOST_BATCH, "kill", "log 1 changes"))
"""Worlds where the disk loses a batch in the middle of a loglet."""


def ack_before_sync(_patch: pytest.MonkeyPatch) -> WorldOptions:
    """The log's writer commits first and syncs some milliseconds later."""

    def alter(node: SimulatedNode) -> None:
        assert node.engine is not None
        writer: Any = node.engine.writer
        loop = asyncio.get_running_loop()

        def sync_later() -> None:
            try:
                writer._kv_store.sync()
            except StorageError:
                return

        def sync_nothing() -> int:
            loop.call_later(0.005, sync_later)
            return 0

        writer._sync = sync_nothing

    return WorldOptions(alter_node=alter)


def metadata_not_synced(patch: pytest.MonkeyPatch) -> WorldOptions:
    """The metadata store answers before its disk has synced."""

    def write(self: Any, stored_key: bytes, entry: bytes) -> None:
        self._store.write([(stored_key, entry)])

    patch.setattr(LocalMetadataStore, "_write", write)
    return PARTITION_ONLY


def idempotency_key_ignored(patch: pytest.MonkeyPatch) -> WorldOptions:
    """Every try of a request becomes an invocation of its own."""
    mint = Minter.mint

    def mint_new(self: Minter, *target: Any, **options: Any) -> Any:
        return mint(self, *target[:4], None, **options)

    patch.setattr(Minter, "mint", mint_new)
    return WorldOptions()


def retries_forgotten(patch: pytest.MonkeyPatch) -> WorldOptions:
    """A new leader does not take up the waits of invocations that back off."""

    def pending(*arguments: Any) -> Any:
        return [item for item in pending_effects(*arguments) if not isinstance(item, ArmRetry)]

    patch.setattr("perdure.partition_processor.processor.pending_effects", pending)
    return PARTITION_ONLY


def lock_not_taken(patch: pytest.MonkeyPatch) -> WorldOptions:
    """Invocations of one object run side by side."""
    patch.setattr(lock, "take_lock", lambda *_arguments: -1)
    return WorldOptions()


def apply_not_deterministic(_patch: pytest.MonkeyPatch) -> WorldOptions:
    """Applying a record gives another row on the live node than in a replay."""

    def alter(node: SimulatedNode) -> None:
        assert node.engine is not None
        transaction: Any = node.engine.manager.processors[0].transaction
        put_invocation = transaction.put_invocation

        def put_another(invocation_id: Any, invocation: Invocation) -> None:
            put_invocation(
                invocation_id,
                msgspec.structs.replace(invocation, created_ns=invocation.created_ns + 1),
            )

        transaction.put_invocation = put_another

    return WorldOptions(alter_node=alter)


def trim_past_the_durable_lsn(patch: pytest.MonkeyPatch) -> WorldOptions:
    """The log is trimmed up to what the partition store has, whether its disk has it or not."""
    patch.setattr(LogTrimmer, "_sync", lambda _self: 0)
    return WorldOptions()


def trim_past_the_snapshot(patch: pytest.MonkeyPatch) -> WorldOptions:
    """The log is trimmed up to what the store has durably, as if the store could not be lost."""
    patch.setattr(Snapshots, "archived_lsn", lambda _self, _partition: None)
    return WorldOptions(snapshots=True)


def snapshot_not_frozen(patch: pytest.MonkeyPatch) -> WorldOptions:
    """What a superseded attempt proposes is taken for as current as the leader itself."""

    def condition(self: Attempt, applied_lsn: int) -> NotChangedSince:
        return NotChangedSince(self.key, applied_lsn)

    patch.setattr(Attempt, "condition", condition)
    return LATE_ANSWERS


def floor_not_set(patch: pytest.MonkeyPatch) -> WorldOptions:
    """The sequencer of a new segment believes to know every key's last LSN."""
    make = ConditionTable.__init__

    def make_without_floor(self: ConditionTable, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self.floor = 0

    patch.setattr(ConditionTable, "__init__", make_without_floor)
    return LATE_ANSWERS


def hole_accepted(patch: pytest.MonkeyPatch) -> WorldOptions:
    """The log's store gives whatever batches it finds, missing ones or not."""

    def read(
        self: KvLogStore, loglet: int, first_offset: int, tail: int, bytes_max: int
    ) -> list[Batch]:
        batches: list[Batch] = []
        total = 0
        start, end = batch_key(loglet, first_offset), batch_key(loglet, tail)
        for key, value in self._store.scan(BATCH_ROWS + start, BATCH_ROWS + end):
            batches.append(decode_batch(key[1:], value))
            total += len(value)
            if total >= bytes_max:
                break
        return batches

    patch.setattr(KvLogStore, "read", read)
    return LOST_BATCHES


def refusal_not_held(patch: pytest.MonkeyPatch) -> WorldOptions:
    """The sequencer tells a refusal at once, whether its cause is durable or not."""

    def refuse(
        _self: Sequencer, refusal: Refusal, _after_lsn: int, listener: AnswerListener
    ) -> None:
        listener(refusal)

    patch.setattr(Sequencer, "_refuse", refuse)
    return WorldOptions()


def gap_accepted_by_the_sequencer(patch: pytest.MonkeyPatch) -> WorldOptions:
    """The sequencer takes a producer's next number and every higher one."""
    check = ProducerTable.check

    def check_loosely(self: ProducerTable, producer: Producer) -> ProducerVerdict | None:
        verdict = check(self, producer)
        return None if verdict and isinstance(verdict.refusal, OutOfOrder) else verdict

    patch.setattr(ProducerTable, "check", check_loosely)
    return WorldOptions()


def gap_accepted_by_all(patch: pytest.MonkeyPatch) -> WorldOptions:
    """Whoever reads lets gaps pass as the sequencer does."""

    def accept(self: ProducerFilter, record: Record) -> bool:
        if record.producer is None:
            return True
        last = self.state.get(record.producer, (0, 0))
        number = (record.producer_epoch, record.sequence)
        self.state[record.producer] = max(last, number)
        return number > last

    patch.setattr(ProducerFilter, "accept", accept)
    return gap_accepted_by_the_sequencer(patch)


def doubtful_append_sent_again(patch: pytest.MonkeyPatch) -> WorldOptions:
    """A node whose append to another one has no answer sends it again by itself."""
    append = RemoteAppends.append

    async def until_certain(self: RemoteAppends, log: ChainView, what: Append) -> Answer | None:
        while True:
            answer = await append(self, log, what)
            if not isinstance(answer, Indeterminate):
                return answer

    patch.setattr(RemoteAppends, "append", until_certain)
    return WorldOptions()


def lost_append_taken_for_unsent(patch: pytest.MonkeyPatch) -> WorldOptions:
    """What was sent over a connection that is lost counts as not sent, and is sent again."""

    def lost(self: AppendClient) -> None:
        self._unsent.clear()
        for number in list(self._asked):
            self._answer(number, NotHere())

    patch.setattr(AppendClient, "lost", lost)
    return WorldOptions()


BREAKAGES: dict[str, Breakage] = {
    "ack before sync": ack_before_sync,
    "hole accepted": hole_accepted,
    "refusal not held": refusal_not_held,
    "gap accepted by the sequencer": gap_accepted_by_the_sequencer,
    "gap accepted by all": gap_accepted_by_all,
    "trim past the durable LSN": trim_past_the_durable_lsn,
    "trim past the snapshot": trim_past_the_snapshot,
    "snapshot not frozen": snapshot_not_frozen,
    "floor not set": floor_not_set,
    "metadata not synced": metadata_not_synced,
    "idempotency key ignored": idempotency_key_ignored,
    "retries forgotten": retries_forgotten,
    "lock not taken": lock_not_taken,
    "apply not deterministic": apply_not_deterministic,
    "doubtful append sent again": doubtful_append_sent_again,
    "lost append taken for unsent": lost_append_taken_for_unsent,
}
