"""The gRPC front door: the Ingress service with reflection and health checks."""

from typing import Final

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ...core.addresses import format_address, parse_address, reserve_port
from ...core.errors import TransportError
from ...proto.generated import ingress_pb2
from ...proto.generated.ingress_pb2_grpc import add_IngressServicer_to_server
from ..dispatcher import Dispatcher
from .front_doors import FrontDoorsSource, no_front_doors
from .service import IngressService
from .session import IN_FLIGHT_MAX

OPTION: Final = "listen.ingress_grpc"
BODY_BYTES_MAX: Final = 32 * 1024 * 1024
STOP_GRACE_SECONDS: Final = 1.0
SERVICE_NAME: Final = ingress_pb2.DESCRIPTOR.services_by_name["Ingress"].full_name

_MESSAGE_OVERHEAD_BYTES: Final = 1024 * 1024
"""What headers and field tags may add to a body: the body's own limit is checked behind this."""


class GrpcIngress:
    """Serves the Ingress service until it is stopped."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
        stop_grace_seconds: float = STOP_GRACE_SECONDS,
        session_in_flight_max: int = IN_FLIGHT_MAX,
        front_doors: FrontDoorsSource = no_front_doors,
    ) -> None:
        """Take what answers, and the limits.

        Args:
            body_bytes_max: of a request or a result.
            stop_grace_seconds: so long `stop` waits for calls under way.
            session_in_flight_max: so many unanswered requests a session may have.
            front_doors: where else the clients of sessions may go.
        """
        self._service = IngressService(
            dispatcher, in_flight_max=session_in_flight_max, front_doors=front_doors
        )
        self._message_bytes_max = body_bytes_max + _MESSAGE_OVERHEAD_BYTES
        self._stop_grace_seconds = stop_grace_seconds
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> str:
        """Listen on ``host:port``; gives the bound address. Raises AddressInUseError."""
        assert self._server is None, "already started"
        host, port = reserve_port(address, OPTION)
        if parse_address(address)[1] == 0:
            port = 0  # Chosen anew as it is bound: the one that was free may not be any more.
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", self._message_bytes_max),
                ("grpc.max_send_message_length", self._message_bytes_max),
                # Two nodes on one port would share its connections by chance.
                ("grpc.so_reuseport", 0),
                # Clients that wait for long look after their connection: no attack.
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
                # And one that went away without a word is to be noticed: what waits for it is kept.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.max_pings_without_data", 0),
            )
        )
        add_IngressServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        try:
            port = server.add_insecure_port(format_address(host, port))
        except RuntimeError as error:
            raise TransportError(f"cannot listen on {address} (option {OPTION}): {error}") from None
        bound = format_address(host, port)
        await server.start()
        self._server = server
        for name in ("", SERVICE_NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return bound

    def tell_front_doors(self) -> None:
        """What `front_doors` gives may have changed: tell the sessions whose clients know less."""
        self._service.tell_front_doors()

    async def stop(self) -> None:
        """Say so to health checks, refuse new calls, give those under way their grace."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        self._service.stop_sessions()
        await self._server.stop(self._stop_grace_seconds)
        self._server = None
