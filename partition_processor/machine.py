"""The interpreter: one record in, writes and effects out; the same on every replica, always.

No clock, chance, disk, network or configuration in here; nothing iterates a set, hashes with
``hash()``, computes with floats or serialises a stored message again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ..core.errors import PerdureError
from ..log.types import Batch, Record
from .commands.announce_leader import apply_announce_leader
from .commands.attempt_chunk import apply_attempt_chunk
from .commands.attempt_failed import apply_attempt_failed
from .commands.attempt_started import apply_attempt_started
from .commands.compare_digest import apply_compare_digest
from .commands.deliver import apply_deliver, apply_delivered
from .commands.invoke import apply_invoke
from .commands.kill import apply_kill
from .commands.once import apply_once
from .commands.patch_state import apply_patch_state
from .commands.pause import apply_pause
from .commands.purge import apply_purge
from .commands.purge_expired import apply_purge_expired
from .commands.restart import apply_restart
from .commands.resume import apply_resume
from .commands.signal import apply_signal
from .commands.timers_fired import apply_timers_fired
from .commands.truncate_outbox import apply_truncate_outbox
from .context import (
    LOCAL_DELIVERIES_MAX,
    NOTHING_FOLLOWS,
    WHOLE,
    ApplyContext,
    PartitionRange,
)
from .digests import MARK_EVERY, DifferenceError, mark
from .effects import DigestMarked, Effect
from .records import (
    ANNOUNCE_LEADER,
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    COMMAND_TYPES,
    COMPARE_DIGEST,
    DELIVER,
    INVOKE,
    KILL,
    ONCE,
    PATCH_STATE,
    PAUSE,
    PURGE,
    PURGE_EXPIRED,
    RESTART,
    RESUME,
    SIGNAL,
    TIMERS_FIRED,
    TRUNCATE_OUTBOX,
    AnnounceLeader,
)
from .skips import check_skips, skipped_lsns
from .tables import keys
from .tables.progress import Progress
from .tables.skipped import Skip, encode_skip
from .transaction import Transaction

_DISPATCH: Final[dict[int, tuple[Callable[[bytes], Any], Callable[..., None]]]] = {
    kind: (msgspec.msgpack.Decoder(COMMAND_TYPES[kind]).decode, apply)
    for kind, apply in (
        (INVOKE, apply_invoke),
        (ATTEMPT_CHUNK, apply_attempt_chunk),
        (ATTEMPT_FAILED, apply_attempt_failed),
        (ATTEMPT_STARTED, apply_attempt_started),
        (ANNOUNCE_LEADER, apply_announce_leader),
        (TIMERS_FIRED, apply_timers_fired),
        (SIGNAL, apply_signal),
        (KILL, apply_kill),
        (PAUSE, apply_pause),
        (RESUME, apply_resume),
        (PURGE, apply_purge),
        (RESTART, apply_restart),
        (PATCH_STATE, apply_patch_state),
        (PURGE_EXPIRED, apply_purge_expired),
        (DELIVER, apply_deliver),
        (TRUNCATE_OUTBOX, apply_truncate_outbox),
        (ONCE, apply_once),
        (COMPARE_DIGEST, apply_compare_digest),
    )
}


class RecordFailedError(PerdureError):
    """A record cannot be applied: every replica would fail alike, so the partition stops here.

    Attributes:
        lsn: of the record; everything before it is applied.
        record: what failed.
        rows_differ: it fails here alone, as this copy's rows are not those of the others.
    """

    code = "PD0902"

    def __init__(self, lsn: int, record: Record, cause: BaseException) -> None:
        """Name the position and the cause."""
        super().__init__(
            f"the record at LSN {lsn} (kind {record.kind}) cannot be applied: "
            f"{type(cause).__name__}: {cause}"
        )
        self.lsn = lsn
        self.record = record
        self.rows_differ = isinstance(cause, DifferenceError)


class Machine:
    """One partition's interpreter over its transaction."""

    def __init__(
        self, transaction: Transaction, progress: Progress, own: PartitionRange = WHOLE
    ) -> None:
        """Go on after the last record that `progress` counts as applied."""
        self.context = ApplyContext(transaction, progress, own)
        self._skips: Mapping[int, Skip] = {}
        self._digest = progress.digest

    def know_skips(self, skips: Sequence[Skip]) -> None:
        """Before anything is applied: the records that are not, as was decided for all replicas.

        Raises SkipMissedError.
        """
        self._skips = check_skips(skips, self.context)

    def apply_batch(self, batch: Batch, base_lsn: int) -> None:
        """Apply a batch's records in order, but for those applied before and those skipped.

        Raises RecordFailedError at the first record that cannot be applied; those before it stay.
        MemoryError, RecursionError and storage errors pass through: they are no facts about the
        record.
        """
        context = self.context
        context.record_time_ns = batch.record_time_ns
        lsn = base_lsn + batch.first_offset - 1
        for record in batch.records:
            if lsn > context.lsn:
                assert lsn == context.lsn + 1, (lsn, context.lsn)
                if self._skips and lsn in self._skips:
                    self._skip(record, self._skips[lsn])
                else:
                    self._apply(record, lsn)
                if not lsn % MARK_EVERY:
                    mark(context, lsn, self._digest)
                    context.effects.append(DigestMarked(lsn, self._digest))
            lsn += 1

    def _skip(self, record: Record, skip: Skip) -> None:
        """Go on as if the record's leader had been lost before it.

        What it had numbered behind it rests on the record, as the next frames of an attempt do.
        """
        context = self.context
        context.lsn = skip.lsn
        context.epoch = max(context.epoch, record.epoch)
        if record.sequence > 0 and record.producer is None:
            context.sequence = NOTHING_FOLLOWS
        context.transaction.put(keys.skipped_row(context.range.first, skip.lsn), encode_skip(skip))
        self._digest = context.transaction.commit_record(self._digest)

    def _apply(self, record: Record, lsn: int) -> None:
        context = self.context
        previous = context.lsn
        effects_before = len(context.effects)
        counts_before = context.counts.copy()
        context.lsn = lsn
        if not context.counts_once(record):
            return
        try:
            context.record_epoch = record.epoch
            context.deliveries_left = LOCAL_DELIVERIES_MAX
            if record.kind == ANNOUNCE_LEADER:
                context.digest_before = previous, self._digest
            decode, apply = _DISPATCH[record.kind]
            apply(context, decode(record.body), record)
            deliveries = context.deliveries
            while deliveries:
                apply_delivered(context, deliveries.popleft())
        except (MemoryError, RecursionError, PerdureError):
            raise
        except Exception as error:
            context.transaction.rollback_record()
            context.deliveries.clear()
            del context.effects[effects_before:]
            context.counts = counts_before
            context.lsn = previous
            raise RecordFailedError(lsn, record, error) from error
        if record.sequence > 0 and record.producer is None:
            context.sequence = record.sequence
        self._digest = context.transaction.commit_record(self._digest)

    def announcement(self, node: str, generation: int) -> AnnounceLeader:
        """What a node writes that is to lead from where this has come to."""
        context = self.context
        skipped = skipped_lsns(context.transaction, context.range.first)
        return AnnounceLeader(node, generation, skipped, context.lsn, self._digest)

    def take_effects(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects, self.context.effects = self.context.effects, []
        return effects

    def progress(self) -> Progress:
        """How far the interpreter has come."""
        context = self.context
        return Progress(
            context.lsn, context.epoch, self._digest, tuple(context.counts), context.sequence
        )
