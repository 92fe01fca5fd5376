"""The result of an invocation, printed; shared by the commands that wait for one or ask for it."""

import sys
from typing import TYPE_CHECKING

import typer

from .output import Format, print_json, printable

if TYPE_CHECKING:
    from ...proto.generated import ingress_pb2 as wire


def print_result(response: "wire.CallResponse", output: Format) -> None:
    """Print a value to stdout; a failure goes to stderr. Raises typer.Exit for a failure."""
    if response.WhichOneof("result") == "failure":
        message = printable(response.failure.message)
        print(f"failed: [{response.failure.code}] {message}", file=sys.stderr)
        raise typer.Exit(1)
    if output is Format.JSON:
        value = _decoded(bytes(response.value))
        print_json({"invocation_id": response.invocation_id, "value": value})
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
