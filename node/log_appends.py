"""Appends between nodes: this node's way to those that order logs, and theirs to this one."""

from asyncio import AbstractEventLoop
from typing import Final

from ..core.ids import LogId
from ..core.net.peers import Peers, introduced
from ..core.net.transport import ConnectionHandler
from ..core.random import Random
from ..log.logs import Logs
from ..log.remote.appends import RemoteAppends
from ..log.remote.messages import SERVICE
from ..log.remote.server import AppendServer
from .cluster.parts import ClusterParts

APPEND_SERVICE: Final = SERVICE


class LogAppends:
    """What one node has of appending from any node.

    Attributes:
        elsewhere: takes appends to other nodes.
    """

    def __init__(self, parts: ClusterParts, *, loop: AbstractEventLoop, random: Random) -> None:
        """Connect to nobody yet, and serve nobody before `serve`."""
        self._parts = parts
        self._loop = loop
        self._peers = Peers(
            transport=parts.transport,
            service=APPEND_SERVICE,
            cluster=parts.fingerprint,
            node=parts.me.name,
            generation=parts.life,
            address_of=parts.address_of,
            loop=loop,
            random=random,
        )
        self.elsewhere = RemoteAppends(self._peers, loop=loop, random=random, leader=self._leader)
        self._server: AppendServer | None = None

    def _leader(self, log: LogId) -> str | None:
        """Who is to lead the partition of the log's number, and with it the log."""
        return self._parts.leaders.leader(log)

    def serve(self, logs: Logs) -> ConnectionHandler:
        """Handles connections of other nodes that append to logs of this one; to be called once."""
        assert self._server is None, "one node has one server of appends"
        self._server = AppendServer(
            logs.find, node=self._parts.me.name, loop=self._loop, leader=self._leader
        )
        return introduced(self._peers.me, self._server.serve)

    async def close(self) -> None:
        """End all connections from here, and take nothing more. Cancelling is safe."""
        try:
            if self._server is not None:
                await self._server.close()
        finally:
            await self._peers.close()
