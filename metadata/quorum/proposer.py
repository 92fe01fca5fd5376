"""Proposer: runs rounds on the servers of the list, again until one is decided or time is up."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...core.errors import TransportError
from ...core.net.transport import Transport
from ...core.pauses import pause
from ...core.random import Random
from ...core.retry import RetryPolicy
from ...core.tasks import TaskScope
from ...core.waiters import settle
from . import messages as m
from .attempts import Attempt, Performance
from .configuration import Configuration
from .errors import NotProvisionedError, StrangerError
from .peer import Peer
from .registers import (
    BEFORE_ALL_BALLOTS,
    PROPOSER_BYTES,
    Ballot,
    Register,
    ballot_number,
    make_ballot,
)
from .rounds import (
    ChangeRound,
    Chosen,
    Listing,
    ListRound,
    Lost,
    Overtaken,
    Round,
    Undecided,
    Verdict,
)

_BACK_OFF: Final = RetryPolicy(
    initial_interval_ns=2_000_000,
    factor=2.0,
    interval_max_ns=100_000_000,
    attempts_max=None,
    jitter=0.0,
)
"""The longest wait between attempts. Each wait is drawn from nothing to this, so that of several
proposers that beat each other one gets ahead."""


@dataclass(frozen=True, slots=True)
class QuorumOptions:
    """How long things may take.

    Attributes:
        operation_seconds: no call takes longer; then it raises QuorumNotReachedError.
        round_seconds: a server that has not answered by then counts as silent.
    """

    operation_seconds: float = 10.0
    round_seconds: float = 2.0


class Proposer:
    """Knows the list of servers, their connections and the ballots of one proposer.

    A ballot is used once: numbers go up, and the rest of it is drawn when the proposer is made, so
    that no two proposers, nor a process and the one before it, share any.
    """

    def __init__(
        self,
        transport: Transport,
        addresses: Sequence[str],
        *,
        random: Random,
        sender: str,
        fingerprint: str = "",
        options: QuorumOptions | None = None,
    ) -> None:
        """Take addresses of some servers, and the cluster's fingerprint unless any will do.

        Args:
            sender: name and generation of the node, for the servers' logs.
        """
        self.options = options or QuorumOptions()
        self.configuration: Configuration | None = None
        self.fingerprint = fingerprint
        self._transport = transport
        self._addresses = tuple(dict.fromkeys(addresses))
        self._random = random
        self._sender = sender
        self._proposer = random.bits(8 * PROPOSER_BYTES).to_bytes(PROPOSER_BYTES, "big")
        self._ballot_number = 0
        self._closed = False
        self._scope = TaskScope("metadata quorum")
        self._peers: dict[tuple[str, bytes | None], Peer] = {}

    async def close(self) -> None:
        """End the connections; calls under way raise TransportError. Cancelling is safe."""
        self._closed = True
        await self._scope.close()

    def begin(self, what: str, seconds: float | None = None) -> Attempt:
        """Start the clock of a call; it takes less than any may where `seconds` says so."""
        now = asyncio.get_running_loop().time()
        most = self.options.operation_seconds
        return Attempt(what, now + (most if seconds is None else min(most, seconds)))

    def nonce(self, size: int) -> bytes:
        """Bytes that nobody else draws."""
        return self._random.bits(8 * size).to_bytes(size, "big")

    # Rounds --------------------------------------------------------------------------------------

    async def change(
        self,
        attempt: Attempt,
        key: bytes,
        change: Callable[[Register], Register],
        *,
        under: Configuration | None = None,
    ) -> Chosen:
        """Run full rounds until one is chosen. Cancelling leaves open whether one will be.

        Args:
            change: gives the next state; it is called once per round, with the state before, and
                has to recognise there what an earlier round of its own has made.
            under: the list to use, whatever newer ones there are; else the newest.

        Raises QuorumNotReachedError, and OvertakenError when there is a newer list than `under`.
        """
        while True:
            configuration = under or await self.learn(attempt)
            ballot = self._next_ballot()
            verdict = await self.run(
                attempt, ChangeRound(configuration, key, ballot, change), configuration
            )
            match verdict:
                case Chosen():
                    return verdict
                case Overtaken(newer):
                    self.adopt(newer)
                    if under is not None:
                        raise OvertakenError(newer)
                case Lost(highest):
                    self._ballot_number = max(self._ballot_number, ballot_number(highest))
                    attempt.beaten = highest != BEFORE_ALL_BALLOTS
                    await self.back_off(attempt)
                case Undecided() | Listing():
                    raise AssertionError(verdict)

    async def list_registers(
        self, attempt: Attempt, prefix: bytes, *, under: Configuration | None = None
    ) -> dict[bytes, bool | None]:
        """The registers that a quorum has. Cancelling is safe. Raises as `change` does."""
        while True:
            configuration = under or await self.learn(attempt)
            verdict = await self.run(attempt, ListRound(configuration, prefix), configuration)
            match verdict:
                case Listing(keys):
                    return keys
                case Overtaken(newer):
                    self.adopt(newer)
                    if under is not None:
                        raise OvertakenError(newer)
                case Lost():
                    await self.back_off(attempt)
                case Undecided() | Chosen():
                    raise AssertionError(verdict)

    async def run(self, attempt: Attempt, machine: Round, configuration: Configuration) -> Verdict:
        """One round, to its verdict or to the end of its time. Cancelling is safe."""
        self._check_open()
        loop = asyncio.get_running_loop()
        whole = self.options.round_seconds
        seconds = min(whole, max(attempt.deadline - loop.time(), 0))
        peers = self._peers_of(configuration)
        performance = Performance(attempt, machine, configuration, peers, seconds == whole)
        timer = loop.call_later(seconds, performance.time_out)
        try:
            performance.start()
            return await performance.verdict
        finally:
            timer.cancel()
            performance.end()

    async def back_off(self, attempt: Attempt) -> None:
        """Wait before the next round. Raises QuorumNotReachedError when time is up."""
        attempt.failures += 1
        delay = _BACK_OFF.wait_seconds(attempt.failures, self._random) * self._random.fraction()
        loop = asyncio.get_running_loop()
        if loop.time() + delay >= attempt.deadline:
            raise attempt.error()
        await pause(loop, delay)
        # A server that was out may know a newer list than the ones that did not answer.
        if attempt.failures % 4 == 0 and self.configuration is not None and not attempt.beaten:
            await self._ask_around(attempt)

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("the metadata store was closed: open it again to use it")

    def _next_ballot(self) -> Ballot:
        self._ballot_number += 1
        return make_ballot(self._ballot_number, self._proposer)

    # The list of servers -------------------------------------------------------------------------

    async def learn(self, attempt: Attempt) -> Configuration:
        """The newest list that is known, asked for when none is.

        Raises NotProvisionedError and QuorumNotReachedError. Cancelling is safe.
        """
        while self.configuration is None:
            reports = await self._ask_around(attempt)
            if self.configuration is not None:
                break
            if len(reports) == len(self._addresses) > 0:
                raise NotProvisionedError(
                    f"the metadata servers at {', '.join(self._addresses)} answer, but they have "
                    "no list of servers yet: provision the cluster"
                )
            await self.back_off(attempt)
        return self.configuration

    def adopt(self, configuration: Configuration) -> None:
        """Use a list that was chosen, if it is newer. Raises StrangerError."""
        if self.fingerprint and configuration.fingerprint != self.fingerprint:
            raise StrangerError(
                f"metadata servers belong to cluster {configuration.fingerprint}, not "
                f"{self.fingerprint}: check their addresses"
            )
        if self.configuration is None or configuration.epoch > self.configuration.epoch:
            self.configuration = configuration
            self.fingerprint = configuration.fingerprint
            self._keep_peers(configuration)

    async def _ask_around(self, attempt: Attempt) -> dict[str, m.Report]:
        peers = {address: self.peer(address) for address in self._addresses}
        epoch = self.configuration.epoch if self.configuration is not None else 0

        def tells_more(reply: m.Reply | str) -> bool:
            if not isinstance(reply, m.Report) or reply.configuration is None:
                return False
            return reply.configuration.epoch > epoch

        reports = await self.ask_each(attempt, peers, m.Status(), tells_more)
        found = {name: reply for name, reply in reports.items() if isinstance(reply, m.Report)}
        for report in found.values():
            if report.configuration is not None:
                self.adopt(report.configuration)
        if self.configuration is not None:
            # From here on servers go by their names in the list, not by their addresses.
            for address in self._addresses:
                attempt.silent.pop(address, None)
                attempt.answered.discard(address)
        return found

    async def ask_each(
        self,
        attempt: Attempt,
        peers: dict[str, Peer],
        request: m.Request,
        enough: Callable[[m.Reply | str], bool] = lambda reply: False,
    ) -> dict[str, m.Reply | str]:
        """Ask servers one thing; the reply of each, or what is wrong with it. Cancelling is safe.

        Waits for all of them, or for a reply that is `enough`, for one round's time at most.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        replies: dict[str, m.Reply | str] = {}
        complete: asyncio.Future[None] = loop.create_future()

        def hear(name: str, reply: m.Reply | str) -> None:
            replies[name] = reply
            if len(replies) == len(peers) or enough(reply):
                settle(complete)

        def time_out() -> None:
            for name in [name for name in peers if name not in replies]:
                peers[name].forget(numbers[name], in_vain=True)
                replies[name] = "it did not answer in time"
            settle(complete)

        seconds = min(self.options.round_seconds, attempt.deadline - loop.time())
        timer = loop.call_later(max(seconds, 0), time_out)
        numbers = {name: peer.ask(request, partial(hear, name)) for name, peer in peers.items()}
        try:
            if peers:
                await complete
        finally:
            timer.cancel()
            for name, number in numbers.items():
                peers[name].forget(number)
        for name, reply in replies.items():
            attempt.heard(name, reply if isinstance(reply, str) else None)
        return replies

    def peer(self, address: str, expected_id: bytes | None = None) -> Peer:
        """The connection to a server, made when it is needed."""
        found = self._peers.get((address, expected_id))
        if found is None:
            found = Peer(
                self._transport,
                address,
                scope=self._scope,
                sender=self._sender,
                fingerprint=lambda: self.fingerprint,
                expected_id=expected_id,
            )
            self._peers[address, expected_id] = found
        return found

    def _peers_of(self, configuration: Configuration) -> dict[bytes, tuple[str, Peer]]:
        return {
            member.id: (member.name, self.peer(member.address, member.id))
            for member in configuration.members
        }

    def _keep_peers(self, configuration: Configuration) -> None:
        """Let go of the connections to servers that are in no list any more."""
        kept = {(member.address, member.id) for member in configuration.members}
        kept |= {(member.address, member.id) for member in configuration.previous}
        for name, peer in list(self._peers.items()):
            if name not in kept and name[1] is not None:
                del self._peers[name]
                peer.drop()


class OvertakenError(Exception):
    """There is a newer list of servers than the one that a call insisted on.

    Attributes:
        configuration: the newer one.
    """

    def __init__(self, configuration: Configuration) -> None:
        """Take the newer list."""
        super().__init__(configuration.epoch)
        self.configuration = configuration
