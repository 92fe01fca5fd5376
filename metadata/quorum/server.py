"""MetadataServer: an acceptor at a listener; what arrives in one turn of the loop is one batch."""

import asyncio
import logging
from typing import Final

from ...core.errors import MalformedMessageError, TransportError
from ...core.net.transport import Connection
from . import messages as m
from .acceptor import Acceptor

BATCH_REQUESTS_MAX: Final = 1000
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""A batch of so much is answered before its turn of the loop is over."""

REPLIES_BYTES_MAX: Final = 32 * 1024 * 1024
"""A connection that leaves more unread gets no further replies until it has read."""

GREETING_TIMEOUT_SECONDS: Final = 5.0

_LOG: Final = logging.getLogger(__name__)


class MetadataServer:
    """Serves one acceptor to any number of connections; `handle` is for `Transport.listen`."""

    def __init__(self, acceptor: Acceptor, *, name: str) -> None:
        """Take the acceptor and the name of the node that it stands on."""
        self.acceptor = acceptor
        self._name = name
        self._batch: list[tuple[Connection, int, m.Request]] = []
        self._batch_bytes = 0
        self._is_due = False
        self._stopped = False

    def stop(self) -> None:
        """Answer nothing any more; for whoever ends the server before its connections."""
        self._stopped = True
        self._batch.clear()

    async def handle(self, connection: Connection) -> None:
        """Serve a connection until it ends. Cancelling is safe: what it asked is not answered."""
        try:
            async with asyncio.timeout(GREETING_TIMEOUT_SECONDS):
                welcome = await self._greet(connection)
            if not welcome:
                return
            while not self._stopped and (message := await connection.receive()) is not None:
                number, request = m.decode_request(message)
                self._take(connection, number, request, len(message))
        except TimeoutError:
            _LOG.warning("metadata connection from %s ends: no greeting", connection.peer)
        except (MalformedMessageError, TransportError) as error:
            _LOG.warning("metadata connection from %s ends: %s", connection.peer, error.message)

    async def _greet(self, connection: Connection) -> bool:
        message = await connection.receive()
        if message is None:
            return False
        hello = m.decode_hello(message)
        refusal = ""
        fingerprint = self.acceptor.fingerprint
        if hello.version != m.PROTOCOL_VERSION:
            refusal = (
                f"it speaks version {m.PROTOCOL_VERSION} of the protocol, not {hello.version}: "
                "use the same release on both sides"
            )
        elif hello.fingerprint and fingerprint and hello.fingerprint != fingerprint:
            refusal = f"it belongs to another cluster, {fingerprint}, not {hello.fingerprint}"
        if refusal:
            _LOG.warning("%s at %s is refused: %s", hello.sender, connection.peer, refusal)
        welcome = m.Welcome(
            m.PROTOCOL_VERSION, self.acceptor.server_id, self._name, fingerprint, refusal
        )
        connection.send(m.encode_greeting(welcome))
        return not refusal

    def _take(self, connection: Connection, number: int, request: m.Request, size: int) -> None:
        self._batch.append((connection, number, request))
        self._batch_bytes += size
        if len(self._batch) >= BATCH_REQUESTS_MAX or self._batch_bytes >= BATCH_BYTES_MAX:
            self._answer()
        elif not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        self._answer()

    def _answer(self) -> None:
        batch, self._batch = self._batch, []
        self._batch_bytes = 0
        if self._stopped or not batch:
            return
        replies = self.acceptor.answer([request for _, _, request in batch])
        for (connection, number, _), reply in zip(batch, replies, strict=True):
            if connection.queued_bytes > REPLIES_BYTES_MAX:
                continue  # it does not read; its requests time out, and it gives the connection up
            try:
                connection.send(m.encode_numbered(number, reply))
            except TransportError:
                continue  # who asked is gone
