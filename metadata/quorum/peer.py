"""Peer: the connection of a proposer to one metadata server, opened when it is needed."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from ...core.errors import MalformedMessageError, PerdureError, TransportError
from ...core.net.transport import Connection, Transport
from ...core.tasks import TaskScope
from . import messages as m
from .errors import StrangerError

GREETING_TIMEOUT_SECONDS: Final = 5.0
QUEUED_BYTES_MAX: Final = 32 * 1024 * 1024
"""With more unsent a server takes no more requests: it does not read."""

OnReply: TypeAlias = Callable[[m.Reply | str], None]
"""Takes the reply, or what is wrong with the server; called once, never from within `ask`."""


class Peer:
    """Asks one server; requests of one connection arrive in order.

    What was asked on a connection that ends is lost, and whoever asked is told so: whether the
    server got it is unknown. The next `ask` connects anew.
    """

    def __init__(
        self,
        transport: Transport,
        address: str,
        *,
        scope: TaskScope,
        sender: str,
        fingerprint: Callable[[], str],
        expected_id: bytes | None,
    ) -> None:
        """Take where the server is, who asks, and whose storage it must have, if that is known.

        Args:
            fingerprint: gives the cluster's, "" while it is not known.
        """
        self.address = address
        self.expected_id = expected_id
        self._transport = transport
        self._scope = scope
        self._sender = sender
        self._fingerprint = fingerprint
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._number = 0
        self._waiting: dict[int, OnReply] = {}
        # Encoded requests that wait for the connection, by number.
        self._queued: dict[int, bytes] = {}
        self._queued_bytes = 0
        # The number of the last request at the time when something was last received.
        self._heard_at = 0

    def ask(self, request: m.Request, on_reply: OnReply) -> int:
        """Send a request, connecting first if need be; gives its number. Never waits."""
        self._number += 1
        number = self._number
        message = m.encode_numbered(number, request)
        self._waiting[number] = on_reply
        if self._connection is not None:
            self._send(self._connection, message)
            return number
        if self._queued_bytes + len(message) > QUEUED_BYTES_MAX:
            self._tell_soon(number, "it does not let us connect, and too much waits for it")
            return number
        self._queued[number] = message
        self._queued_bytes += len(message)
        if self._task is None or self._task.done():
            self._task = self._scope.spawn(self._run(), name=f"metadata server {self.address}")
        return number

    def forget(self, number: int, *, in_vain: bool = False) -> None:
        """Want no reply any more; `in_vain` when it was waited for long enough.

        A connection on which nothing came since the request was sent is given up then.
        """
        if self._waiting.pop(number, None) is None:
            return
        self._queued_bytes -= len(self._queued.pop(number, b""))
        if in_vain and self._heard_at < number and self._task is not None:
            self._task.cancel()

    def drop(self) -> None:
        """End the connection, if there is one; the next `ask` would open another."""
        if self._task is not None:
            self._task.cancel()

    def _send(self, connection: Connection, message: bytes) -> None:
        if connection.queued_bytes > QUEUED_BYTES_MAX and self._task is not None:
            # It reads nothing; its end tells everybody who waits.
            self._task.cancel()
            return
        try:
            connection.send(message)
        except TransportError:
            # The task that receives sees the end, too, and tells everybody who waits.
            return

    def _tell_soon(self, number: int, problem: str) -> None:
        asyncio.get_running_loop().call_soon(self._tell, number, problem)

    def _tell(self, number: int, reply: m.Reply | str) -> None:
        waiter = self._waiting.pop(number, None)
        if waiter is not None:
            waiter(reply)

    async def _run(self) -> None:
        """Live through one connection."""
        problem = "its connection was given up, as nothing came from it"
        connection: Connection | None = None
        try:
            connection = await self._transport.connect(self.address, m.SERVICE)
            async with asyncio.timeout(GREETING_TIMEOUT_SECONDS):
                await self._greet(connection)
            self._connection = connection
            queued, self._queued, self._queued_bytes = self._queued, {}, 0
            for message in queued.values():
                self._send(connection, message)
            while (message_in := await connection.receive()) is not None:
                number, reply = m.decode_reply(message_in)
                self._heard_at = self._number
                self._tell(number, reply)
            problem = "its connection was lost"
        except TimeoutError:
            problem = "it does not answer a greeting"
        except PerdureError as error:
            problem = error.message
        finally:
            self._connection = None
            self._queued.clear()
            self._queued_bytes = 0
            # No await from here on: who asks from now on gets a new connection.
            self._task = None
            waiting, self._waiting = self._waiting, {}
            for waiter in waiting.values():
                waiter(problem)
            if connection is not None:
                await connection.close()

    async def _greet(self, connection: Connection) -> None:
        """Say who we are and see who it is. Raises StrangerError and TransportError."""
        fingerprint = self._fingerprint()
        connection.send(m.encode_greeting(m.Hello(m.PROTOCOL_VERSION, fingerprint, self._sender)))
        message = await connection.receive()
        if message is None:
            raise TransportError("it ends the connection in place of a greeting")
        welcome = m.decode_welcome(message)
        if welcome.version != m.PROTOCOL_VERSION:
            raise MalformedMessageError(
                f"it speaks version {welcome.version} of the protocol, not {m.PROTOCOL_VERSION}: "
                "use the same release on both sides"
            )
        if welcome.refusal:
            raise StrangerError(welcome.refusal)
        if fingerprint and welcome.fingerprint not in ("", fingerprint):
            raise StrangerError(
                f"it belongs to another cluster, {welcome.fingerprint}, not {fingerprint}"
            )
        if self.expected_id is not None and welcome.server_id != self.expected_id:
            raise StrangerError(
                "it has lost its storage, or another one runs at its address: remove it from the "
                "list and add it as a new one"
            )
