"""The provider of replicated loglets: sequencer here, copies on the cluster's log-servers."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from ...core.clock import Clock
from ...core.ids import LogId
from ...core.net.peers import Peers
from ...core.pauses import pause
from ...core.random import Random
from ...core.tasks import TaskScope
from ..at_home import at_home
from ..chain import Chain, Segment, SegmentParams, loglet_id
from ..errors import LogClosedError, LogletLostError, NotSequencerError
from ..loglet import SequencerNode
from ..placement import LogServer, Placement, place
from ..upkeep import Review, SegmentHealth, health_of, renewable_through, review
from .clients import ServerClients, ask_all
from .errands import Errands
from .holdings import SegmentHoldings, holdings
from .loglet import ReplicatedLoglet
from .members import Members
from .messages import OK, Delete, Info, Reply, Request
from .remote_sequencer.client import SequencerClients
from .remote_sequencer.loglet import RemoteLoglet
from .view import LogletOptions, LogletResources, LogletView

KIND: Final = "replicated"


HOLDINGS_SECONDS: Final = 2.0
"""How long a server may take to say what it holds."""


class Replication(msgspec.Struct, frozen=True):
    """How new segments are kept: copies of each batch, and in how many zones they are."""

    nodes: int = 2
    zones: int = 1


class ReplicatedProvider:
    """Loglets on log-servers. This process is the sequencer of those that it makes."""

    def __init__(
        self,
        *,
        peers: Peers,
        servers: Callable[[], Iterable[LogServer]],
        replication: Callable[[], Replication],
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        options: LogletOptions | None = None,
        on_turn: Callable[[], None] | None = None,
        sequencers: Peers | None = None,
    ) -> None:
        """Connect to nobody yet.

        Args:
            peers: for the service of log-servers; name and generation of this node are theirs.
            sequencers: for the service of sequencers; None where no other node's are used.
            servers: the cluster's log-servers as they are now, asked for each new segment.
            replication: of new segments, asked for each.
            random: for back-off and for the name of each sequencer.
            on_turn: called after the commits of a turn have been told.
        """
        self._node = peers.me.node
        self._generation = peers.me.generation
        self._clients = ServerClients(peers, loop)
        self._sequencers = None if sequencers is None else SequencerClients(sequencers, loop)
        # Loglets that this process is to append to, and others to give out the offsets of.
        self._elsewhere: dict[int, SegmentParams] = {}
        self._servers = servers
        self._replication = replication
        self._loop = loop
        self._random = random
        self._options = options or LogletOptions()
        self._open: dict[int, LogletView] = {}
        # Per log, the first segment index that was kept by the last deletion.
        self._first_kept: dict[int, int] = {}
        self._renewable: dict[LogId, tuple[Chain, tuple[LogServer, ...], int]] = {}
        self._errands = Errands()
        self._failure: LogClosedError | None = None
        self._scope = TaskScope("replicated loglets", on_failure=self._failed)
        self._resources = LogletResources(
            who=f"{self._node}:{self._generation}",
            loop=loop,
            clock=clock,
            random=random,
            scope=self._scope,
            options=self._options,
            on_turn=on_turn or _nothing,
        )

    @property
    def kind(self) -> str:
        """``replicated``."""
        return KIND

    async def meet(self, node: str) -> SequencerNode | None:
        """Connect to the node that is to give out offsets. Raises UnfitSequencerError.

        Cancelling is safe.
        """
        if node == self._node:
            return None
        if self._sequencers is None:
            at_home(KIND, self._node, node)
            return None
        return await self._sequencers.client(node).meet()

    def params(
        self,
        log: LogId,
        index: int,
        epoch: int,
        record_time_ns: int,
        sequencer: SequencerNode | None = None,
    ) -> SegmentParams:
        """What a new segment is made with; this process would append to it.

        Raises LogUnavailableError when there are too few log-servers, and LogClosedError.
        """
        self._check_taking()  # Before anything is sealed.
        replication = self._replication()
        placement = place(
            self._servers(),
            nodes=replication.nodes,
            zones=replication.zones,
            own=self._node,
            generation=self._generation if sequencer is None else sequencer.generation,
            turn=log,
        )
        loglet = loglet_id(log, index)
        node = self._node
        self._elsewhere.pop(loglet, None)
        if sequencer is not None:
            node = sequencer.node
        made = SegmentParams(loglet, epoch, record_time_ns, node, placement)
        if sequencer is not None:
            self._elsewhere[loglet] = made
        return made

    def review(self, log: LogId, segment: Segment) -> Review:
        """Whether the log, whose last segment this is, is to go on on other log-servers."""
        if segment.kind != KIND or segment.params.placement is None:
            return Review()
        replication = self._replication()
        return review(
            segment.params.placement,
            self._servers(),
            nodes=replication.nodes,
            zones=replication.zones,
            own=self._node,
            turn=log,
        )

    def health(self, segment: Segment) -> SegmentHealth | None:
        """How well a segment is kept; None for one of another kind."""
        if segment.kind != KIND or segment.params.placement is None:
            return None
        return health_of(segment.params.placement, self._servers())

    def renewable_through(self, log: LogId, chain: Chain) -> int:
        """See `upkeep.renewable_through`; quick when neither chain nor servers have changed."""
        servers = tuple(self._servers())
        known = self._renewable.get(log)
        if known is None or known[0] is not chain or known[1] != servers:
            known = chain, servers, renewable_through(chain.segments, servers)
            self._renewable[log] = known
        return known[2]

    async def holdings(
        self, segment: Segment, first_offset: int, end_offset: int, known_tail: int
    ) -> SegmentHoldings | None:
        """What each log-server holds of a segment; None for one of another kind.

        See `holdings`. Raises LogletLostError, as `open`. Cancelling is safe.
        """
        if segment.kind != KIND or segment.params.placement is None:
            return None
        return await holdings(
            segment.params.loglet,
            self.open(segment).members,
            first_offset=first_offset,
            end_offset=end_offset,
            known_tail=known_tail,
            loop=self._loop,
            answer_seconds=HOLDINGS_SECONDS,
        )

    def give_up(self, segment: Segment, nodes: Iterable[str]) -> None:
        """Have the next seal from here end a segment without these servers, whose disks are lost.

        What only they had is lost with them, so somebody has to have said that. Whoever is left has
        to answer, all of them. Raises LogletLostError, as `open`.
        """
        members = self.open(segment).members
        names = set(nodes)
        members.given_up = {
            index for index, client in enumerate(members.clients) if client.node in names
        }

    def open(self, segment: Segment) -> LogletView:
        """The segment's loglet.

        Raises LogletLostError for one that was deleted here, and LogClosedError for one to append
        to when nothing is taken any more.
        """
        params = segment.params
        loglet = self._open.get(params.loglet)
        if loglet is not None:
            return loglet
        log = (params.loglet >> 32) - 1
        if segment.index < self._first_kept.get(log, 0):
            raise LogletLostError(f"segment {segment.index} of log {log} was trimmed and deleted")
        placement = params.placement
        if placement is None:
            raise LogletLostError(
                f"segment {segment.index} of log {log} does not say on which log-servers it is: "
                "restore the metadata from a backup"
            )
        loglet = self._open[params.loglet] = self._make(segment, placement)
        if self._failure is not None:
            loglet.fail(str(self._failure))
        return loglet

    def _make(self, segment: Segment, placement: Placement) -> LogletView:
        members = Members(placement, self._clients, self._loop, self._node)
        # Another may have the number of one that was made here and did not get into the chain.
        ours = self._elsewhere.get(segment.params.loglet) == segment.params
        if ours and self._sequencers is not None:
            self._check_taking()
            return RemoteLoglet(
                segment,
                members,
                self._resources,
                self._sequencers.client(segment.params.sequencer),
            )
        if not self._is_sequencer(segment, placement):
            return LogletView(segment, members, self._resources)
        self._check_taking()
        return ReplicatedLoglet(
            segment,
            members,
            self._resources,
            # With a number that is drawn, so that nobody goes on where somebody has written.
            sequencer=f"{self._resources.who}:{self._random.bits(64):x}",
        )

    def _is_sequencer(self, segment: Segment, placement: Placement) -> bool:
        here = self._node, self._generation
        return (segment.params.sequencer, placement.generation) == here

    def sequencer_of(self, segment: Segment) -> ReplicatedLoglet:
        """The loglet of a segment that another node appends to by way of this one.

        Raises NotSequencerError when the segment does not name this node in this life,
        LogClosedError when this node is about to stop, and LogletLostError, as `open`.
        """
        # Others may ask for as long as the node listens, which is longer than it has a log.
        self._check_taking()
        loglet = self.open(segment)
        if not isinstance(loglet, ReplicatedLoglet):
            placement = segment.params.placement
            life = 0 if placement is None else placement.generation
            raise NotSequencerError(
                f"segment {segment.index} (loglet {segment.params.loglet}) is ordered by "
                f"{segment.params.sequencer} in life {life}, and this is {self._node} in life "
                f"{self._generation}: go on in a new segment"
            )
        return loglet

    def chase(self, log: LogId, first: Segment) -> None:
        """Tell servers that were away what is gone of a log, whose first segment this is.

        For who orders the log, to be called again and again: each server is told once per
        connection. Servers that kept the log before are told as well as those that do now.
        """
        if self._failure is not None:
            return
        clients = [self._clients.client(item.node) for item in self._servers() if item.alive]
        if first.index > 1:
            self._errands.tell_deleted(clients, log, first.index)
        loglet = self._open.get(first.params.loglet) if first.kind == KIND else None
        if loglet is None or loglet.trimmed is None:
            return
        for member, client in enumerate(loglet.members.clients):
            self._errands.tell_trimmed(
                client,
                loglet.members.storage(member),
                loglet.loglet,
                loglet.trimmed,
                loglet.committed_tail,
            )

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        """Have the servers delete everything below the first kept segment's loglet, for ever.

        Servers that do not answer keep it until `chase` reaches them; nobody reads it. Raises
        LogClosedError. Cancelling leaves open which servers were reached.
        """
        self._check_taking()
        first, end = self._forget_below(log, first_kept)
        nodes: dict[str, None] = {}
        # Not only `segments`: one that stayed empty left the chain when it was replaced.
        for number in [item for item in self._open if first <= item < end]:
            loglet = self._open.pop(number)
            loglet.close()
            nodes.update((item.node, None) for item in loglet.members.placement.members)
        for segment in segments:
            if segment.params.placement is not None:
                nodes.update((item.node, None) for item in segment.params.placement.members)
        deadline = self._loop.time() + self._options.answer
        left = list(nodes)
        tries = 0
        while left:
            left = await self._delete_on(left, first, end)
            if self._loop.time() >= deadline:
                return
            if left:
                least, most = self._options.retry
                await pause(self._loop, min(least * 2 ** min(tries, 16), most))
                tries += 1

    def forget(self, log: LogId, first_kept: int) -> None:
        """Forget what another node has trimmed: a follower would keep all that it ever read.

        What this process appends to stays until it knows where that ends: whoever waits for the
        answer is told what became of it. It goes with the next ones.
        """
        first, end = self._forget_below(log, first_kept)
        for number in [item for item in self._open if first <= item < end]:
            if self._open[number].forgettable:
                self._open.pop(number).close()

    def _forget_below(self, log: LogId, first_kept: int) -> tuple[int, int]:
        """Open nothing of it again; gives the range of loglets that are gone."""
        self._first_kept[log] = max(first_kept, self._first_kept.get(log, 0))
        first, end = loglet_id(log, 0), loglet_id(log, first_kept)
        self._elsewhere = {
            item: made for item, made in self._elsewhere.items() if not first <= item < end
        }
        self._errands.forget(first, end)
        return first, end

    async def _delete_on(self, nodes: list[str], first: int, end: int) -> list[str]:
        """Ask these servers to delete; gives those that have not said that they did."""
        left = dict.fromkeys(nodes)

        def heard(node: str, reply: Reply | None) -> bool:
            if isinstance(reply, Info) and reply.status == OK:
                left.pop(node, None)
            return False

        def make(number: int) -> Request:
            return Delete(number, first, end)

        questions = [(node, self._clients.client(node), make) for node in nodes]
        await ask_all(self._loop, questions, heard, self._options.answer)
        return list(left)

    def _check_taking(self) -> None:
        """Raises LogClosedError once nothing more is taken."""
        if self._failure is not None:
            raise self._failure

    def fail(self, reason: str) -> None:
        """Nothing more is taken or acknowledged; whoever waits is told."""
        if self._failure is None:
            self._failure = LogClosedError(f"the log takes no more changes: {reason}")
            for loglet in self._open.values():
                loglet.fail(reason)

    async def close(self) -> None:
        """Fail everything and end the tasks; the peers are their maker's to close."""
        self.fail("the node is shutting down")
        await self._scope.close()

    def _failed(self, failure: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a task of a replicated loglet failed", "exception": failure}
        )


def _nothing() -> None:
    return None
