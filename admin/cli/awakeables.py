"""``perdure awakeables``: answer what a handler waits for."""

from typing import TYPE_CHECKING, Annotated, Final

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

if TYPE_CHECKING:
    from ...proto.generated import ingress_pb2 as wire

HELP: Final = "Complete awakeables, which handlers wait for."
RESOLVE_HELP: Final = """Give the handler that waits a value.

  perdure awakeables resolve sign_1Q2M… true

  perdure awakeables resolve sign_1Q2M… - < answer.json
"""
REJECT_HELP: Final = """Let the handler that waits fail with a TerminalError.

  perdure awakeables reject sign_1Q2M… 'not before Monday'

  perdure awakeables reject sign_1Q2M… 'not found' --code 404
"""

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="What ctx.awakeable() gave, sign_1….")
]
ReasonArgument = Annotated[str, typer.Argument(metavar="REASON", help="The failure's message.")]


def build_awakeables() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("resolve", help=RESOLVE_HELP)(resolve)
    group.command("reject", help=REJECT_HELP)(reject)
    return group


def resolve(
    awakeable_id: IdArgument,
    body: BodyArgument = None,
    ingress: IngressOption = INGRESS_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    value = read_body(body)
    from ...proto.generated import ingress_pb2 as wire

    request = wire.CompleteAwakeableRequest(awakeable_id=awakeable_id, value=value)
    _complete(ingress, request, "resolved", output)


def reject(
    awakeable_id: IdArgument,
    reason: ReasonArgument,
    code: FailureCodeOption = FAILURE_CODE_DEFAULT,
    ingress: IngressOption = INGRESS_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...proto.generated import ingress_pb2 as wire

    failure = wire.Failure(code=code, message=reason)
    request = wire.CompleteAwakeableRequest(awakeable_id=awakeable_id, failure=failure)
    _complete(ingress, request, "rejected", output)


def _complete(
    ingress: str, request: "wire.CompleteAwakeableRequest", outcome: str, output: Format
) -> None:
    ask(ingress, lambda stub: stub.CompleteAwakeable(request))
    print_outcome("awakeable_id", request.awakeable_id, outcome, output)
