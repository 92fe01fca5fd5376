"""Which transport carries a named kind of traffic between processes; `tcp` unless told.

Both adapters keep the same contract. Framed TCP costs a fifth of gRPC per lone message and a
fraction of that in bursts; gRPC passes where only HTTP/2 does, through a load balancer for
example. See ``docs/decisions``, 0002.
"""

from typing import Final, Literal, TypeAlias

from .transport import Transport

TransportName: TypeAlias = Literal["tcp", "grpc"]

DEFAULT_TRANSPORT: Final[TransportName] = "tcp"


def make_transport(name: TransportName = DEFAULT_TRANSPORT) -> Transport:
    """The transport of a name. Imports what it needs only then."""
    if name == "grpc":
        from .grpc import GrpcTransport

        return GrpcTransport()
    from .tcp import TcpTransport

    return TcpTransport()


def make_node_transport(name: TransportName = DEFAULT_TRANSPORT) -> Transport:
    """The same for a node, which is a client of its own servers, too."""
    from .shortcut import ShortcutTransport

    return ShortcutTransport(make_transport(name))
