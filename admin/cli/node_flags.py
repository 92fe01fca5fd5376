"""The command line's way to a node's options: what `perdure server` and `perdure dev` share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...core.options import Assignment

AssignmentsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One option, such as node.name=a."),
]
IngressHttpOption = Annotated[
    str | None, typer.Option("--ingress-http", metavar="HOST:PORT", help="HTTP front door.")
]
IngressGrpcOption = Annotated[
    str | None, typer.Option("--ingress-grpc", metavar="HOST:PORT", help="gRPC front door.")
]
AdminListenOption = Annotated[
    str | None, typer.Option("--admin", metavar="HOST:PORT", help="Admin REST and metrics.")
]


def assignments_of(
    assignments: list[str] | None, flags: Mapping[str, tuple[str, str | None]]
) -> "list[Assignment]":
    """What ``--set`` says, and after it what flags that were given say.

    Args:
        flags: of each flag the option that it sets, and its value if it was given.

    Raises what `parse_assignment` raises.
    """
    from ...core.options import Assignment, parse_assignment

    layer = [parse_assignment(text) for text in assignments or ()]
    layer += [
        Assignment(key, value, flag) for flag, (key, value) in flags.items() if value is not None
    ]
    return layer
