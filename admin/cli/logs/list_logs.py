"""``perdure logs list``: every log in a line."""

from typing import Final

from ..admin_client import ADMIN_DEFAULT, AdminOption, get
from ..missing import tell_missing
from ..output import Format, Output, print_json, print_table
from .common import state_of

HELP: Final = """List the logs, each as the node sees it that leads its partition.

TRIMMED is the last LSN that is gone, TAIL the first one that is not written.

  perdure logs list

  perdure logs list --admin http://127.0.0.1:9070 -o json
"""


def list_logs(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    from ...api.log_answers import LogList

    answer = get(admin, "/logs", LogList)
    if output is Format.JSON:
        print_json(answer)
        tell_missing(answer.missing)
        return
    print_table(
        [
            "LOG", "STATE", "TRIMMED", "TAIL", "RECORDS", "SEGMENTS",
            "KIND", "LOGLET", "EPOCH", "SEQUENCER", "ERROR",
        ],
        [
            [
                str(row.log),
                state_of(row.sealed),
                str(row.trim_point),
                str(row.tail_lsn),
                str(row.records),
                str(row.segments),
                row.kind,
                str(row.loglet),
                str(row.epoch),
                row.sequencer or "-",
                row.error or "-",
            ]
            for row in answer.logs
        ],
        dispensable=("LOGLET", "TRIMMED", "EPOCH"),
    )  # fmt: skip
    tell_missing(answer.missing)
