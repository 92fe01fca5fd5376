"""``perdure logs seal``: have a log take nothing until it is opened again."""

from typing import Annotated, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption, post
from ..confirm import YesOption, confirm
from ..output import Format, Output, print_json
from .common import LogArgument

HELP: Final = """Seal a whole log: its partition takes no calls until the log is opened again.

What is in the log stays readable. `perdure logs reconfigure` opens it again, and so does a
restart of the node.

  perdure logs seal 3

  perdure logs seal 3 --segment 7 --yes
"""


def seal(
    log: LogArgument,
    segment: Annotated[
        int | None,
        typer.Option("--segment", metavar="INDEX", min=1, help="Only if this is the last segment."),
    ] = None,
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...api.log_answers import SealAnswer

    confirm(
        f"Seal log {log}? Partition {log} takes no calls until the log is opened again.", yes=yes
    )
    body = {} if segment is None else {"segment": segment}
    answer = post(admin, f"/logs/{log}/seal", body, SealAnswer)
    if output is Format.JSON:
        print_json(answer)
        return
    done = "was sealed already" if answer.already_sealed else "is sealed"
    print(
        f"log {answer.log} {done}: segment {answer.segment}, tail {answer.tail_lsn}; open it again "
        f"with: perdure logs reconfigure {answer.log}"
    )
