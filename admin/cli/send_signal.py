"""``perdure signal``: send an invocation a signal that it waits for by name."""

from typing import Annotated, Final

import typer

from .ingress_client import (
    FAILURE_CODE_DEFAULT,
    INGRESS_DEFAULT,
    BodyArgument,
    FailureCodeOption,
    IngressOption,
    ask,
    read_body,
)
from .output import Format, Output, print_outcome

HELP: Final = """Send a named signal to an invocation.

  perdure signal inv_1foAirY4KKzi7nKAusBx0aH9gUCdM1D3LM approved '{"by": "ada"}'

  perdure signal inv_1foAirY4KKzi7nKAusBx0aH9gUCdM1D3LM approved --reject 'not today'

A name has one value: the first that is sent. An invocation that has gone is no error.
"""

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The invocation's id, inv_1….")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")]
RejectOption = Annotated[
    str | None,
    typer.Option("--reject", metavar="REASON", help="Send a failure in place of a value."),
]


def send_signal(
    invocation_id: IdArgument,
    name: NameArgument,
    body: BodyArgument = None,
    reject: RejectOption = None,
    code: FailureCodeOption = FAILURE_CODE_DEFAULT,
    ingress: IngressOption = INGRESS_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    if reject is not None and body is not None:
        raise typer.BadParameter("give a value or --reject REASON, not both", param_hint="JSON")
    value = read_body(body)
    from ...proto.generated import ingress_pb2 as wire

    request = wire.SendSignalRequest(invocation_id=invocation_id, name=name)
    if reject is None:
        request.value = value
    else:
        request.failure.CopyFrom(wire.Failure(code=code, message=reject))
    ask(ingress, lambda stub: stub.SendSignal(request))
    print_outcome("invocation_id", invocation_id, "sent", output)
