"""``perdure logs find-tail``: where a log ends."""

from typing import Final

from ..admin_client import ADMIN_DEFAULT, AdminOption, get
from ..output import Format, Output, print_json, print_table
from .common import LogArgument

HELP: Final = """Find the tail of a log: the first LSN that is not written.

Every record that was acknowledged before the command started is below it.

  perdure logs find-tail 3
"""


def find_tail(
    log: LogArgument, admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE
) -> None:
    """Run the command."""
    from ...api.log_answers import TailAnswer

    answer = get(admin, f"/logs/{log}/tail", TailAnswer)
    if output is Format.JSON:
        print_json(answer)
        return
    print_table(
        ["LOG", "SEGMENT", "STATE", "TAIL"],
        [[str(answer.log), str(answer.segment), answer.state, str(answer.tail_lsn)]],
    )
