"""Rules of whole nodes that are broken on purpose: each must be found by their simulated worlds.

`NODES_BREAKAGES` maps a name to what breaks the rule and gives the worlds that are to find it.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from perdure.log.answers import Indeterminate, Sealed
from perdure.log.lane import Lane
from perdure.log.placement import Placement
from perdure.log.replicated import replicator
from perdure.metadata.quorum.acceptor import Acceptor
from perdure.node.cluster import joining
from perdure.node.controller.sketch import Sketch
from perdure.node.engine import NodeEngine
from perdure.partition_processor import machine, manager, processor, role_changes
from perdure.partition_processor.commands import deliver
from perdure.partition_processor.effects import ArmRetry, Delivered
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.read_barrier import ReadBarrier
from perdure.partition_processor.records import DELIVER
from perdure.partition_processor.snapshots.service import Snapshots
from perdure.partition_processor.tables import keys
from perdure.testing.simulation.nodes import NodesOptions
from perdure.testing.simulation.nodes.faults import DISK_LOST

MS = 1_000_000
S = 1_000_000_000
Breakage = Callable[[pytest.MonkeyPatch], NodesOptions]

BUSY = (20 * MS, 600 * MS)
"""Something happens all the time."""

CUTS = NodesOptions(
    kinds=("cut off", "split", "pause", "cut off one way"), gap_ns=(200 * MS, 2 * S)
)
"""Leaders that others have replaced and that do not know it."""

STALE = NodesOptions(
    count=3, kinds=("pause",), gap_ns=(200 * MS, 2 * S), operations=(60, 80), readers=30
)
"""Leaders that sleep while others are elected and answer, and are asked when they wake up."""

PRODUCING = NodesOptions(
    kinds=("reset", "cut one way", "cut off", "pause"), gap_ns=BUSY, producing=True
)
"""Appends from everywhere, and answers that are lost."""

POWER = NodesOptions(kinds=("power", "power everywhere", "power within an operation"), gap_ns=BUSY)


def commit_below_quorum(patch: pytest.MonkeyPatch) -> NodesOptions:
    """One copy is enough for a commit."""
    acknowledged = replicator.Replicator.acknowledged

    def eager(self: replicator.Replicator) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Placement, "is_write_quorum", lambda _self, present: bool(present))
            acknowledged(self)

    patch.setattr(replicator.Replicator, "acknowledged", eager)
    return CUTS


def seal_below_f_majority(patch: pytest.MonkeyPatch) -> NodesOptions:
    """One promise is enough to choose an end."""
    patch.setattr(Placement, "is_f_majority", lambda _self, present: bool(present))
    return NodesOptions(count=5, kinds=CUTS.kinds, gap_ns=CUTS.gap_ns)


def metadata_not_synced(patch: pytest.MonkeyPatch) -> NodesOptions:
    """A metadata server answers before its disk has synced."""

    def make_durable(self: Acceptor) -> None:
        operations, self._changed = list(self._changed.items()), {}
        if operations:
            self._store.write(operations)

    patch.setattr(Acceptor, "_make_durable", make_durable)
    return POWER


def read_without_barrier(patch: pytest.MonkeyPatch) -> NodesOptions:
    """A leader answers reads from what it has applied, without asking whether it still leads."""
    patch.setattr(ReadBarrier, "needed", staticmethod(lambda _log: False))
    return STALE


def epoch_taken_twice(patch: pytest.MonkeyPatch) -> NodesOptions:
    """Who wants to lead takes the epoch that was claimed last, not the next one."""

    async def claim(store: Any, partition: Any, node: str) -> Any:
        known = await role_changes.read_claim(store, partition)
        if known is None:
            return await original(store, partition, node)
        return known

    original = role_changes.claim_leadership
    patch.setattr(role_changes, "claim_leadership", claim)
    return NodesOptions(kinds=("move", "cut off", "kill"), gap_ns=(200 * MS, 2 * S))


def trimmed_below_no_snapshot(patch: pytest.MonkeyPatch) -> NodesOptions:
    """The log is trimmed behind what this node has, though others have not applied it."""
    patch.setattr(NodeEngine, "archived_lsn", lambda _self, _partition: None)
    return NodesOptions(kinds=("kill", "cut off", "move", "leave"), gap_ns=(200 * MS, 2 * S))


def trimmed_past_the_snapshot(patch: pytest.MonkeyPatch) -> NodesOptions:
    """The log is trimmed to its end once there is a snapshot."""
    archived = Snapshots.archived_lsn

    def all_of_it(self: Snapshots, partition: int) -> int | None:
        return None if archived(self, partition) is None else 1 << 62

    patch.setattr(Snapshots, "archived_lsn", all_of_it)
    return NodesOptions(count=3, kinds=("kill", "cut off", "move", DISK_LOST), gap_ns=BUSY)


def an_empty_disk_is_let_in(patch: pytest.MonkeyPatch) -> NodesOptions:
    """Whoever has the name is the node, whatever became of its disk."""
    decide = joining.join

    def join(current: Any, request: Any, **named: Any) -> Any:
        from dataclasses import replace

        entry = current.named(request.name)
        if entry is not None:
            request = replace(request, marked_tokens=frozenset({entry.disk_token}))
        return decide(current, request, **named)

    patch.setattr("perdure.node.cluster.registry.join", join)
    return NodesOptions(
        count=3, kinds=(DISK_LOST, "cut off", "kill", "move"), gap_ns=BUSY, readers=8
    )


def outbox_taken_twice(patch: pytest.MonkeyPatch) -> NodesOptions:
    """Messages between partitions count as often as they come."""

    def apply(context: Any, command: Any, _record: Any) -> None:
        for kind, body in command.messages:
            context.deliveries.append(deliver._DECODE[kind](body))
        context.effects.append(
            Delivered(command.source, command.first + len(command.messages) - 1, False)
        )

    patch.setitem(machine._DISPATCH, DELIVER, (machine._DISPATCH[DELIVER][0], apply))
    return NodesOptions(kinds=("move", "kill", "reset"), gap_ns=BUSY)


def retries_forgotten(patch: pytest.MonkeyPatch) -> NodesOptions:
    """A new leader does not take up the waits of invocations that back off."""

    def pending(*arguments: Any) -> Any:
        return [item for item in pending_effects(*arguments) if not isinstance(item, ArmRetry)]

    patch.setattr("perdure.partition_processor.processor.pending_effects", pending)
    return NodesOptions(kinds=("move", "kill"), gap_ns=BUSY, operations=(40, 60))


def one_zone_is_enough(patch: pytest.MonkeyPatch) -> NodesOptions:
    """Copies count wherever they are."""
    acknowledged = replicator.Replicator.acknowledged

    def eager(self: replicator.Replicator) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(
                Placement, "is_write_quorum", lambda self, present: len(present) >= self.nodes
            )
            acknowledged(self)

    patch.setattr(replicator.Replicator, "acknowledged", eager)
    return NodesOptions(count=4, kinds=("kill", "move"), gap_ns=(S, 3 * S), zones=True)


DIFFERS = NodesOptions(kinds=("kill", "power", "move"), gap_ns=BUSY, differing=True)
"""Copies come to differ, and the nodes that have them are started again and again."""


def set_aside_for_this_life(patch: pytest.MonkeyPatch) -> NodesOptions:
    """A copy that differs is stopped, and goes on once its node is started again."""
    patch.setattr(processor, "read_aside", lambda _store, _first: None)
    return DIFFERS


def set_aside_without_a_sync(patch: pytest.MonkeyPatch) -> NodesOptions:
    """It is told before it is certain."""

    def write(store: Any, first: bytes, aside: Any) -> None:
        store.write([(keys.ASIDE + first, msgspec.json.encode(aside))])

    patch.setattr(manager, "write_aside", write)
    # Any sync of the node's disk takes it along, so the power has to go at once.
    return NodesOptions(
        kinds=("power everywhere", "move"), gap_ns=(20 * MS, 300 * MS), differing=True
    )


def the_lead_stays_with_who_is_set_aside(patch: pytest.MonkeyPatch) -> NodesOptions:
    """The controller goes by who lives."""
    patch.setattr(Sketch, "fit", lambda _self, _slot, _node_id: True)
    return NodesOptions(count=4, kinds=("move",), gap_ns=BUSY, operations=(40, 60), differing=True)


def set_aside_and_goes_on(patch: pytest.MonkeyPatch) -> NodesOptions:
    """It is on the disk, and nobody looks."""
    prepare = manager.PartitionManager.prepare

    async def unseeing(self: Any, item: Any, log: Any) -> None:
        item.aside, aside = None, item.aside
        await prepare(self, item, log)
        item.aside = item.aside or aside

    patch.setattr(manager.PartitionManager, "prepare", unseeing)
    return DIFFERS


def lost_answers_are_refusals(patch: pytest.MonkeyPatch) -> NodesOptions:
    """Who appends from another node sends again what nobody has answered."""
    told = Lane._told

    def sure(self: Lane, target: Any, append: Any, hear: Any, outcome: Any) -> None:
        if isinstance(outcome, Indeterminate):
            outcome = Sealed(append.segment or 0)
        told(self, target, append, hear, outcome)

    patch.setattr(Lane, "_told", sure)
    return PRODUCING


NODES_BREAKAGES: dict[str, Breakage] = {
    breakage.__name__: breakage
    for breakage in (
        commit_below_quorum,
        seal_below_f_majority,
        metadata_not_synced,
        read_without_barrier,
        epoch_taken_twice,
        outbox_taken_twice,
        retries_forgotten,
        trimmed_below_no_snapshot,
        trimmed_past_the_snapshot,
        an_empty_disk_is_let_in,
        one_zone_is_enough,
        set_aside_for_this_life,
        set_aside_without_a_sync,
        set_aside_and_goes_on,
        the_lead_stays_with_who_is_set_aside,
        lost_answers_are_refusals,
    )
}
