"""Effects that nobody has acknowledged: what a leader was told, less what is done.

After every record they must be what `pending_effects` and `pending_timers` derive from the store,
as that is all that a new leader has.
"""

from typing import Final

import msgspec

from ...core.ids import InvocationId
from ...core.storage.memory import MemoryStore
from ...log.types import Record
from ...partition_processor import effects as effect
from ...partition_processor.context import PartitionRange
from ...partition_processor.pending import pending_effects, pending_timers
from ...partition_processor.records import (
    PAUSE,
    TIMERS_FIRED,
    TRUNCATE_OUTBOX,
    TimersFired,
    TruncateOutbox,
)
from ...partition_processor.transaction import Transaction
from ..simulation.violation import require

SAME_EFFECTS: Final = "the effects that are open can be derived from the store"
ONE_ATTEMPT: Final = "one attempt of an invocation at a time"

_decode_fired: Final = msgspec.msgpack.Decoder(TimersFired).decode
_decode_truncate: Final = msgspec.msgpack.Decoder(TruncateOutbox).decode


class OpenEffects:
    """The open effects of one partition, by record."""

    def __init__(self, transaction: Transaction, store: MemoryStore, own: PartitionRange) -> None:
        """None yet; compare with what `transaction` and `store` hold."""
        self._transaction = transaction
        self._store = store
        self._own = own
        self._attempts: dict[InvocationId, int] = {}
        self._retries: dict[InvocationId, tuple[int, int]] = {}
        self._timers: set[tuple[int, InvocationId, int]] = set()
        self._ships: dict[tuple[int, int], tuple[int, bytes]] = {}

    @property
    def messages(self) -> int:
        """How many are to be carried to other partitions."""
        return len(self._ships)

    def follow(self, record: Record, effects: list[effect.Effect], *, counts: bool) -> None:
        """A record was applied with these effects; `counts` unless it was dropped as stale."""
        if counts and record.kind == TIMERS_FIRED:
            for timer in _decode_fired(record.body).timers:
                self._timers.discard((timer.due_ns, timer.invocation_id, timer.number))
        elif counts and record.kind == TRUNCATE_OUTBOX:
            taken = _decode_truncate(record.body)
            for number in range(taken.last, 0, -1):
                if self._ships.pop((taken.destination, number), None) is None:
                    break
        for item in effects:
            self._take(item, paused=record.kind == PAUSE)
        self._compare()

    def _take(self, item: effect.Effect, *, paused: bool) -> None:
        if isinstance(item, effect.StartAttempt):
            running = self._attempts.get(item.invocation_id)
            require(running is None, ONE_ATTEMPT, f"{item.invocation_id.hex()}: {running} runs")
            self._attempts[item.invocation_id] = item.invocation.attempt
            self._retries.pop(item.invocation_id, None)
        elif isinstance(item, effect.EndAttempt):
            if self._attempts.get(item.invocation_id) == item.attempt:
                del self._attempts[item.invocation_id]
            # Frames of an attempt that has failed end it once more; its retry stays armed.
            if paused:
                self._retries.pop(item.invocation_id, None)
        elif isinstance(item, effect.ArmRetry):
            self._retries[item.invocation_id] = (item.attempt, item.due_ns)
        elif isinstance(item, effect.ArmTimer):
            self._timers.add((item.due_ns, item.invocation_id, item.number))
        elif isinstance(item, effect.Ship):
            self._ships[item.destination, item.number] = (item.kind, item.body)
        elif isinstance(item, effect.Answer):
            self._retries.pop(item.invocation_id, None)
            self._timers = {each for each in self._timers if each[1] != item.invocation_id}

    def _compare(self) -> None:
        attempts: dict[InvocationId, int] = {}
        retries: dict[InvocationId, tuple[int, int]] = {}
        ships: dict[tuple[int, int], tuple[int, bytes]] = {}
        for item in pending_effects(self._transaction, self._own):
            if isinstance(item, effect.StartAttempt):
                attempts[item.invocation_id] = item.invocation.attempt
            elif isinstance(item, effect.ArmRetry):
                retries[item.invocation_id] = (item.attempt, item.due_ns)
            elif isinstance(item, effect.Ship):
                ships[item.destination, item.number] = (item.kind, item.body)
        timers = {
            (item.due_ns, item.invocation_id, item.number)
            for item in pending_timers(self._store, self._own)
        }
        for name, told, derived in (
            ("attempts", self._attempts, attempts),
            ("retries", self._retries, retries),
            ("messages", self._ships, ships),
            ("timers", self._timers, timers),
        ):
            require(told == derived, SAME_EFFECTS, f"{name}: told {told}, derived {derived}")
