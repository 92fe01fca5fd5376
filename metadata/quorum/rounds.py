"""The machines of a proposer: one round of messages each, replies in, the next step out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, assert_never

from . import messages as m
from .configuration import Configuration
from .registers import (
    BEFORE_ALL_BALLOTS,
    Ballot,
    Register,
    check_ballot,
    decode_register,
    encode_register,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this to every member; what is still to come for the step before does not matter."""

    request: m.Request


@dataclass(frozen=True, slots=True)
class Chosen:
    """A quorum agreed on the register, under this ballot."""

    register: Register
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Undecided:
    """A quorum answered and did not agree: a full round has to decide."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a quorum said of registers: of each, whether it has a value; None if they differ."""

    keys: dict[bytes, bool | None]


@dataclass(frozen=True, slots=True)
class Overtaken:
    """There is a newer list of servers."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Lost:
    """No quorum can agree any more; `ballot` is the highest that was seen ahead of ours."""

    ballot: Ballot


Verdict: TypeAlias = Chosen | Undecided | Listing | Overtaken | Lost
Step: TypeAlias = Ask | Verdict | None
"""What follows from a reply; None waits for more."""


class Round(Protocol):
    """One attempt to get something from a quorum, under one list of servers."""

    request: m.Request
    """What is sent to every member first."""

    def take(self, server_id: bytes, reply: m.Reply) -> Step:
        """A member's reply to the last request. Raises MalformedMessageError for nonsense."""
        ...

    def lose(self, server_id: bytes) -> Step:
        """A member will not answer the last request."""
        ...


class _Count:
    """Who agreed to the last request, who did not, and whether a quorum still can."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.highest = BEFORE_ALL_BALLOTS
        self.lost: set[bytes] = set()

    def refuse(self, server_id: bytes, reply: m.Reply | None) -> Step:
        """Whatever is no agreement."""
        match reply:
            case m.Superseded(configuration):
                if configuration.epoch > self._configuration.epoch:
                    return Overtaken(configuration)
            case m.Beaten(promised):
                self.highest = max(self.highest, check_ballot(promised))
            case m.Behind() | m.Failed() | None:
                pass
            case m.Held() | m.Done() | m.Page() | m.Report():
                # A reply to another question is as good as none.
                pass
            case _:
                assert_never(reply)
        self.lost.add(server_id)
        if len(self._configuration.members) - len(self.lost) < self._configuration.quorum:
            return Lost(self.highest)
        return None


class ReadRound:
    """Reads a register in one round trip when a quorum is quiet and agrees.

    That is: all of it accepted the same ballot and promised none above it. Then the state was
    chosen under that ballot, so that nothing later was complete when the read began. And no change
    that was given up before can still come out of it: it would have had a promise of a quorum
    before it was sent, and one member of this quorum would show that promise.
    """

    def __init__(self, configuration: Configuration, key: bytes) -> None:
        """Take the members and the key."""
        self.request: m.Request = m.Read(configuration.epoch, key)
        self._configuration = configuration
        self._count = _Count(configuration)
        self._held: dict[bytes, m.Held] = {}

    def take(self, server_id: bytes, reply: m.Reply) -> Step:
        """See `Round`."""
        if not isinstance(reply, m.Held):
            return self._count.refuse(server_id, reply)
        self._held[server_id] = reply
        if len(self._held) < self._configuration.quorum:
            return None
        if not agree((held.promised, held.accepted) for held in self._held.values()):
            return Undecided()
        return Chosen(decode_register(reply.register), Ballot(reply.accepted))

    def lose(self, server_id: bytes) -> Step:
        """See `Round`."""
        return self._count.refuse(server_id, None)


def agree(ballots: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether all (promised, accepted) are one ballot, the same everywhere."""
    return len({ballot for pair in ballots for ballot in pair}) == 1


class ChangeRound:
    """A full round: a quorum promises, what was accepted is changed, a quorum accepts the change.

    A round that changes nothing is needed for certainty, too: the state that it read may have been
    accepted by few, and another by others. Accepted anew under a higher ballot it is the only one.
    """

    def __init__(
        self,
        configuration: Configuration,
        key: bytes,
        ballot: Ballot,
        change: Callable[[Register], Register],
    ) -> None:
        """Take a ballot that was never used and what is to become of the state that is there."""
        self.request: m.Request = m.Prepare(configuration.epoch, key, ballot)
        self._configuration = configuration
        self._key = key
        self._ballot = ballot
        self._change = change
        self._count = _Count(configuration)
        self._promises: dict[bytes, m.Held] = {}
        self._accepting: Register | None = None
        self._accepted: set[bytes] = set()

    def take(self, server_id: bytes, reply: m.Reply) -> Step:
        """See `Round`."""
        if self._accepting is None and isinstance(reply, m.Held):
            self._promises[server_id] = reply
            return self._propose() if len(self._promises) == self._configuration.quorum else None
        if self._accepting is not None and isinstance(reply, m.Done):
            self._accepted.add(server_id)
            if len(self._accepted) == self._configuration.quorum:
                return Chosen(self._accepting, self._ballot)
            return None
        return self._count.refuse(server_id, reply)

    def lose(self, server_id: bytes) -> Step:
        """See `Round`."""
        return self._count.refuse(server_id, None)

    def _propose(self) -> Ask:
        latest = max(self._promises.values(), key=lambda held: held.accepted)
        self._accepting = self._change(decode_register(latest.register))
        # Everybody is asked again, also who did not promise: a new count.
        self._count.lost.clear()
        epoch = self._configuration.epoch
        return Ask(m.Accept(epoch, self._key, self._ballot, encode_register(self._accepting)))


class ListRound:
    """Lists registers as a quorum has them, page by page from each member.

    A page of a member is asked for by the driver through `next_page`, as each has its own pace.
    """

    def __init__(self, configuration: Configuration, prefix: bytes) -> None:
        """Take the members and what the keys start with."""
        self.request: m.Request = m.List(configuration.epoch, prefix, b"")
        self._configuration = configuration
        self._prefix = prefix
        self._count = _Count(configuration)
        self._rows: dict[bytes, dict[bytes, m.Row]] = {}
        self._complete: set[bytes] = set()

    def take(self, server_id: bytes, reply: m.Reply) -> Step:
        """See `Round`."""
        if not isinstance(reply, m.Page):
            return self._count.refuse(server_id, reply)
        self._rows.setdefault(server_id, {}).update((row.key, row) for row in reply.rows)
        if reply.more and reply.rows:
            return None
        self._complete.add(server_id)
        return self._merged() if len(self._complete) == self._configuration.quorum else None

    def next_page(self, reply: m.Reply) -> m.Request | None:
        """What to ask the same member after its reply, None for nothing."""
        if isinstance(reply, m.Page) and reply.more and reply.rows:
            return m.List(self._configuration.epoch, self._prefix, reply.rows[-1].key)
        return None

    def lose(self, server_id: bytes) -> Step:
        """See `Round`."""
        return self._count.refuse(server_id, None)

    def _merged(self) -> Listing:
        tables = [self._rows[server_id] for server_id in self._complete]
        keys = sorted({key for table in tables for key in table})
        merged: dict[bytes, bool | None] = {}
        for key in keys:
            rows = [table.get(key, _NO_ROW) for table in tables]
            if agree((row.promised, row.accepted) for row in rows):
                merged[key] = rows[0].has_value
            else:
                merged[key] = None
        return Listing(merged)


_NO_ROW: Final = m.Row(b"-", BEFORE_ALL_BALLOTS, BEFORE_ALL_BALLOTS, False)
