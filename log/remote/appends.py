"""RemoteAppends: a process's way to the nodes that order the logs which it does not order."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial

from ...core.errors import PerdureError
from ...core.ids import LogId
from ...core.net.peers import Peers
from ...core.random import Random
from ..answers import Answer, Indeterminate, Sealed, WrongSegment
from ..chain_view import POLL_SECONDS, ChainView
from ..elsewhere import NotHere, Outcome
from ..errors import LogClosedError
from ..pending_answer import PendingAnswer
from ..sequencer import Append
from .client import AppendClient
from .numbered import sent_once, settled
from .search import AppendOptions, Search


class RemoteAppends:
    """Takes appends to other nodes, one connection to each; see `Elsewhere`.

    Attributes:
        node: the name of this node.
        options: how patient it is.
    """

    def __init__(
        self,
        peers: Peers,
        *,
        loop: AbstractEventLoop,
        random: Random,
        options: AppendOptions | None = None,
        leader: Callable[[LogId], str | None] | None = None,
    ) -> None:
        """Connect to nobody yet.

        Args:
            peers: for the service of appends alone; the name of this node is theirs. They are
                their maker's to close, and what is in flight then is answered Indeterminate.
            random: for the jitter of the back-off.
            leader: who is to order a log by another account than its chain's, None if not known.
        """
        self.node = peers.me.node
        self.options = options or AppendOptions()
        self._peers = peers
        self._loop = loop
        self._random = random
        self._leader = leader
        self._clients: dict[str, AppendClient] = {}
        # By log: its last segment, and who ordered it when this process last heard.
        self._believed: dict[LogId, tuple[int, str]] = {}
        self._looking: set[LogId] = set()

    def client(self, node: str) -> AppendClient | None:
        """The client of another node, None when nobody knows where it is.

        Raises LogClosedError once the connections are let go of: this process ends.
        """
        if self._peers.closed:
            raise LogClosedError("this node ends, and appends nothing more to logs of other nodes")
        found = self._clients.get(node)
        if found is None and node != self.node and self._peers.address_of(node) is not None:
            found = self._clients[node] = AppendClient(self._peers.peer(node), self._loop)
        return found

    def believed(self, log: ChainView) -> str:
        """Who ordered the log when this process last heard, in the segment that is its last one."""
        index, node = self._believed.get(log.log, (0, ""))
        return node if index == log.chain.tail.index else ""

    def believe(self, log: ChainView, node: str) -> None:
        """Remember who orders it; nobody if empty."""
        if node:
            self._believed[log.log] = log.chain.tail.index, node
        else:
            self._believed.pop(log.log, None)

    def leader(self, log: ChainView) -> str:
        """Who is to order it by another account than the chain's; empty where there is none."""
        return "" if self._leader is None else self._leader(log.log) or ""

    def search(self, log: ChainView) -> Search:
        """Begin to look for the node that orders a log."""
        return Search(log, self, self._loop, self._random)

    async def append(self, log: ChainView, append: Append) -> Answer | None:
        """Append on the node that orders the log; see `Elsewhere`."""
        search = self.search(log)
        hint = ""
        while (client := await search.next(hint)) is not None:
            sent = None if append.producer is None else sent_once(log, append)
            outcome = await self._ask(log, client, append if sent is None else sent.append)
            hint = ""
            if isinstance(outcome, NotHere):
                hint = outcome.node
            elif isinstance(outcome, Sealed | WrongSegment) and append.segment is None:
                pass  # Nothing was written, and the search looks whether the log goes on.
            else:
                search.found()
                if isinstance(outcome, PerdureError):
                    raise outcome
                if sent is None or not isinstance(outcome, Indeterminate):
                    return outcome
                answer = await settled(
                    log, sent, outcome, self.search(log), partial(self._ask, log)
                )
                if answer is not None:
                    return answer
                if append.segment is not None:
                    return Sealed(append.segment)
        return None if log.is_own_affair else Sealed(log.chain.tail.index)

    async def _ask(self, log: ChainView, client: AppendClient, append: Append) -> Outcome:
        """Send it, and wait for as long as its node can still answer."""
        pending: PendingAnswer[Outcome] = PendingAnswer(self._loop)
        epoch = log.chain.tail.params.epoch
        client.offer(log.log, append, pending.settle)
        deposed = 0
        while (outcome := await pending.answer_within(POLL_SECONDS)) is None:
            await self._look(log)
            last = log.chain.tail.params
            if last.epoch > epoch and last.sequencer != client.node:
                deposed += 1
                # One more look: whoever was deposed tells everybody as soon as it knows.
                if deposed > 1:
                    return Indeterminate(
                        f"node {client.node} does not order the log any more, and did not answer"
                    )
        return outcome

    async def _look(self, log: ChainView) -> None:
        """Read the chain, once for all that wait. Whatever goes wrong is tried again."""
        if log.log in self._looking:
            return
        self._looking.add(log.log)
        try:
            await log.refresh()
        except PerdureError:
            pass
        finally:
            self._looking.discard(log.log)
