"""``perdure partitions``: what the partitions are doing, and moving their leads."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption, get, post
from .everybody import NODE_TIMEOUT_SECONDS, admin_of, ask_everybody, cluster_status
from .output import Format, Output, print_json, print_table, printable, report, short_time
from .refill import HELP as REFILL_HELP
from .refill import refill
from .skip import HELP as SKIP_HELP
from .skip import skip

if TYPE_CHECKING:
    from ...partition_processor.status import PartitionDetail, PartitionStatus, StoppedCopy
    from ..cluster import ClusterStatus, PartitionRow

HELP: Final = """Look at the partitions, have another node lead one, or one that stopped go on."""
LIST_HELP: Final = """List the partitions, each as the node that leads it sees it.

With --here: as the node that is asked sees them, those included that it only follows.

  perdure partitions list

  perdure partitions list --here --admin http://127.0.0.1:9071 -o json
"""
INSPECT_HELP: Final = """Show one partition in full, as the node that leads it sees it.

With --here: as the node that is asked sees it.

  perdure partitions inspect 3

  perdure partitions inspect 3 --here --admin http://127.0.0.1:9071
"""
MOVE_HELP: Final = """Have another node lead a partition. It has to be one that keeps a copy.

The lead stays there until need takes it away. Ends when that is decided; a moment later
perdure partitions list shows the new leader.

  perdure partitions move 3 --to node-2
"""

HereOption = Annotated[
    bool, typer.Option("--here", help="Ask this node alone, whoever leads.", show_default=False)
]
PartitionArgument = Annotated[
    int, typer.Argument(metavar="ID", min=0, help="The partition's number.")
]


def build_partitions() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("list", help=LIST_HELP)(list_partitions)
    group.command("inspect", help=INSPECT_HELP)(inspect_partition)
    group.command("move", help=MOVE_HELP)(move)
    group.command("skip", help=SKIP_HELP)(skip)
    group.command("refill", help=REFILL_HELP)(refill)
    return group


def list_partitions(
    here: HereOption = False, admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE
) -> None:
    """Run the command."""
    cluster = None if here else cluster_status(admin)
    if cluster is None or len(cluster.nodes) == 1:
        _print_node(_statuses(admin), output)
    else:
        _print_cluster(cluster, admin, output)


def inspect_partition(
    partition: PartitionArgument,
    here: HereOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...partition_processor.status import PartitionDetail

    asked = admin if here else _leaders_admin(partition, admin)
    _print_detail(get(asked, f"/partitions/{partition}", PartitionDetail), output)


def move(
    partition: PartitionArgument,
    to: Annotated[str, typer.Option("--to", metavar="NODE", help="Name of the node.")],
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ..cluster import PartitionRow

    row = post(admin, f"/cluster/partitions/{partition}/move", {"to": to}, PartitionRow)
    if output is Format.JSON:
        print_json({"partition": row.partition, "leader": row.leader, "replicas": row.replicas})
    else:
        print_table(
            ["PARTITION", "LEADER", "REPLICAS"],
            [[str(row.partition), row.leader or "-", ",".join(row.replicas)]],
        )


def _statuses(admin: str, timeout_seconds: float | None = None) -> "list[PartitionStatus]":
    from ...partition_processor.status import PartitionStatus

    kind = dict[str, list[PartitionStatus]]
    if timeout_seconds is None:
        return get(admin, "/partitions", kind)["partitions"]
    return get(admin, "/partitions", kind, timeout_seconds=timeout_seconds)["partitions"]


def _leaders_admin(partition: int, admin: str) -> str:
    """Where to ask about a partition: at the node that is to lead it, where there is one."""
    cluster = cluster_status(admin)
    row = next((row for row in cluster.partitions if row.partition == partition), None)
    if row is None or len(cluster.nodes) == 1:
        return admin
    if row.leader is None:
        _note(f"no node leads partition {partition}: this is how it is on {cluster.me}")
        return admin
    if row.leader != cluster.me:
        _note(f"partition {partition} is led by {row.leader}, which was asked")
    return admin_of(cluster, row.leader, admin)


# Printing ------------------------------------------------------------------------------------


def _print_node(statuses: "list[PartitionStatus]", output: Format) -> None:
    if output is Format.JSON:
        print_json({"partitions": statuses})
        return
    print_table(
        ["PARTITION", "NODE", *_COLUMNS],
        [[str(status.partition), status.node, *_cells(status)] for status in statuses],
        dispensable=_DISPENSABLE,
    )


def _print_cluster(cluster: "ClusterStatus", admin: str, output: Format) -> None:
    leaders = {row.leader for row in cluster.partitions if row.leader is not None}
    answers = ask_everybody(
        cluster, admin, lambda node: _statuses(node, NODE_TIMEOUT_SECONDS), names=leaders
    )
    told = {
        (name, status.partition): status
        for name, answer in answers.items()
        for status in answer.told or ()
    }
    rows: list[tuple[PartitionRow, PartitionStatus | None]] = [
        (row, told.get((row.leader or "", row.partition))) for row in cluster.partitions
    ]
    if output is Format.JSON:
        # Who is to lead it, and how it is there; null where that node does not tell.
        print_json(
            {
                "partitions": [
                    {
                        "partition": row.partition,
                        "leader": row.leader,
                        "replicas": row.replicas,
                        "stopped": row.stopped,
                        "status": status,
                    }
                    for row, status in rows
                ]
            }
        )
    else:
        print_table(
            ["PARTITION", "NODE", "REPLICAS", *_COLUMNS],
            [
                [
                    str(row.partition),
                    row.leader or "-",
                    ",".join(row.replicas) or "-",
                    *(_UNKNOWN if status is None else _cells(status)),
                ]
                for row, status in rows
            ],
            dispensable=_DISPENSABLE,
        )
    for row, _ in rows:
        for copy in row.stopped:
            if copy.node != row.leader:
                _note(f"partition {row.partition} has stopped on {_stopped(copy)}")
    for name, answer in answers.items():
        if answer.problem is not None:
            _note(f"{name} does not tell how its partitions are:")
            report(answer.problem)


_COLUMNS: Final = ("ROLE", "EPOCH", "APPLIED", "TAIL", "LAG", "INVOCATIONS", "ERROR")
_DISPENSABLE: Final = ("APPLIED", "EPOCH")
_UNKNOWN: Final = ("unknown", *["-"] * (len(_COLUMNS) - 1))


def _cells(status: "PartitionStatus") -> list[str]:
    return [
        status.role,
        str(status.leader_epoch),
        str(status.applied_lsn),
        str(status.tail_lsn),
        str(status.lag),
        _counts(status),
        status.error or "-",
    ]


def _print_detail(detail: "PartitionDetail", output: Format) -> None:
    from ..api.times import time_text

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
    for copy in detail.stopped:
        if copy.node != status.node:
            rows[f"stopped on {copy.node}"] = _stopped(copy)
    for skipped in detail.skipped:
        who = f"{skipped.by or 'somebody'} on {skipped.node}"
        when = short_time(time_text(skipped.at_ns))
        rows[f"skipped lsn {skipped.lsn}"] = f"{skipped.what}; by {who}, {when}: {skipped.error}"
    print_table(["FIELD", "VALUE"], [[name, value] for name, value in rows.items()])


def _stopped(copy: "StoppedCopy") -> str:
    why = "parked" if copy.parked else "not to be gone on from"
    return f"{copy.node}: {why}, applied lsn {copy.applied_lsn} (perdure doctor)"


def _counts(status: "PartitionStatus") -> str:
    counted = (f"{name}={count}" for name, count in sorted(status.invocations.items()) if count)
    return " ".join(counted) or "-"


def _note(text: str) -> None:
    print(printable(text), file=sys.stderr)
