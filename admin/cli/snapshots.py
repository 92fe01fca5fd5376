"""``perdure snapshots``: have snapshots of partitions taken, and see which there are."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption, get, post
from .output import Format, Output, print_json, print_table, printable, short_time

if TYPE_CHECKING:
    from ..api.snapshot_answers import SnapshotView

HELP: Final = """Take snapshots of partitions, and see which there are.

A node takes them by itself when snapshots.directory is set.

  perdure snapshots create --all

  perdure snapshots list
"""
CREATE_HELP: Final = """Take a snapshot of one partition, or of all, where each is led.

Ends when the snapshot is durable; nodes go on serving meanwhile. Nothing is written when
nothing was applied since the newest one. Exits with 1 when one of them failed.

  perdure snapshots create --partition 3

  perdure snapshots create --all -o json
"""
LIST_HELP: Final = """List the snapshots that there are, newest first for each partition.

What is damaged, or belongs to another cluster, is told on stderr with the reason.

  perdure snapshots list

  perdure snapshots list --partition 3 -o json
"""

CREATE_TIMEOUT_SECONDS: Final = 3600.0

PartitionOption = Annotated[
    int | None, typer.Option("--partition", "-p", metavar="ID", min=0, help="Only this partition.")
]


def build_snapshots() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("create", help=CREATE_HELP)(create)
    group.command("list", help=LIST_HELP)(list_snapshots)
    return group


def create(
    partition: PartitionOption = None,
    all_partitions: Annotated[bool, typer.Option("--all", help="Every partition.")] = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ..api.snapshot_answers import SnapshotsCreated

    if (partition is None) != all_partitions:
        raise typer.BadParameter("say which: --partition ID, or --all")
    body: dict[str, object] = {"all": True} if partition is None else {"partition": partition}
    answer = post(
        admin, "/snapshots", body, SnapshotsCreated, timeout_seconds=CREATE_TIMEOUT_SECONDS
    )
    if output is Format.JSON:
        print_json(answer)
    else:
        print_table(
            ["PARTITION", "STATUS", *_COLUMNS],
            [
                [
                    str(outcome.partition),
                    outcome.status,
                    *_cells(outcome.snapshot),
                ]
                for outcome in answer.snapshots
            ],
        )
    failed = [outcome for outcome in answer.snapshots if outcome.status == "failed"]
    for outcome in failed:
        if outcome.problem is not None:
            _warn(f"partition {outcome.partition}", outcome.problem.code, outcome.problem.message)
    if failed:
        raise typer.Exit(1)


def list_snapshots(
    partition: PartitionOption = None,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ..api.snapshot_answers import SnapshotList

    query = {} if partition is None else {"partition": str(partition)}
    answer = get(admin, "/snapshots", SnapshotList, query=query)
    if output is Format.JSON:
        print_json(answer)
        return
    print_table(
        ["PARTITION", *_COLUMNS, "NAME"],
        [
            [str(snapshot.partition), *_cells(snapshot), snapshot.name]
            for snapshot in answer.snapshots
        ],
        dispensable=("EPOCH", "NODE"),
    )
    for problem in answer.problems:
        _warn("not usable", problem.code, problem.message)


_COLUMNS: Final = ("LSN", "EPOCH", "ROWS", "BYTES", "NODE", "CREATED")


def _cells(snapshot: "SnapshotView | None") -> list[str]:
    if snapshot is None:
        return ["-"] * len(_COLUMNS)
    return [
        str(snapshot.lsn),
        str(snapshot.epoch),
        str(snapshot.rows),
        str(snapshot.bytes),
        snapshot.node,
        short_time(snapshot.created_at),
    ]


def _warn(what: str, code: str, message: str) -> None:
    print(printable(f"{what}: {code} {message}"), file=sys.stderr)
