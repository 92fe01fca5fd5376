"""``perdure partitions``: what the partitions of a node are doing, over admin REST."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption, get
from .output import Format, Output, print_json, print_table, short_time

if TYPE_CHECKING:
    from ...partition_processor.status import PartitionStatus

LIST_HELP: Final = """List the partitions of a node.

  perdure partitions list

  perdure partitions list --admin http://127.0.0.1:9070 -o json
"""
INSPECT_HELP: Final = """Show one partition in full.

  perdure partitions inspect 3
"""


def list_partitions(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    from ...partition_processor.status import PartitionStatus

    answer = get(admin, "/partitions", dict[str, list[PartitionStatus]])
    if output is Format.JSON:
        print_json(answer)
        return
    print_table(
        ["PARTITION", "NODE", "ROLE", "EPOCH", "APPLIED", "TAIL", "LAG", "INVOCATIONS", "ERROR"],
        [
            [
                str(status.partition),
                status.node,
                status.role,
                str(status.leader_epoch),
                str(status.applied_lsn),
                str(status.tail_lsn),
                str(status.lag),
                _counts(status),
                status.error or "-",
            ]
            for status in answer["partitions"]
        ],
    )


def inspect_partition(
    partition: Annotated[int, typer.Argument(metavar="ID", min=0, help="The partition's number.")],
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...partition_processor.status import PartitionDetail
    from ..api.times import time_text

    detail = get(admin, f"/partitions/{partition}", PartitionDetail)
    if output is Format.JSON:
        print_json(detail)
        return
    status = detail.status
    rows = {
        "partition": str(status.partition),
        "node": status.node,
        "role": status.role,
        "leader epoch": str(status.leader_epoch),
        "applied lsn": str(status.applied_lsn),
        "tail lsn": str(status.tail_lsn),
        "lag": str(status.lag),
        "keys": f"{detail.key_first:016x}-{detail.key_last:016x}",
        "digest": detail.digest,
        "invocations": _counts(status),
        "running": str(detail.running),
        "waiting for a worker": str(detail.waiting_for_worker),
        "snapshot": "-",
        "error": status.error or "-",
    }
    if (last := detail.snapshot) is not None:
        rows["snapshot"] = f"lsn {last.lsn}, {short_time(time_text(last.created_ns))}"
        rows["snapshot digest"] = last.digest
    print_table(["FIELD", "VALUE"], [[name, value] for name, value in rows.items()])


def _counts(status: "PartitionStatus") -> str:
    counted = (f"{name}={count}" for name, count in sorted(status.invocations.items()) if count)
    return " ".join(counted) or "-"
