"""Proposals: what this partition's leader wants in the log, numbered in the order it gets there."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog

from ..log.answers import Answer, NotChangedSince
from ..log.errors import LogError, RecordTooLargeError
from ..log.types import RECORD_BYTES_MAX, Record
from ..log.virtual_log import VirtualLog
from .context import ApplyContext

_log = structlog.get_logger("partition")


class Guard(Protocol):
    """What a proposal rests on: refused, it must not be in the log."""

    def condition(self, applied_lsn: int) -> NotChangedSince:
        """What must hold, seen from a leader that has applied everything up to `applied_lsn`."""
        ...

    def refused(self, answer: Answer) -> None:
        """The log has refused the proposal; told once the cause is committed."""
        ...


class Proposal(msgspec.Struct):
    """One record on its way to the log.

    Attributes:
        admitted: told the record's number when it was held back and has one at last; such a
            proposal has no guard.
    """

    kind: int
    body: bytes
    keys: tuple[bytes, ...] | None
    attempt: int
    traceparent: str | None
    guard: Guard | None
    admitted: Callable[[int], None] | None


class Proposals:
    """Sends proposals to the log, or holds them back while it is being reconfigured.

    Numbers are contiguous: a record gets its number when the sequencer has admitted it, in the same
    turn of the loop, so that a refusal leaves no gap.
    """

    HELD_MAX: Final = 1_000_000

    def __init__(self, log: VirtualLog, epoch: int, applied_lsn: Callable[[], int]) -> None:
        """Number from 1 under `epoch`; `applied_lsn` tells how far this leader has applied."""
        self._log = log
        self._epoch = epoch
        self._applied_lsn = applied_lsn
        self._sequence = 0
        self._segment = log.open_segment
        self._held: deque[Proposal] = deque()

    def __len__(self) -> int:
        """How many are held back."""
        return len(self._held)

    @property
    def flowing(self) -> bool:
        """Whether the log takes proposals now and nothing is held back."""
        return self._log.accepting and not self._held

    def propose(self, proposal: Proposal) -> int | None:
        """Send it on, or hold it back behind those that wait; its number if it was admitted.

        Raises RecordTooLargeError, LogClosedError, NotSequencerError, and nothing happened.
        """
        if len(proposal.body) > RECORD_BYTES_MAX:
            raise RecordTooLargeError(
                f"a record of {len(proposal.body)} bytes is over the limit of {RECORD_BYTES_MAX}"
            )
        if not self._held and self._admit(proposal):
            return self._sequence
        assert len(self._held) < self.HELD_MAX, "the front doors bound what is held back"
        self._held.append(proposal)
        return None

    def send_held(self) -> None:
        """The log takes records again: send what was held back, in its order."""
        held = self._held
        try:
            while held and self._admit(held[0]):
                admitted = held.popleft().admitted
                if admitted is not None:
                    admitted(self._sequence)
        except LogError as error:
            _log.warning("what was held back was not taken", code=error.code, reason=str(error))

    def have_lost_records(self, context: ApplyContext) -> bool:
        """Whether the log goes on in a new segment without something admitted to the one before.

        Then every later number would come after a gap, and would not count: nothing more may be
        proposed here. `context` has applied the log through the end of the old segment.
        """
        log = self._log
        if log.open_segment == self._segment:
            return False
        self._segment = log.open_segment
        applied = context.sequence if context.epoch == self._epoch else 0
        if applied == self._sequence and context.lsn + 1 == log.chain.tail.base_lsn:
            return False
        _log.warning(
            "records under way were lost with their segment",
            partition=context.range.number,
            epoch=self._epoch,
            numbered=self._sequence,
            applied=applied,
        )
        return True

    def withdraw_calls(self) -> None:
        """Drop the calls among what is held back; `admitted` never hears of them."""
        self._held = deque(proposal for proposal in self._held if proposal.admitted is None)

    def _admit(self, proposal: Proposal) -> bool:
        """Whether the proposal is dealt with: admitted, or refused for good."""
        log = self._log
        guard = proposal.guard
        if guard is None:
            condition = refused = None
            stored: tuple[tuple[bytes, int], ...] = ()
        else:
            condition = guard.condition(self._applied_lsn())
            refused = guard.refused
            stored = ((condition.key, condition.lsn),)
        record = Record(
            proposal.kind,
            proposal.body,
            proposal.keys,
            self._epoch,
            None,
            self._sequence + 1,
            proposal.attempt,
            proposal.traceparent,
            stored,
        )
        if log.enqueue(record, condition, refused) is not None:
            self._sequence += 1
            return True
        if log.accepting:
            return True  # Refused for its condition, which the guard hears.
        log.recover_soon()  # Unless it is being reconfigured: somebody has sealed it.
        return False
