"""Requests to the gRPC front door, for the commands that make some: target, body, errors."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from ...core.errors import MalformedMessageError, TransportError
from .output import RemoteError

if TYPE_CHECKING:
    from ...proto.generated import ingress_pb2 as wire
    from ...proto.generated.ingress_pb2_grpc import IngressStub

ERROR_METADATA_KEY: Final = "perdure-error"
_MESSAGE_BYTES_MAX: Final = 33 * 1024 * 1024
_Response = TypeVar("_Response")

TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="Service/handler, or Object/key/handler.")
]
BodyArgument = Annotated[
    str | None,
    typer.Argument(metavar="[JSON]", help="The input as JSON; - reads it from stdin."),
]
IngressOption = Annotated[
    str, typer.Option("--ingress", metavar="HOST:PORT", help="gRPC front door of a node.")
]
IdempotencyKeyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        help="The same key for the same target is the same invocation.",
    ),
]
FailureCodeOption = Annotated[
    int, typer.Option("--code", metavar="CODE", min=1, max=65_535, help="The failure's code.")
]
INGRESS_DEFAULT: Final = "127.0.0.1:8081"
FAILURE_CODE_DEFAULT: Final = 500


def build_request(
    target: str, body: str | None, idempotency_key: str | None
) -> "wire.InvocationRequest":
    """The request of a command line. Raises typer.BadParameter."""
    from ...proto.generated import ingress_pb2 as wire

    service, key, handler = split_target(target)
    return wire.InvocationRequest(
        target=wire.Target(service=service, handler=handler, key=key),
        body=read_body(body),
        headers={"content-type": "application/json"},
        idempotency_key=idempotency_key,
    )


def split_target(target: str, hint: str = "TARGET") -> tuple[str, str | None, str]:
    """Service, key and handler; a key may hold slashes. Raises typer.BadParameter."""
    parts = target.split("/")
    if len(parts) < 2 or not all((parts[0], parts[-1])):
        raise typer.BadParameter(
            f"{target!r} is neither Service/handler nor Object/key/handler", param_hint=hint
        )
    return parts[0], "/".join(parts[1:-1]) if len(parts) > 2 else None, parts[-1]


def read_body(text: str | None) -> bytes:
    """The body of a request, checked to be JSON. Raises typer.BadParameter."""
    import msgspec

    if text is None:
        return b""
    body = sys.stdin.buffer.read() if text == "-" else text.encode()
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(
            f"this is not JSON ({error}); a text needs quotes of its own: '\"text\"'",
            param_hint="JSON",
        ) from None
    return body


def ask(address: str, question: Callable[["IngressStub"], _Response]) -> _Response:
    """Open a channel, ask, close.

    Raises TransportError, MalformedMessageError, RemoteError or typer.BadParameter.
    """
    import grpc

    from ...proto.generated.ingress_pb2_grpc import IngressStub

    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise typer.BadParameter(
            f"{address!r} is not HOST:PORT such as {INGRESS_DEFAULT}", param_hint="--ingress"
        )
    options = (
        ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
        # A node on loopback is not behind the proxy that the environment may name.
        ("grpc.enable_http_proxy", 0),
    )
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            return question(IngressStub(channel))  # type: ignore[no-untyped-call]
        except grpc.RpcError as error:
            raise _expected(address, error) from None


def _expected(address: str, error: Any) -> TransportError | MalformedMessageError | RemoteError:
    import grpc

    for key, value in error.trailing_metadata() or ():
        if key == ERROR_METADATA_KEY:
            return RemoteError(value, error.details())
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return TransportError(f"no node answers at {address}; --ingress HOST:PORT names another")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return MalformedMessageError(
            f"{address} is not the gRPC front door of a node, which --ingress takes "
            f"({error.details()})"
        )
    return TransportError(f"{address} answered {error.code().name}: {error.details()}")
