"""Rules that are broken on purpose: generated histories must find each of them.

A breakage patches product code for the length of a test and never stands in it.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from perdure.core.ids import InvocationId
from perdure.core.protocol import messages
from perdure.core.storage.kv import KvStore
from perdure.log.answers import NotChangedSince
from perdure.partition_processor import machine
from perdure.partition_processor.attempt_keeper import AttemptKeeper
from perdure.partition_processor.commands import attach, invoke, pause
from perdure.partition_processor.context import ApplyContext
from perdure.partition_processor.effects import ArmRetry
from perdure.partition_processor.entries import promises
from perdure.partition_processor.entries.appending import Appending
from perdure.partition_processor.invoker.attempt import Attempt
from perdure.partition_processor.lifecycle import complete, lock, notify, suspend
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.records import (
    INVOKE,
    TIMERS_FIRED,
    TRUNCATE_OUTBOX,
    Respond,
    TruncateOutbox,
)
from perdure.partition_processor.tables import id_sets, keys
from perdure.partition_processor.tables.invocations import STATUS_RUNNING, Invocation, Sink, Waiting
from perdure.partition_processor.tables.promises import Promise
from perdure.partition_processor.transaction import Transaction
from perdure.sdk.vm import Machine as ProtocolMachine

Breakage = Callable[[pytest.MonkeyPatch], None]


def replace_command(patch: pytest.MonkeyPatch, kind: int, apply: Callable[..., None]) -> None:
    """Have records of a kind applied by something else."""
    decode, _ = machine._DISPATCH[kind]
    patch.setitem(machine._DISPATCH, kind, (decode, apply))


def suspended_without_a_second_look(patch: pytest.MonkeyPatch) -> None:
    """What came while the suspension was under way wakes nobody."""
    patch.setattr(suspend, "is_satisfied", lambda *_: False)


def completions_taken_twice(patch: pytest.MonkeyPatch) -> None:
    """Results are sent twice, and the second one is taken, too."""
    respond = complete.respond

    def respond_twice(context: ApplyContext, sink: Sink, completed: Invocation) -> None:
        respond(context, sink, completed)
        respond(context, sink, completed)

    def take(context: ApplyContext, command: Respond) -> bool:
        invocation = context.transaction.invocation(command.invocation_id)
        if invocation is None or invocation.status == complete.STATUS_COMPLETED:
            return False
        frame = notify.notification_frames.completion(
            command.frame_type,
            command.completion_id,
            notify.notification_frames.result_of(command.value, command.failure),
        )
        notified = id_sets.with_number(invocation.notified, command.completion_id)
        marked = msgspec.structs.replace(invocation, notified=notified)
        notify._arrived(context, command.invocation_id, marked, frame)
        return True

    for module in (complete, attach, invoke):
        patch.setattr(module, "respond", respond_twice)
    deliver = "perdure.partition_processor.commands.deliver._APPLY"
    patch.setitem(_attribute(deliver), Respond, take)


def _attribute(path: str) -> Any:
    import importlib

    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def timer_rows_stay(patch: pytest.MonkeyPatch) -> None:
    """A timer that fired or lost its use stays in the table."""
    patch.setattr(ApplyContext, "drop_timer", lambda *_: None)


def timers_of_the_completed_stay(patch: pytest.MonkeyPatch) -> None:
    """An invocation that completes leaves its sleeps behind."""
    patch.setattr(complete, "drop_timers", lambda *_: None)


def timers_fire_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """Timers that fire take their rows away and wake nobody."""

    def apply(context: ApplyContext, command: Any, _record: Any) -> None:
        for timer in command.timers:
            row = keys.timer_row(
                context.range.first, timer.due_ns, timer.invocation_id, timer.number
            )
            if context.transaction.get(row) is not None and timer.number:
                context.drop_timer(timer.due_ns, timer.invocation_id, timer.number)
                invocation = context.transaction.invocation(timer.invocation_id)
                assert invocation is not None
                fewer = msgspec.structs.replace(invocation, timers=invocation.timers - 1)
                context.transaction.put_invocation(timer.invocation_id, fewer)

    replace_command(patch, TIMERS_FIRED, apply)


def outbox_truncated_too_far(patch: pytest.MonkeyPatch) -> None:
    """One message more than was taken is forgotten."""
    _, apply = machine._DISPATCH[TRUNCATE_OUTBOX]

    def truncate(context: ApplyContext, command: TruncateOutbox, record: Any) -> None:
        apply(context, msgspec.structs.replace(command, last=command.last + 1), record)

    replace_command(patch, TRUNCATE_OUTBOX, truncate)


def lock_not_passed_on(patch: pytest.MonkeyPatch) -> None:
    """A holder that ends frees the object, and nobody who waits has it."""

    def free(context: ApplyContext, invocation_id: InvocationId, invocation: Invocation) -> None:
        object_name = keys.object_suffix(invocation.service, invocation.key or "")
        context.transaction.put_lock(invocation_id[:8], object_name, None)

    patch.setattr(complete, "pass_lock_on", free)


def lock_not_taken(patch: pytest.MonkeyPatch) -> None:
    """Invocations of one object run side by side."""
    patch.setattr(lock, "take_lock", lambda *_: -1)
    patch.setattr(complete, "pass_lock_on", lambda *_: None)


def youngest_first(patch: pytest.MonkeyPatch) -> None:
    """The object goes to whoever came last."""

    def pass_on(context: ApplyContext, invocation_id: InvocationId, ended: Invocation) -> None:
        object_name = keys.object_suffix(ended.service, ended.key or "")
        transaction = context.transaction
        row = transaction.lock(invocation_id[:8], object_name)
        assert row is not None
        for number in reversed(range(row.head, row.tail)):
            inbox = keys.inbox_row(invocation_id[:8], object_name, number)
            value = transaction.get(inbox)
            if value is None:
                continue
            item = lock.decode_item(value)
            if item.invocation_id is None:
                continue
            transaction.delete(inbox)
            holder = lock.Lock(item.invocation_id, row.head, row.tail)
            transaction.put_lock(invocation_id[:8], object_name, holder)
            waiting = transaction.invocation(item.invocation_id)
            assert waiting is not None
            lock.start_attempt(context, item.invocation_id, waiting)
            return
        transaction.put_lock(invocation_id[:8], object_name, None)

    patch.setattr(complete, "pass_lock_on", pass_on)


def responses_lost_on_the_way(patch: pytest.MonkeyPatch) -> None:
    """Results for callers in other partitions do not get there."""
    deliver = ApplyContext.deliver

    def deliver_nearby(self: ApplyContext, command: Any) -> None:
        far = not self.range.first <= command.invocation_id[:8] <= self.range.last
        if not (far and isinstance(command, Respond)):
            deliver(self, command)

    patch.setattr(ApplyContext, "deliver", deliver_nearby)


def notified_bit_lost(patch: pytest.MonkeyPatch) -> None:
    """Completions that come with a chunk are not remembered as come."""
    patch.setattr(Appending, "notified", lambda *_: None)


def promise_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    """A promise forgets who waits for it."""
    store = promises.store

    def store_alone(chunk: Appending, name: str, promise: Promise) -> None:
        store(chunk, name, msgspec.structs.replace(promise, waiters=()))

    patch.setattr(promises, "store", store_alone)


def invokes_not_recognized(patch: pytest.MonkeyPatch) -> None:
    """A client that repeats its request begins anew."""
    _, apply = machine._DISPATCH[INVOKE]

    def invoke_again(context: ApplyContext, command: Any, record: Any) -> None:
        known = context.transaction.invocation(command.invocation_id)
        if known is not None and known.status == complete.STATUS_COMPLETED:
            context.move(complete.STATUS_COMPLETED, complete.STATUS_SCHEDULED)
            context.counts[complete.STATUS_SCHEDULED] -= 1
            context.transaction.delete_invocation(command.invocation_id)
        apply(context, command, record)

    replace_command(patch, INVOKE, invoke_again)


def pause_leaves_the_active_row(patch: pytest.MonkeyPatch) -> None:
    """What is paused is still listed as at work."""
    take_away = pause.take_attempt_away

    def take(context: ApplyContext, invocation_id: InvocationId, invocation: Invocation) -> None:
        take_away(context, invocation_id, invocation)
        context.transaction.put(keys.ACTIVE + invocation_id, b"")

    patch.setattr(pause, "take_attempt_away", take)


def retries_not_derived(patch: pytest.MonkeyPatch) -> None:
    """A new leader does not learn of the waits of what backs off."""

    def pending(*arguments: Any) -> Any:
        return [item for item in pending_effects(*arguments) if not isinstance(item, ArmRetry)]

    patch.setattr("perdure.partition_processor.processor.pending_effects", pending)


def snapshot_not_frozen(patch: pytest.MonkeyPatch) -> None:
    """What an attempt proposes that is over is taken for as current as the leader itself."""

    def condition(self: Attempt, applied_lsn: int) -> NotChangedSince:
        return NotChangedSince(self.key, applied_lsn)

    patch.setattr(Attempt, "condition", condition)


def late_frames_taken(patch: pytest.MonkeyPatch) -> None:
    """Neither the log nor apply looks whether an attempt is the current one."""
    snapshot_not_frozen(patch)

    def is_current(_self: ApplyContext, invocation: Invocation | None, _attempt: int) -> bool:
        return invocation is not None and invocation.status == STATUS_RUNNING

    patch.setattr(ApplyContext, "is_current", is_current)
    patch.setattr(ApplyContext, "assert_superseded_elsewhere", lambda *_: None)


def batch_not_read(patch: pytest.MonkeyPatch) -> None:
    """Rows that the same batch wrote before are not seen."""

    def get(self: Transaction, key: bytes) -> bytes | None:
        if key in self._record:
            return self._record[key]
        store: KvStore = self._store
        return store.get(key)

    patch.setattr(Transaction, "get", get)


def journal_cut_short(patch: pytest.MonkeyPatch) -> None:
    """An attempt that begins is not given the end of a long journal."""
    journal = Transaction.journal

    def cut(self: Transaction, invocation_id: InvocationId, invocation: Invocation) -> Any:
        chunks = journal(self, invocation_id, invocation)
        return chunks[:-1] if len(chunks) > 3 else chunks

    patch.setattr(Transaction, "journal", cut)
    patch.setattr(
        "perdure.partition_processor.invoker.start_segments.start_frames",
        _start_frames_of(cut),
    )


def _start_frames_of(cut: Callable[..., Any]) -> Callable[..., bytes]:
    from perdure.partition_processor.invoker.attempt_frames import start_frames

    def shorter(invocation_id: InvocationId, invocation: Invocation, **options: Any) -> bytes:
        if len(invocation.head) > 3 and not invocation.rows:
            last = msgspec.structs.replace(invocation, head=invocation.head[-1:])
            dropped = int.from_bytes(last.head[0][21:25], "big")
            invocation = msgspec.structs.replace(invocation, entries=invocation.entries - dropped)
        return start_frames(invocation_id, invocation, **options)

    return shorter


def cancellation_does_not_wake(patch: pytest.MonkeyPatch) -> None:
    """A suspended handler sleeps through its cancellation."""
    arrived = notify._arrived

    def arrive(*arguments: Any, cancel: bool = False) -> None:
        arrived(*arguments, cancel=False)

    def is_satisfied(waiting: Waiting, invocation: Invocation) -> bool:
        others = tuple(each for each in waiting.signals if each != messages.SIGNAL_CANCEL)
        return suspend.is_satisfied(msgspec.structs.replace(waiting, signals=others), invocation)

    patch.setattr(notify, "_arrived", arrive)
    patch.setattr(notify, "is_satisfied", is_satisfied)


def replay_starts_steps(patch: pytest.MonkeyPatch) -> None:
    """A worker that replays does not look at the results of steps that are stored."""
    take = ProtocolMachine._take

    def take_but_results(self: ProtocolMachine, kind: int, body: bytes, time_ns: int) -> None:
        if kind == messages.RUN_COMPLETION and not self.opened:
            self._entries_missing -= 1
            if self._entries_missing <= 0:
                self._open()
            return
        take(self, kind, body, time_ns)

    patch.setattr(ProtocolMachine, "_take", take_but_results)


def state_kept_too_long(patch: pytest.MonkeyPatch) -> None:
    """Objects' states that are kept in memory miss what is written."""
    commit_record = Transaction.commit_record

    def commit(self: Transaction, digest: bytes) -> bytes:
        self._record_states = []
        return commit_record(self, digest)

    patch.setattr(Transaction, "commit_record", commit)


def refusals_in_vain_end_attempts(patch: pytest.MonkeyPatch) -> None:
    """An attempt that the log refused for nothing is left without a worker."""
    patch.setattr(AttemptKeeper, "restart_refused", lambda _self: None)


BREAKAGES: dict[str, Breakage] = {
    breakage.__name__.replace("_", " "): breakage
    for breakage in (
        suspended_without_a_second_look,
        completions_taken_twice,
        timer_rows_stay,
        timers_of_the_completed_stay,
        timers_fire_for_nothing,
        outbox_truncated_too_far,
        lock_not_passed_on,
        lock_not_taken,
        youngest_first,
        responses_lost_on_the_way,
        notified_bit_lost,
        promise_wakes_nobody,
        invokes_not_recognized,
        pause_leaves_the_active_row,
        retries_not_derived,
        snapshot_not_frozen,
        late_frames_taken,
        batch_not_read,
        journal_cut_short,
        cancellation_does_not_wake,
        replay_starts_steps,
        state_kept_too_long,
        refusals_in_vain_end_attempts,
    )
}
