"""The gRPC side of a client: channels to front doors and the streams of their Session call."""

import asyncio
from typing import Any, Final

import grpc
import grpc.aio

from ..core.errors import TransportError
from ..proto.generated import ingress_pb2 as wire
from ..proto.generated.ingress_pb2_grpc import IngressStub
from .client_types import HttpError, refusal_of

MESSAGE_BYTES_MAX: Final = 40 * 1024 * 1024
"""More than the largest body with its headers; an answer over it ends the session."""

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A node that says nothing for 15 seconds is lost.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Its own waits would come on top of ours.
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
)
# Repeating a request does not mend these.
_REFUSALS: Final = frozenset(
    {"UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "NOT_FOUND"}
)
# What grpc.aio raises from reads and writes once a call is over.
_CALL_OVER: Final = (
    grpc.RpcError,
    grpc.aio.InternalError,
    grpc.aio.UsageError,
    asyncio.InvalidStateError,
)


class GrpcChannel:
    """A channel to one front door; `close` it at the end.

    Attributes:
        address: of the door.
    """

    def __init__(self, address: str) -> None:
        """Take ``host:port``; the connection is made when a stream is opened."""
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub: Any = IngressStub(self._channel)  # type: ignore[no-untyped-call]

    async def open_stream(self) -> "GrpcRequestStream":
        """Open the Session call; whether anybody is there the first read tells."""
        return GrpcRequestStream(self._stub.Session(), self.address)

    async def close(self) -> None:
        """Drop the connection. Cancelling is safe."""
        await self._channel.close()


class GrpcChannels:
    """A channel to one front door after the other; `close` it at the end."""

    def __init__(self) -> None:
        """Connect to nobody yet."""
        self._channel: GrpcChannel | None = None

    async def open_stream(self, address: str) -> "GrpcRequestStream":
        """Open the Session call at an address; a channel to another one is closed.

        Cancelling is safe.
        """
        channel = self._channel
        if channel is None or channel.address != address:
            await self.close()
            channel = self._channel = GrpcChannel(address)
        return await channel.open_stream()

    async def close(self) -> None:
        """Drop the connection. Cancelling is safe: closing again goes on with it."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None


class GrpcRequestStream:
    """One Session call; see `client_session.RequestStream`."""

    def __init__(self, call: Any, address: str) -> None:
        """Take the call."""
        self._call = call
        self._address = address

    async def write(self, requests: wire.SessionRequests) -> None:
        """Send a message. Raises TransportError. Cancelling ends the call."""
        try:
            await self._call.write(requests)
        except _CALL_OVER as error:
            raise await self._ended(error) from None

    async def read(self) -> wire.SessionResponses:
        """The next message. Raises TransportError and HttpError. Cancelling ends the call."""
        try:
            message = await self._call.read()
        except _CALL_OVER as error:
            raise await self._ended(error) from None
        if not isinstance(message, wire.SessionResponses):
            raise await self._ended(None)
        return message

    def close(self) -> None:
        """End the call."""
        self._call.cancel()

    async def _ended(self, error: BaseException | None) -> TransportError | HttpError:
        code, details = await self._call.code(), await self._call.details()
        words = details or (str(error) if error is not None else "the node ended the session")
        if code.name in _REFUSALS:
            return refusal_of(code.name, "", f"{self._address} takes no sessions: {words}")
        return TransportError(words)
