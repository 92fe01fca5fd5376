"""Rules of the quorum, each broken on purpose; the simulation has to notice every one."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import pytest

from perdure.core.errors import StorageError
from perdure.metadata.quorum import messages as m
from perdure.metadata.quorum import proposer as proposer_module
from perdure.metadata.quorum import rounds as rounds_module
from perdure.metadata.quorum.acceptor import Acceptor
from perdure.metadata.quorum.acceptor_rows import accepted_key, encode_accepted
from perdure.metadata.quorum.configuration import Configuration
from perdure.metadata.quorum.registers import Ballot, Register, decode_register
from perdure.testing.simulation.disk import SimulationDisk

from .world import Machine, Plan, World

Breakage: TypeAlias = Callable[[pytest.MonkeyPatch], type[World] | None]
"""Breaks a rule; gives the world in which it is broken when that is not the usual one."""


def answer_before_sync(patch: pytest.MonkeyPatch) -> None:
    """What is answered may be lost with the power."""

    def make_durable(self: Any) -> None:
        operations, self._changed = list(self._changed.items()), {}
        try:
            self._store.write(operations)
        except StorageError as error:
            self._failure = error.message

    patch.setattr(Acceptor, "_make_durable", make_durable)


def quorum_of_half(patch: pytest.MonkeyPatch) -> None:
    """One of three is enough."""
    patch.setattr(Configuration, "quorum", property(lambda self: len(self.members) // 2))


def promises_forgotten_at_start(patch: pytest.MonkeyPatch) -> None:
    """A server that starts again knows what it accepted, not what it promised."""
    start = Acceptor.__init__

    def forget(self: Any, store: Any, **options: Any) -> None:
        promises = [key for key, _ in store.scan(b"quorum/p/", b"quorum/p0")]
        store.write([(key, None) for key in promises])
        start(self, store, **options)

    patch.setattr(Acceptor, "__init__", forget)


def promises_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A server accepts whatever comes."""

    def accept(self: Any, key: bytes, ballot: Ballot, register: bytes) -> m.Reply:
        if not self._is_full(key):
            self._changed[accepted_key(key)] = encode_accepted(ballot, register)
        return m.Done()

    patch.setattr(Acceptor, "_accept", accept)


def latest_state_not_taken(patch: pytest.MonkeyPatch) -> None:
    """A proposer goes on from the state of whoever promised first."""

    def propose(self: Any) -> rounds_module.Ask:
        first = next(iter(self._promises.values()))
        self._accepting = self._change(decode_register(first.register))
        self._count.lost.clear()
        return rounds_module.Ask(
            m.Accept(
                self._configuration.epoch,
                self._key,
                self._ballot,
                rounds_module.encode_register(self._accepting),
            )
        )

    patch.setattr(rounds_module.ChangeRound, "_propose", propose)


def reads_do_not_settle(patch: pytest.MonkeyPatch) -> None:
    """A read in one round trip looks at no promises: it may pass by a change in the balance."""

    def agree(ballots: Iterable[tuple[bytes, bytes]]) -> bool:
        return len({accepted for _, accepted in ballots}) == 1

    patch.setattr(rounds_module, "agree", agree)


def rounds_without_change_end_early(patch: pytest.MonkeyPatch) -> None:
    """A round that changes nothing spares itself the second half."""
    propose = rounds_module.ChangeRound._propose

    def shortened(self: Any) -> Any:
        latest = max(self._promises.values(), key=lambda held: held.accepted)
        ask = propose(self)
        if self._accepting == decode_register(latest.register):
            return rounds_module.Chosen(self._accepting, self._ballot)
        return ask

    patch.setattr(rounds_module.ChangeRound, "_propose", shortened)


def nonces_ignored(patch: pytest.MonkeyPatch) -> None:
    """A change does not recognise what an earlier round of its own made."""
    patch.setattr(Register, "was_written_by", lambda self, nonce, version: False)


def versions_begin_anew(patch: pytest.MonkeyPatch) -> None:
    """A key that is put after a delete counts from 1 again."""

    def changed(self: Register, value: bytes | None, nonce: bytes) -> Register:
        if value is None:
            return Register(0, None, ())
        return Register(self.version + 1, value, (nonce, *self.writers[:63]))

    patch.setattr(Register, "changed", changed)


def ballots_shared(patch: pytest.MonkeyPatch) -> None:
    """Two proposers may use the same ballot."""
    patch.setattr(
        proposer_module, "make_ballot", lambda number, _: Ballot(number.to_bytes(8, "big") * 3)
    )


class AmnesiaWorld(World):
    """A world whose servers keep their id when they lose their storage."""

    def emptied(self, machine: Machine) -> SimulationDisk:
        """A disk with nothing but who the server was."""
        disk = self.new_disk(machine.name)
        row = machine.disk.rows().get(b"quorum/s")
        if row is not None:
            disk.write([(b"quorum/s", row)])
            disk.sync()
        return disk


def wiped_server_counts_at_once(patch: pytest.MonkeyPatch) -> type[World]:
    """Lost storage does not make another server of it."""
    return AmnesiaWorld


def epochs_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A server serves proposers whose list is long out of date."""
    refusal = Acceptor._refusal

    def lenient(self: Any, epoch: int, key: bytes | None) -> m.Reply | None:
        reply = refusal(self, epoch, key)
        return None if isinstance(reply, m.Superseded) and epoch else reply

    patch.setattr(Acceptor, "_refusal", lenient)


_FOUGHT_FOR = Plan(3, calls=15, changes=12, faults=40, keys=1, kinds=("lag", "cut"), step_ms=15)

BREAKAGES: dict[Breakage, tuple[Plan, int]] = {
    answer_before_sync: (Plan(3), 11),
    quorum_of_half: (Plan(3), 1),
    promises_not_kept: (Plan(3), 0),
    latest_state_not_taken: (Plan(3), 1),
    rounds_without_change_end_early: (Plan(3), 4),
    nonces_ignored: (Plan(3), 0),
    versions_begin_anew: (Plan(3), 0),
    ballots_shared: (Plan(3), 0),
    wiped_server_counts_at_once: (Plan(3, wipes=True), 11),
    epochs_not_checked: (_FOUGHT_FOR, 3),
}
"""Each breakage with the plan of the worlds that are to find it, and a seed that did.

The others take more than a hundred worlds; `test_rare_races` has them step by step.
"""
