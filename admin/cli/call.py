"""``perdure call``: run a handler and print its result."""

from typing import Final

from .ingress_client import (
    INGRESS_DEFAULT,
    BodyArgument,
    IdempotencyKeyOption,
    IngressOption,
    TargetArgument,
    ask,
    build_request,
)
from .output import Format, Output
from .results import print_result

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
    print_result(response, output)
