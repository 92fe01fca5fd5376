"""Search: finds the node that orders a log's appends, over redirects, failures and a deadline."""

from asyncio import AbstractEventLoop
from typing import Final, Protocol

import msgspec

from ...core.errors import PerdureError
from ...core.pauses import pause
from ...core.random import Random
from ..chain_view import ChainView
from ..errors import SequencerUnreachableError
from .client import AppendClient

REDIRECTS_MAX: Final = 3
"""So many nodes in a row may name another one before the chain is asked again."""


class AppendOptions(msgspec.Struct, frozen=True):
    """How patient appends to other nodes are; seconds.

    Attributes:
        search: how long the node that orders a log is looked for.
        connect: how long one try waits for its connection.
        retry: the shortest and the longest pause between two tries.
    """

    search: float = 15.0
    connect: float = 0.25
    retry: tuple[float, float] = (0.005, 0.25)


class Directory(Protocol):
    """What a search asks of this process."""

    @property
    def node(self) -> str:
        """The name of this node."""
        ...

    @property
    def options(self) -> AppendOptions:
        """How patient it is."""
        ...

    def client(self, node: str) -> AppendClient | None:
        """The client of another node, None when nobody knows where it is.

        Raises LogClosedError when this process appends nothing more to other nodes.
        """
        ...

    def believed(self, log: ChainView) -> str:
        """Who ordered the log when this node last heard, in the segment that is its last one."""
        ...

    def believe(self, log: ChainView, node: str) -> None:
        """Remember who orders it; nobody if empty."""
        ...

    def leader(self, log: ChainView) -> str:
        """Who is to order it by another account than the chain's; empty where there is none."""
        ...


class Search:
    """Looks for the node that orders a log; see `AppendSearch`."""

    def __init__(
        self, log: ChainView, directory: Directory, loop: AbstractEventLoop, random: Random
    ) -> None:
        """Begin with what this process believes."""
        self._log = log
        self._directory = directory
        self._options = directory.options
        self._loop = loop
        self._random = random
        self._node = ""
        self._why = ""
        # What is left of the time for looking; the time until an answer is not counted.
        self._left = self._options.search
        self._tries = 0
        self._redirects = 0

    def found(self) -> None:
        """The last node orders the log."""
        self._tries = self._redirects = 0
        self._left = self._options.search
        if self._node:
            self._directory.believe(self._log, self._node)

    async def next(self, hint: str = "") -> AppendClient | None:
        """A node to try; see `AppendSearch`. Cancelling is safe."""
        began = self._loop.time()
        try:
            return await self._next(hint, began + self._left)
        finally:
            self._left -= self._loop.time() - began

    async def _next(self, hint: str, deadline: float) -> AppendClient | None:
        log, directory = self._log, self._directory
        if self._tries and hint in ("", self._node):
            self._why = f"node {self._node} does not take them"
        while not log.is_own_affair:
            if hint not in ("", directory.node, self._node) and self._redirects < REDIRECTS_MAX:
                self._redirects += 1
                node = hint
            else:
                if self._tries and not await self._look_again(deadline):
                    return None
                node = self._candidate()
            hint = ""
            self._tries += 1
            client = None if node == directory.node else directory.client(node)
            if client is None:
                self._why = f"nobody knows where {node} is" if node != directory.node else ""
                continue
            if await client.wait_until_connected(self._options.connect):
                self._node = node
                return client
            self._why = f"node {node}: {client.failure}"
        return None

    def _candidate(self) -> str:
        """Whom to try: by what was heard last, then by turns who is named in either place."""
        directory, log = self._directory, self._log
        named = log.chain.tail.params.sequencer
        believed = directory.believed(log) if self._tries == 0 else ""
        if not believed and (named == directory.node or self._tries % 2):
            # This node puts in order, perhaps, what the leader admits.
            believed = directory.leader(log)
        return believed or named

    async def _look_again(self, deadline: float) -> bool:
        """After a pause, read the chain; False when there is nobody to look for any more."""
        log = self._log
        self._directory.believe(log, "")
        self._redirects = 0
        if self._loop.time() >= deadline:
            raise SequencerUnreachableError(
                f"log {log.log}: appends are ordered by {log.chain.tail.params.sequencer!r} under "
                f"epoch {log.chain.tail.params.epoch}, and for {self._options.search:g} seconds "
                f"nobody took one ({self._why or 'it is on its way here'}); nothing was written"
            )
        least, most = self._options.retry
        seconds = min(least * 2 ** min(self._tries, 16), most)
        await pause(self._loop, seconds * (0.5 + self._random.fraction()))
        try:
            await log.refresh()
        except PerdureError as error:
            if not error.retryable:
                raise
            self._why = str(error)
        return not log.sealed
