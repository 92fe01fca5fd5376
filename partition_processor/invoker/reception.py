"""Where workers arrive: greeting, registration of what they offer, and the life of a session."""

from asyncio import AbstractEventLoop, timeout
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from ...core.clock import Clock
from ...core.errors import MalformedMessageError, PerdureError, StorageError
from ...core.net.transport import Connection
from ...core.protocol import messages
from ...core.protocol.envelope import SESSION_STREAM, EnvelopeReader, EnvelopeWriter
from ...core.protocol.session import Hello, Nodes, Refused, Welcome
from ..deployments import Deployment
from .invoker import Invoker
from .session import WorkerSession

_log = structlog.get_logger("invoker")
_decode_hello: Final = msgspec.msgpack.Decoder(Hello).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class ProtocolVersionError(PerdureError):
    """The worker speaks a protocol that this node does not."""

    code = "PD0905"


class OtherClusterError(PerdureError):
    """A worker was told of a node of its cluster at an address where one of another cluster is."""

    code = "PD0919"


class WorkerReception:
    """Handles each connection that a worker opens to this node."""

    HELLO_SECONDS_MAX: Final = 10.0

    def __init__(
        self,
        *,
        invoker: Invoker,
        register: Callable[[Deployment], Awaitable[None]],
        node_name: str,
        cluster: str,
        loop: AbstractEventLoop,
        clock: Clock,
        nodes: Callable[[], Nodes | None] | None = None,
    ) -> None:
        """Serve workers for `invoker`.

        Args:
            register: makes a deployment known, durably, or raises a PerdureError; called before
                the worker is welcomed.
            nodes: those that take workers now; None, or nothing, where there is only this one.
        """
        self._invoker = invoker
        self._register = register
        self._node_name = node_name
        self._cluster = cluster
        self._loop = loop
        self._clock = clock
        self._nodes = nodes
        self._sessions: dict[WorkerSession, None] = {}
        self._told: Nodes | None = None

    def look_at_nodes(self) -> None:
        """Tell every worker of the nodes, if they have changed."""
        nodes = None if self._nodes is None else self._nodes()
        if nodes is not None and nodes != self._told:
            self._told = nodes
            for session in self._sessions:
                session.tell_nodes(nodes)

    async def serve(self, connection: Connection) -> None:
        """One worker, from greeting to loss. When cancelled, its attempts fail as on a loss."""
        try:
            hello = await self._greet(connection)
        except TimeoutError:
            _log.warning("a connection said nothing and was closed", peer=connection.peer)
            return
        except PerdureError as error:
            _log.warning("worker refused", peer=connection.peer, code=error.code, reason=str(error))
            _refuse(connection, error)
            return
        if hello is None:
            return
        session = WorkerSession(
            hello, connection, self._loop, self._invoker.drain_waiting, self._invoker.ticks
        )
        session.welcome(Welcome(self._node_name, self._cluster, self._clock.time_ns()))
        self.look_at_nodes()
        self._sessions[session] = None
        if self._told is not None:
            session.tell_nodes(self._told)
        self._invoker.add(session)
        log = _log.bind(worker=hello.worker, deployment=hello.deployment)
        log.info("worker connected", services=list(session.services), peer=connection.peer)
        failure: PerdureError | None = None
        try:
            while (message := await connection.receive()) is not None:
                session.received(message)
                if session.draining:
                    self._invoker.drain(session)
        except PerdureError as error:
            failure = error
            log.warning("worker disconnected for what it sent", code=error.code, reason=str(error))
        finally:
            del self._sessions[session]
            self._invoker.remove(session)
            open_attempts = len(session.attempts)
            session.lost(failure)
            log.info("worker gone", open_attempts=open_attempts)

    async def _greet(self, connection: Connection) -> Hello | None:
        async with timeout(self.HELLO_SECONDS_MAX):
            message = await connection.receive()
        if message is None:
            return None
        hello = _read_hello(message)
        if hello.protocol_version != messages.PROTOCOL_VERSION:
            raise ProtocolVersionError(
                f"the worker speaks protocol version {hello.protocol_version}, this node "
                f"{messages.PROTOCOL_VERSION}: use the same release on both sides"
            )
        nodes = None if self._nodes is None else self._nodes()
        here = "" if nodes is None else nodes.cluster
        if hello.cluster and hello.cluster != here:
            raise OtherClusterError(
                f"the worker was told of a node of cluster {hello.cluster!r} at this address, and "
                f"node {self._node_name} is of {here!r}: have that node advertise an address at "
                "which workers reach it (listen.advertise)"
            )
        if hello.attempts_max < 1:
            raise MalformedMessageError(
                f"the worker takes {hello.attempts_max} attempts at once; let it take at least one"
            )
        await self._register(
            Deployment(hello.deployment, hello.code_hash, hello.services, self._clock.time_ns())
        )
        return hello


def _read_hello(message: bytes) -> Hello:
    for stream, _, frames in EnvelopeReader().read(message):
        if stream == SESSION_STREAM:
            for message_type, start, end in messages.split_frames(frames):
                if message_type == messages.HELLO:
                    try:
                        return _decode_hello(frames[start:end])
                    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                        raise MalformedMessageError(f"a worker's greeting: {error}") from None
    raise MalformedMessageError("the first message of a worker must be its greeting")


def _refuse(connection: Connection, error: PerdureError) -> None:
    writer = EnvelopeWriter()
    # A disk that failed stops this node; the worker finds it again, or another one.
    retryable = error.retryable or isinstance(error, StorageError)
    refused = Refused(error.code, error.message, retryable)
    writer.add(SESSION_STREAM, 0, messages.frame(messages.REFUSED, _encode(refused)))
    for message in writer.take():
        connection.send(message)
