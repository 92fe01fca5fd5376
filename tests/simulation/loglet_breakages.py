"""Replicated loglets that are broken on purpose: each must be found by simulated worlds.

A breakage patches product objects and never stands in product code.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from perdure.core.storage.kv import PutOrDelete
from perdure.log.batch_codec import BatchHeader
from perdure.log.placement import Placement
from perdure.log.replicated import decision, loglet, replicator, server, server_loglet
from perdure.log.replicated.messages import HOLE, NO_BALLOT, Ballot, Info, Store
from perdure.log.replicated.server_store import Mark, ServerStore
from perdure.log.replicated.tails import known_tail
from perdure.testing.simulation.replicated import LogletWorldOptions

Breakage = Callable[[pytest.MonkeyPatch], LogletWorldOptions]

SEALS = LogletWorldOptions(seal_chance=0.15)
"""Worlds where many seal at the same time."""


def commit_below_quorum(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """One copy is enough for a commit."""
    acknowledged = replicator.Replicator.acknowledged

    def eager(self: replicator.Replicator) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Placement, "is_write_quorum", lambda _self, present: bool(present))
            acknowledged(self)

    patch.setattr(replicator.Replicator, "acknowledged", eager)
    return LogletWorldOptions()


def seal_below_f_majority(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """One promise is enough to choose an end."""
    patch.setattr(Placement, "is_f_majority", lambda _self, present: bool(present))
    return SEALS


def reveal_unsynced(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """A server acknowledges what it has written, before it has synced it."""
    take_writes = server.LogServer.take_writes

    def at_once(self: server.LogServer, operations: list[PutOrDelete]) -> list[Any]:
        batches = take_writes(self, operations)
        self._loop.call_soon(self.written, batches)
        return batches

    patch.setattr(server.LogServer, "take_writes", at_once)
    return LogletWorldOptions()


def skip_repair(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """An end is accepted without its batches being at a write quorum."""

    async def nothing(*_arguments: Any) -> bool:
        return True

    patch.setattr(decision.Decision, "_repair", nothing)
    return LogletWorldOptions(seal_chance=0.05, fault_kinds=("kill", "power", "cut", "disk lost"))


def forget_seal(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """A server that restarts knows nothing of seals and ballots."""
    load = ServerStore.load

    def forgetful(self: ServerStore, number: int) -> tuple[Mark, int, int]:
        mark, tail, record_time_ns = load(self, number)
        kept = Mark(mark.sequencer, NO_BALLOT, None, None, mark.trim_point, mark.trimmed_time_ns)
        return kept, tail, record_time_ns

    patch.setattr(ServerStore, "load", forgetful)
    return LogletWorldOptions(seal_chance=0.1, fault_kinds=("kill", "power", "node crashes"))


def accept_holes(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """A server takes batches whatever is missing before them."""
    store = server_loglet.ServerLoglet.store

    def careless(
        self: server_loglet.ServerLoglet,
        request: Store,
        header: BatchHeader,
        writes: list[PutOrDelete],
        ballot: Ballot | None = None,
    ) -> int:
        status = store(self, request, header, writes, ballot)
        if status == HOLE:
            known, self.known_tail = self.known_tail, header.first_offset
            status = store(self, request, header, writes, ballot)
            self.known_tail = known
        return status

    patch.setattr(server_loglet.ServerLoglet, "store", careless)
    return LogletWorldOptions()


def count_lost_disk(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """A server with another disk answers as if it were the one that is meant, and empty."""
    find = server.LogServer._find

    def any_disk(self: server.LogServer, _storage: str, number: int) -> Any:
        return find(self, self.storage, number)

    patch.setattr(server.LogServer, "_find", any_disk)
    return LogletWorldOptions(fault_kinds=("disk lost beside a laggard",), seal_chance=0.0)


def trust_own_tail(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """The sequencer says that its loglet is open without asking anybody."""

    async def nothing(_self: loglet.ReplicatedLoglet) -> None:
        return None

    patch.setattr(loglet.ReplicatedLoglet, "_find_tail", nothing)
    return SEALS


def repair_without_ballots(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """A sealed server takes whatever its sequencer sends."""
    store = server_loglet.ServerLoglet.store

    def unsealed(
        self: server_loglet.ServerLoglet,
        request: Store,
        header: BatchHeader,
        writes: list[PutOrDelete],
        ballot: Ballot | None = None,
    ) -> int:
        mark = self.mark
        if ballot is None and mark.promised > NO_BALLOT:
            self.mark = Mark(mark.sequencer, trim_point=mark.trim_point)
            status = store(self, request, header, writes)
            self.mark = mark
            return status
        return store(self, request, header, writes, ballot)

    patch.setattr(server_loglet.ServerLoglet, "store", unsealed)
    return SEALS


LOSES = LogletWorldOptions(loss=True)
"""Worlds where more disks are lost than are borne, and somebody accepts that."""


def only_what_is_known_to_be_committed_stays(patch: pytest.MonkeyPatch) -> LogletWorldOptions:
    """A loglet ends where the servers that are left are sure, not where their records do."""
    proposal = decision.proposal

    def least(replies: Mapping[int, Info]) -> tuple[int, int, bool]:
        _tail, record_time_ns, accepted = proposal(replies)
        return known_tail(replies), record_time_ns, accepted

    patch.setattr(decision, "proposal", least)
    return LOSES


BREAKAGES: dict[str, Breakage] = {
    breakage.__name__.replace("_", " "): breakage
    for breakage in (
        commit_below_quorum,
        seal_below_f_majority,
        reveal_unsynced,
        skip_repair,
        forget_seal,
        accept_holes,
        count_lost_disk,
        trust_own_tail,
        repair_without_ballots,
        only_what_is_known_to_be_committed_stays,
    )
}
