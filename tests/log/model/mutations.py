"""Ways to break the protocol that the model has to notice; the product's files are not touched."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from perdure.log import sequencer as sequencer_module
from perdure.log.answers import Answer, Producer
from perdure.log.conditions import ConditionTable
from perdure.log.producers import ProducerTable
from perdure.log.sequencer import Append, Sequencer

from .world import Rules

_table_init = ConditionTable.__init__
_table_note = ConditionTable.note
_table_evict = ConditionTable.evict
_sequencer_note = Sequencer._note
_sequencer_refusal = Sequencer._refusal
_sequencer_close = Sequencer.close
_producer_check = ProducerTable.check


@dataclass(frozen=True)
class Mutation:
    """One way to break it.

    Attributes:
        name: what is wrong.
        found_by: invariants one of which has to be reported, and nothing else.
        rules: of the modelled parts.
        patches: attributes of the product, as (owner, name, replacement).
    """

    name: str
    found_by: frozenset[str]
    rules: Rules = field(default_factory=Rules)
    patches: tuple[tuple[Any, str, Callable[..., Any]], ...] = ()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product is broken this way within the block."""
        patchers = [mock.patch.object(owner, name, new) for owner, name, new in self.patches]
        for patcher in patchers:
            patcher.start()
        try:
            yield
        finally:
            for patcher in patchers:
                patcher.stop()


def _floor_not_set(table: ConditionTable, base_lsn: int, entries_max: int) -> None:
    _table_init(table, 1, entries_max)


def _refuse_at_once(
    sequencer: Sequencer, refusal: Answer, after_lsn: int, listener: Callable[[Answer], None]
) -> None:
    listener(refusal)


def _note_conditional_only(sequencer: Sequencer, append: Append, first_lsn: int) -> None:
    if append.conditions:
        _sequencer_note(sequencer, append, first_lsn)
    else:
        # The tail, the producer and the fence as usual, but no key.
        with mock.patch.object(ConditionTable, "note", return_value=None):
            _sequencer_note(sequencer, append, first_lsn)


def _note_no_wildcard(table: ConditionTable, keys: Iterable[bytes] | None, lsn: int) -> None:
    if keys is not None:
        _table_note(table, keys, lsn)


def _note_first_record_only(sequencer: Sequencer, append: Append, first_lsn: int) -> None:
    def note(table: ConditionTable, keys: Iterable[bytes] | None, lsn: int) -> None:
        if keys == append.records[0].keys:
            _table_note(table, keys, lsn)

    with mock.patch.object(ConditionTable, "note", note):
        _sequencer_note(sequencer, append, first_lsn)


def _evict_uncommitted(table: ConditionTable, committed_tail: int) -> None:
    _table_evict(table, 1 << 60)


def _evict_silently(table: ConditionTable, committed_tail: int) -> None:
    floor = table.floor
    _table_evict(table, committed_tail)
    table.floor = floor


def _no_fence(sequencer: Sequencer, append: Append) -> Any:
    bare = Append(append.records, append.conditions, None, append.producer, append.segment)
    return _sequencer_refusal(sequencer, bare)


def _gaps_pass(table: ProducerTable, producer: Producer) -> Any:
    verdict = _producer_check(table, producer)
    return None if type(getattr(verdict, "refusal", None)).__name__ == "OutOfOrder" else verdict


def _close_as_lost(sequencer: Sequencer, *, lost: bool, reason: str) -> None:
    _sequencer_close(sequencer, lost=True, reason=reason)


def _mutation(
    name: str, found_by: str, *patches: tuple[Any, str, Callable[..., Any]], **rules: Any
) -> Mutation:
    return Mutation(name, frozenset(found_by.split()), Rules(**rules), patches)


MUTATIONS = (
    _mutation(
        "a new segment's floor is not set",
        "C1 C4 C6 cas",
        (ConditionTable, "__init__", _floor_not_set),
    ),
    _mutation(
        "a refusal is told before its cause is committed",
        "C3 C6 C7 C8 producer",
        (Sequencer, "_refuse", _refuse_at_once),
    ),
    _mutation(
        "unconditional writes are not tracked",
        "C1 C4 C6 cas",
        (Sequencer, "_note", _note_conditional_only),
    ),
    _mutation("log-servers accept holes", "L3 L4 C2 C8 prefix", holes_are_accepted=True),
    _mutation("a conflict is final on a retry", "C6", conflict_is_always_final=True),
    _mutation(
        "conditions may guard keys that are not written",
        "C4 C6",
        (sequencer_module, "check_append", lambda append: None),
    ),
    _mutation(
        "records that touch every key are not tracked",
        "C1 C4 C6 cas",
        (ConditionTable, "note", _note_no_wildcard),
    ),
    _mutation(
        "only the first record of an append is tracked",
        "C1 C4 C6 cas",
        (Sequencer, "_note", _note_first_record_only),
    ),
    _mutation(
        "eviction does not raise the floor",
        "C1 C4 C6 cas",
        (ConditionTable, "evict", _evict_silently),
    ),
    _mutation("fences are not checked", "C7", (Sequencer, "_refusal", _no_fence)),
    _mutation(
        "gaps in a producer's numbers pass", "C2 C6 producer", (ProducerTable, "check", _gaps_pass)
    ),
    _mutation(
        "what is in flight at a seal is told as lost",
        "C2 C4 C6",
        (Sequencer, "close", _close_as_lost),
    ),
    _mutation("sealed log-servers take more", "L4 L3 C2 prefix", seal_is_ignored=True),
    _mutation("one copy is enough", "L3 L4 C2 C8 prefix", write_quorum=1),
    _mutation("a tail is sealed without repair", "L4", repair_is_skipped=True),
    _mutation("a lost disk is counted", "L3 L4 C2 C8 prefix", lost_disks_are_counted=True),
    _mutation("first attempts come twice", "C4 C6", first_attempts_are_doubled=True),
    _mutation("producers name no segment", "producer", producers_name_no_segment=True),
)

EVICT_UNCOMMITTED = _mutation(
    "uncommitted keys are evicted",
    "C8",
    (ConditionTable, "evict", _evict_uncommitted),
    tolerated=frozenset({"C8"}),
)
"""Costs liveness alone: the floor may then be out of a reader's reach."""
