"""``perdure call``: run a handler and print its result."""

import sys
from typing import Final

import typer

from .ingress_client import (
    INGRESS_DEFAULT,
    BodyArgument,
    IdempotencyKeyOption,
    IngressOption,
    TargetArgument,
    ask,
    build_request,
)
from .output import Format, Output, print_json

HELP: Final = """Call a handler, wait for it, print its result.

  perdure call Greeter/greet '"Ada"'

  perdure call Counter/ada/add 5 --idempotency-key first

With -o json the result comes with its invocation id.
"""


def call(
    target: TargetArgument,
    body: BodyArgument = None,
    ingress: IngressOption = INGRESS_DEFAULT,
    idempotency_key: IdempotencyKeyOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    request = build_request(target, body, idempotency_key)
    from ...proto.generated import ingress_pb2 as wire

    response = ask(ingress, lambda stub: stub.Call(wire.CallRequest(invocation=request)))
    if response.WhichOneof("result") == "failure":
        print(f"failed: [{response.failure.code}] {response.failure.message}", file=sys.stderr)
        raise typer.Exit(1)
    if output is Format.JSON:
        print_json(
            {"invocation_id": response.invocation_id, "value": _decoded(bytes(response.value))}
        )
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(response.value)
    if response.value:
        sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


def _decoded(value: bytes) -> object:
    """The result as JSON holds it: a result that is not JSON becomes base64 text."""
    import msgspec

    if not value:
        return None
    try:
        decoded: object = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return value
    return decoded
