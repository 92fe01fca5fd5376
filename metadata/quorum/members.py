"""MetadataServers: the list of servers as an operator sees it: begin, look, add one, remove one.

A change goes through these steps; each may be repeated, by anybody, after a crash between two:

1. The next list is put into the register of the list, under the list that is in force. It names
   the one before it, and is not settled.
2. It is installed on more than half of the old servers and more than half of the new ones. From
   then on nothing can be chosen under the old epoch.
3. Every register that a new quorum knows is chosen again under the new epoch. From then on
   nothing that was chosen, promised or half accepted before matters.
4. The list is put into its register as settled. Only then may the next change begin.

A server that is added gets a copy of every register before step 1. Nothing rests on that copy: any
majority with the new server in it still meets every majority of the old list in an old server.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ..api import MatchesVersion, Version
from . import messages as m
from .acceptor import CONFIGURATION_KEY
from .attempts import Attempt
from .changes import KeyChange, Made, unchanged
from .configuration import (
    SERVERS_MAX,
    Configuration,
    Member,
    decode_configuration,
    encode_configuration,
    quorum_of,
)
from .errors import MemberChangeError, QuorumNotReachedError
from .proposer import OvertakenError, Proposer
from .registers import NONCE_BYTES, Register, encode_register

_REGISTERS_AT_ONCE: Final = 32
"""Registers that are chosen again or copied at a time; the servers write them as one batch."""


LOOK_SECONDS: Final = 3.0
"""Who looks because something is wrong is not left waiting for as long as a change may take."""

IN_ORDER: Final = "in order"
"""The state of a server with which nothing is wrong."""

NOT_TOLD: Final = "in order, but has not heard of this list yet"
"""The state of a server that will be told with the next request."""


@dataclass(frozen=True, slots=True)
class MemberReport:
    """How a server of the list is.

    Attributes:
        name: of its node.
        address: where it is.
        server_id: of its storage, in hexadecimal.
        state: `IN_ORDER`, `NOT_TOLD`, or what is wrong with it.
        registers: how many keys it keeps, deleted ones included; None when it does not say.
    """

    name: str
    address: str
    server_id: str
    state: str
    registers: int | None


@dataclass(frozen=True, slots=True)
class MembersReport:
    """The list of servers.

    Attributes:
        epoch: of the list; each change is a new one.
        agreed: a quorum says so now; else no quorum answers, and it is what some server told last.
        settled: nobody's change is under way or was left unfinished, so the next one may begin.
        members: the servers.
    """

    epoch: int
    agreed: bool
    settled: bool
    members: tuple[MemberReport, ...]


class MetadataServers:
    """Begins, shows and changes the list of servers.

    Its methods raise QuorumNotReachedError when too few servers answer, NotProvisionedError,
    StrangerError, and MemberChangeError with the reason. After any of them, or when cancelled, the
    change may have been made or begun; calling again goes on with it.
    """

    def __init__(self, proposer: Proposer) -> None:
        """Take a proposer, which may be shared with a store."""
        self._proposer = proposer

    def names(self) -> tuple[str, ...]:
        """The nodes of the list as it was last heard of here, empty before that; asks nobody."""
        configuration = self._proposer.configuration
        return () if configuration is None else tuple(each.name for each in configuration.members)

    async def provision(self, addresses: Sequence[str], fingerprint: str) -> bool:
        """Begin a cluster with the servers at these addresses, all of which have to answer.

        False when they have a list already, which stays as it is. Of several who do this at the
        same time with the same servers one wins.
        """
        assert fingerprint, "a cluster has a fingerprint"
        attempt = self._proposer.begin("provision the metadata servers")
        reports = await self._beginners(attempt, tuple(dict.fromkeys(addresses)))
        if self._proposer.configuration is not None:
            return False
        for at, report in reports.items():
            if report.fingerprint:
                raise MemberChangeError(
                    f"the metadata server at {at} was to be added to cluster "
                    f"{report.fingerprint}: clear its metadata directory first"
                )
        members = tuple(
            sorted(
                (Member(report.server_id, report.name, at) for at, report in reports.items()),
                key=lambda member: member.id,
            )
        )
        for what in ("id", "name"):
            if len({getattr(member, what) for member in members}) < len(members):
                raise MemberChangeError(
                    f"two of the servers at {', '.join(reports)} have the same {what}: give the "
                    "address of each server once"
                )
        first = Configuration(1, fingerprint, members)
        nonce = self._proposer.nonce(NONCE_BYTES)

        def begin(register: Register) -> Register:
            return (
                register
                if register.version
                else register.changed(encode_configuration(first), nonce)
            )

        try:
            chosen = await self._proposer.change(
                attempt, CONFIGURATION_KEY, begin, under=Configuration(0, fingerprint, members)
            )
        except OvertakenError:
            return False
        configuration = _list_of(chosen.register)
        if configuration.members != members:
            # It has to be chosen among its own servers before anybody may follow it.
            names = ", ".join(f"{each.name} at {each.address}" for each in configuration.members)
            raise MemberChangeError(
                f"one of these servers was to begin a cluster with others ({names}): provision "
                "those, or clear its metadata directory"
            )
        self._proposer.adopt(configuration)
        await self._install(configuration)
        return chosen.register.writers[-1] == nonce

    async def report(self) -> MembersReport:
        """The list, and how each of its servers is. Cancelling is safe.

        Without a quorum it shows the newest list that any server told of, and then it may be old.
        """
        agreed = True
        try:
            _, configuration = await self._current(LOOK_SECONDS)
        except QuorumNotReachedError:
            known = self._proposer.configuration
            if known is None:
                raise
            agreed, configuration = False, known
        attempt = self._proposer.begin("look after the metadata servers")
        # Whoever is at the address may answer: that is how lost storage is seen.
        replies = await self._proposer.ask_each(
            attempt,
            {
                member.address: self._proposer.peer(member.address)
                for member in configuration.members
            },
            m.Status(),
        )
        return MembersReport(
            configuration.epoch,
            agreed,
            configuration.is_settled,
            tuple(
                _report_of(member, replies[member.address], configuration)
                for member in configuration.members
            ),
        )

    async def add(self, address: str) -> None:
        """Add the new server at an address; nothing happens when it is in the list already."""
        version, configuration = await self._settled()
        report = await self._status(address)
        if configuration.has(report.server_id):
            return
        if report.configuration is not None:
            raise MemberChangeError(
                f"the metadata server at {address} is, or was, a member of a cluster: stop it, "
                "clear its metadata directory (metadata-server in its base directory) and start "
                "it, so that it is a new one"
            )
        taken = {member.address for member in configuration.members}
        taken |= {member.name for member in configuration.members}
        if address in taken or report.name in taken:
            raise MemberChangeError(
                f"the list has another server {report.name} or at {address}: if it has lost its "
                "storage, remove it first"
            )
        if len(configuration.members) == SERVERS_MAX:
            raise MemberChangeError(f"the list has {SERVERS_MAX} servers already: remove one")
        await self._fill(address, report, configuration)
        added = Member(report.server_id, report.name, address)
        await self._follow(version, configuration.following((*configuration.members, added)))

    async def remove(self, name: str) -> None:
        """Remove a server by its name; it need not answer, and may have lost its storage."""
        version, configuration = await self._settled()
        kept = tuple(member for member in configuration.members if member.name != name)
        if len(kept) == len(configuration.members):
            names = ", ".join(sorted(member.name for member in configuration.members))
            raise MemberChangeError(f"no metadata server is called {name!r}; there are {names}")
        if not kept:
            raise MemberChangeError(f"{name} is the last metadata server: add another one first")
        reports = (await self.report()).members
        well = {each.name for each in reports if each.state in (IN_ORDER, NOT_TOLD)}
        ready = [member.name for member in kept if member.name in well]
        if len(ready) < quorum_of(len(kept)):
            missing = ", ".join(member.name for member in kept if member.name not in well)
            raise MemberChangeError(
                f"without {name} too few metadata servers would be in order, as {missing} is not: "
                "remove or mend that one first"
            )
        await self._follow(version, configuration.following(kept))

    async def settle(self) -> None:
        """Finish a change that somebody began and did not end, if there is one."""
        await self._settled()

    # The steps -----------------------------------------------------------------------------------

    async def _current(self, seconds: float | None = None) -> tuple[Version, Configuration]:
        """The list that its register holds, and that register's version.

        Gives up after so many seconds, or as late as any call if None.
        """
        attempt = self._proposer.begin("read the list of metadata servers", seconds)
        chosen = await self._proposer.change(attempt, CONFIGURATION_KEY, unchanged)
        configuration = _list_of(chosen.register)
        self._proposer.adopt(configuration)
        return Version(chosen.register.version), configuration

    async def _settled(self) -> tuple[Version, Configuration]:
        while True:
            version, configuration = await self._current()
            if configuration.is_settled:
                return version, configuration
            await self._finish(version, configuration)

    async def _follow(self, version: Version, following: Configuration) -> None:
        """Make `following` the list if nobody changed it since `version`, and finish."""
        if not await self._replace(version, following):
            raise MemberChangeError("somebody else changed the list of servers: look and try again")
        self._proposer.adopt(following)
        await self._settled()

    async def _replace(
        self, version: Version, configuration: Configuration, under: Configuration | None = None
    ) -> bool:
        attempt = self._proposer.begin("change the list of metadata servers")
        change = KeyChange(
            "the list of servers",
            encode_configuration(configuration),
            MatchesVersion(version),
            self._proposer.nonce(NONCE_BYTES),
        )
        await self._proposer.change(attempt, CONFIGURATION_KEY, change, under=under)
        return isinstance(change.outcome, Made)

    async def _finish(self, version: Version, configuration: Configuration) -> None:
        """Steps 2 to 4; returns early when somebody else got further."""
        try:
            await self._install(configuration)
            attempt = self._proposer.begin("choose all metadata again")
            keys = await self._proposer.list_registers(attempt, b"", under=configuration)
            await self._for_each(list(keys), partial(self._choose_again, configuration))
            await self._replace(version, configuration.settled(), configuration)
        except OvertakenError:
            return

    async def _install(self, configuration: Configuration) -> None:
        """Tell more than half of the old servers and more than half of the new ones."""
        attempt = self._proposer.begin("install the list of metadata servers")
        everybody = {member.id: member for member in configuration.previous}
        everybody |= {member.id: member for member in configuration.members}
        peers = {
            member.id.hex(): self._proposer.peer(member.address, member.id)
            for member in everybody.values()
        }
        told: set[str] = set()
        while True:
            replies = await self._proposer.ask_each(attempt, peers, m.Install(configuration))
            told |= {name for name, reply in replies.items() if isinstance(reply, m.Done)}
            if all(
                len([member for member in members if member.id.hex() in told])
                >= quorum_of(len(members))
                for members in (configuration.previous, configuration.members)
                if members
            ):
                return
            await self._proposer.back_off(attempt)

    async def _choose_again(self, configuration: Configuration, key: bytes) -> None:
        attempt = self._proposer.begin("choose all metadata again")
        await self._proposer.change(attempt, key, unchanged, under=configuration)

    async def _fill(self, address: str, report: m.Report, configuration: Configuration) -> None:
        attempt = self._proposer.begin(f"copy all metadata to {address}")
        keys = await self._proposer.list_registers(attempt, b"", under=None)
        await self._for_each(
            list(keys), partial(self._copy, address, report.server_id, configuration.fingerprint)
        )

    async def _copy(self, address: str, server_id: bytes, fingerprint: str, key: bytes) -> None:
        attempt = self._proposer.begin(f"copy all metadata to {address}")
        chosen = await self._proposer.change(attempt, key, unchanged)
        fill = m.Fill(fingerprint, key, chosen.ballot, encode_register(chosen.register))
        while True:
            peers = {address: self._proposer.peer(address, server_id)}
            reply = (await self._proposer.ask_each(attempt, peers, fill))[address]
            match reply:
                case m.Done():
                    return
                case m.Failed(reason):
                    raise MemberChangeError(f"the metadata server at {address} fails: {reason}")
                case _:
                    await self._proposer.back_off(attempt)

    async def _for_each(
        self, keys: Sequence[bytes], work: Callable[[bytes], Coroutine[Any, Any, None]]
    ) -> None:
        for first in range(0, len(keys), _REGISTERS_AT_ONCE):
            results = await asyncio.gather(
                *(work(key) for key in keys[first : first + _REGISTERS_AT_ONCE]),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _status(self, address: str) -> m.Report:
        attempt = self._proposer.begin(f"reach the metadata server at {address}")
        while True:
            peers = {address: self._proposer.peer(address)}
            reply = (await self._proposer.ask_each(attempt, peers, m.Status()))[address]
            if isinstance(reply, m.Report):
                return reply
            await self._proposer.back_off(attempt)

    async def _beginners(self, attempt: Attempt, addresses: tuple[str, ...]) -> dict[str, m.Report]:
        """The reports of all servers; the list is adopted when one of them has it."""
        if len(addresses) not in (1, 3, 5):
            raise MemberChangeError(
                f"a cluster begins with 1, 3 or 5 metadata servers, not {len(addresses)}"
            )
        peers = {address: self._proposer.peer(address) for address in addresses}
        while True:
            replies = await self._proposer.ask_each(attempt, peers, m.Status())
            reports = {at: reply for at, reply in replies.items() if isinstance(reply, m.Report)}
            for report in reports.values():
                if report.configuration is not None:
                    self._proposer.adopt(report.configuration)
            if self._proposer.configuration is not None or len(reports) == len(addresses):
                return reports
            await self._proposer.back_off(attempt)


def _report_of(member: Member, reply: m.Reply | str, configuration: Configuration) -> MemberReport:
    registers = None
    match reply:
        case m.Report() as report:
            registers = report.registers
            if report.server_id != member.id:
                state = "has lost its storage: remove it and add it as a new one"
            elif report.configuration is None or report.configuration.epoch < configuration.epoch:
                state = NOT_TOLD
            else:
                state = IN_ORDER
        case m.Failed(reason):
            state = reason
        case str():
            state = reply
        case _:
            state = "does not answer what it was asked"
    return MemberReport(member.name, member.address, member.id.hex(), state, registers)


def _list_of(register: Register) -> Configuration:
    assert register.value is not None, "a cluster has a list of servers"
    return decode_configuration(register.value)
