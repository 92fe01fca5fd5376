"""``perdure send``: start a handler and do not wait for it."""

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
from .output import Format, Output, print_json, print_table

HELP: Final = """Start a handler and return as soon as its start is durable.

  perdure send Mailer/deliver '{"to": "ada@example.com"}'

  perdure send Counter/ada/add 5 --idempotency-key first -o json
"""


def send(
    target: TargetArgument,
    body: BodyArgument = None,
    ingress: IngressOption = INGRESS_DEFAULT,
    idempotency_key: IdempotencyKeyOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    request = build_request(target, body, idempotency_key)
    from ...proto.generated import ingress_pb2 as wire

    response = ask(ingress, lambda stub: stub.Send(wire.SendRequest(invocation=request)))
    known = response.status == wire.SendResponse.PREVIOUSLY_ACCEPTED
    status = "previously accepted" if known else "accepted"
    if output is Format.JSON:
        print_json({"invocation_id": response.invocation_id, "status": status})
    else:
        print_table(["INVOCATION", "STATUS"], [[response.invocation_id, status]])
