"""One call as it goes: how its rounds fare, and who answered."""

import asyncio
from dataclasses import dataclass, field
from functools import partial

from ...core.errors import MalformedMessageError
from . import messages as m
from .configuration import Configuration
from .errors import QuorumNotReachedError
from .peer import Peer
from .registers import BEFORE_ALL_BALLOTS
from .rounds import Ask, ListRound, Lost, Round, Verdict


@dataclass(slots=True)
class Attempt:
    """What is known of one call that may need several rounds.

    Attributes:
        what: for messages.
        deadline: on the event loop's clock, in seconds.
        tried: whether a change was sent out.
        beaten: whether the last round was lost to a higher ballot.
        failures: rounds that came to nothing.
        answered: names of the servers that answered when they were last asked.
        silent: what was wrong with each of the others.
    """

    what: str
    deadline: float
    tried: bool = False
    beaten: bool = False
    failures: int = 0
    answered: set[str] = field(default_factory=set)
    silent: dict[str, str] = field(default_factory=dict)

    def heard(self, name: str, problem: str | None) -> None:
        """Note that a server answered, or what is wrong with it."""
        if problem is None:
            self.answered.add(name)
            self.silent.pop(name, None)
        else:
            self.answered.discard(name)
            self.silent[name] = problem

    def knows(self, name: str) -> bool:
        """Whether anything was noted of a server."""
        return name in self.answered or name in self.silent

    def error(self) -> QuorumNotReachedError:
        """What to raise when time is up."""
        return QuorumNotReachedError(
            self.what, self.answered, self.silent, tried=self.tried, beaten=self.beaten
        )


class Performance:
    """One round as it goes: who was asked what, and what follows from each reply."""

    def __init__(
        self,
        attempt: Attempt,
        machine: Round,
        configuration: Configuration,
        peers: dict[bytes, tuple[str, Peer]],
        is_whole: bool,
    ) -> None:
        self._attempt = attempt
        self._machine = machine
        self._configuration = configuration
        self._peers = peers
        self._is_whole = is_whole
        self._asked: dict[bytes, int] = {}
        self._told: set[bytes] = set()
        self._phase = 0
        self.verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Ask everybody the first thing."""
        self._ask_all(self._machine.request)

    def time_out(self) -> None:
        """Count everybody who has not answered as silent."""
        asked, self._asked = self._asked, {}
        for server_id, number in asked.items():
            name, peer = self._peers[server_id]
            peer.forget(number, in_vain=self._is_whole)
            # The last round of a call may be cut short: what was found before says more.
            if self._is_whole or not self._attempt.knows(name):
                self._attempt.heard(name, "it did not answer in time")
            step = self._machine.lose(server_id)
            if isinstance(step, Lost) and not self.verdict.done():
                self.verdict.set_result(step)
        if not self.verdict.done():
            self.verdict.set_result(Lost(BEFORE_ALL_BALLOTS))

    def end(self) -> None:
        """Wait for nobody any more."""
        self._phase += 1
        self._forget()

    def _forget(self) -> None:
        asked, self._asked = self._asked, {}
        for server_id, number in asked.items():
            self._peers[server_id][1].forget(number)

    def _ask_all(self, request: m.Request) -> None:
        self._forget()
        self._phase += 1
        self._told.clear()
        if isinstance(request, m.Accept):
            self._attempt.tried = True
        for server_id in self._peers:
            self._ask(server_id, request)

    def _ask(self, server_id: bytes, request: m.Request) -> None:
        self._asked[server_id] = self._peers[server_id][1].ask(
            request, partial(self._hear, self._phase, server_id, request)
        )

    def _hear(self, phase: int, server_id: bytes, request: m.Request, reply: m.Reply | str) -> None:
        if phase != self._phase or self.verdict.done():
            return
        name, peer = self._peers[server_id]
        if isinstance(reply, str):
            self._attempt.heard(name, reply)
            step = self._machine.lose(server_id)
        elif isinstance(reply, m.Behind) and self._may_install(server_id):
            # It does not know the list yet, which was chosen: tell it, and ask again behind that.
            self._told.add(server_id)
            peer.ask(m.Install(self._configuration), _ignore)
            self._ask(server_id, request)
            return
        else:
            self._attempt.heard(name, reply.reason if isinstance(reply, m.Failed) else None)
            try:
                step = self._machine.take(server_id, reply)
            except MalformedMessageError as error:
                self._attempt.heard(name, error.message)
                step = self._machine.lose(server_id)
            following = None
            if step is None and isinstance(self._machine, ListRound):
                following = self._machine.next_page(reply)
            if following is not None:
                self._ask(server_id, following)
                return
        self._asked.pop(server_id, None)
        if isinstance(step, Ask):
            self._ask_all(step.request)
        elif step is not None:
            self.verdict.set_result(step)

    def _may_install(self, server_id: bytes) -> bool:
        return self._configuration.epoch > 0 and server_id not in self._told


def _ignore(reply: m.Reply | str) -> None:
    """Nothing depends on it."""
