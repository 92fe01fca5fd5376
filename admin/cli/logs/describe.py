"""``perdure logs describe``: one log and its segments."""

from typing import Final

from ..admin_client import ADMIN_DEFAULT, AdminOption, get
from ..output import Format, Output, print_json, print_table, short_time
from .common import LogArgument, state_of

HELP: Final = """Show one log with its segments.

DURABLE is how far the log may be trimmed: what the node has applied and stored durably. Where
snapshots are taken, it may be trimmed no further than ARCHIVED, what the newest one has.

KEPT ON are the log-servers of a segment and how many of them have each record. What is wrong with
them is below the table.

  perdure logs describe 3

  perdure logs describe 3 -o json
"""


def describe(
    log: LogArgument, admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE
) -> None:
    """Run the command."""
    from ...api.log_answers import LogDetail

    detail = get(admin, f"/logs/{log}", LogDetail)
    if output is Format.JSON:
        print_json(detail)
        return
    print_table(
        ["LOG", "STATE", "TRIMMED", "DURABLE", "ARCHIVED", "TAIL", "RECORDS"],
        [
            [
                str(detail.log),
                state_of(detail.sealed),
                str(detail.trim_point),
                str(detail.durable_lsn),
                "-" if detail.archived_lsn is None else str(detail.archived_lsn),
                str(detail.tail_lsn),
                str(detail.records),
            ]
        ],
    )
    print()
    print_table(
        [
            "SEGMENT", "STATE", "FROM", "TAIL", "TRIMMED", "RECORDS",
            "KIND", "LOGLET", "EPOCH", "SEQUENCER", "SINCE", "KEPT ON", "HEALTH",
        ],
        [
            [
                str(row.index),
                row.state,
                str(row.base_lsn),
                str(row.tail_lsn),
                "-" if row.trim_point is None else str(row.trim_point),
                str(row.records),
                row.kind,
                str(row.loglet),
                str(row.epoch),
                row.sequencer or "-",
                short_time(row.since) if row.since else "-",
                f"{row.copies} of {','.join(row.servers)}" if row.servers else "-",
                row.health or "-",
            ]
            for row in detail.segments
        ],
        dispensable=("LOGLET", "SINCE", "TRIMMED", "RECORDS", "KIND", "EPOCH"),
    )  # fmt: skip
    if detail.error:
        print(f"its tail is not known: {detail.error}")
    for row in detail.segments:
        if row.problems:
            print(f"segment {row.index} is {row.health}: {', '.join(row.problems)}")
