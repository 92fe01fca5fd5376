"""``perdure logs trim``: remove what a log no longer needs."""

from typing import Annotated, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption, post
from ..confirm import YesOption, confirm
from ..output import Format, Output, print_json
from .common import CHANGE_TIMEOUT_SECONDS, LogArgument

HELP: Final = """Remove the records of a log up to an LSN.

Nodes trim by themselves and keep log.keep_records of each log for reading. What the log's leader
has not stored durably is not removed, nor what no snapshot has where others may need it. Whole
batches and segments go, so the log may keep some records more than asked for.

  perdure logs trim 3 15000

  perdure logs trim 3 15000 --yes -o json
"""


def trim(
    log: LogArgument,
    lsn: Annotated[int, typer.Argument(metavar="LSN", min=1, help="The last LSN to go.")],
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...api.log_answers import TrimAnswer

    confirm(
        f"Remove the records of log {log} up to LSN {lsn}? Nobody can read them again.", yes=yes
    )
    answer = post(
        admin, f"/logs/{log}/trim", {"lsn": lsn}, TrimAnswer, timeout_seconds=CHANGE_TIMEOUT_SECONDS
    )
    if output is Format.JSON:
        print_json(answer)
        return
    if answer.trim_point == answer.trim_point_before:
        done = "nothing was removed"
    else:
        done = f"{answer.trim_point - answer.trim_point_before} LSNs were removed"
    print(
        f"log {answer.log}: {done}; everything up to LSN {answer.trim_point} is gone "
        f"(asked for {answer.requested})"
    )
