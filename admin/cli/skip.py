"""``perdure partitions skip``: have a partition go on without a record that cannot be applied."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption, get, post
from .confirm import YesOption, confirm
from .everybody import NODE_TIMEOUT_SECONDS, admin_of, ask_everybody, cluster_status
from .output import Format, Output, RemoteError, print_json, print_table, printable

if TYPE_CHECKING:
    from ..api.partition_answers import SkipAnswer

HELP: Final = """Have a partition go on without the record that it is parked at.

For a record that no release at hand can apply: perdure doctor shows where partitions are parked.
All replicas skip the same one, also those that are filled later. It counts as if it had never
been written, and so does what its leader had written behind it; nobody was told of any of it, and
clients ask again. What caused the record may bring it again: then mend that first, or start a
release that can apply it.

A node that is parked there is looked for and asked.

  perdure partitions skip 3 --lsn 1042 --dry-run

  perdure partitions skip 3 --lsn 1042
"""


def skip(
    partition: Annotated[int, typer.Argument(metavar="ID", min=0, help="The partition's number.")],
    lsn: Annotated[
        int, typer.Option("--lsn", metavar="LSN", min=1, help="Where the record is in the log.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be skipped.")
    ] = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Let what the last leader may have acknowledged behind it be undone.",
        ),
    ] = False,
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    body = {"lsn": lsn, "by": _who(), "accept_loss": accept_loss}
    asked, plan = _plan(_parked_at(partition, lsn, admin), partition, {**body, "dry_run": True})
    if dry_run or plan.already:
        _print(plan, output)
        return
    _show(plan)
    confirm(f"Go on without this record on partition {partition}, on every node?", yes=yes)
    _print(_ask(asked, partition, {**body, "dry_run": False}), output)


def _ask(admin: str, partition: int, body: dict[str, object]) -> "SkipAnswer":
    from ..api.partition_answers import SkipAnswer

    return post(admin, f"/partitions/{partition}/skip", body, SkipAnswer)


def _plan(places: list[str], partition: int, body: dict[str, object]) -> "tuple[str, SkipAnswer]":
    """Who takes it, and what would be done: the one that led last knows what others cannot tell."""
    from ...partition_processor.skipping import SkipRefusedError

    for place in places[:-1]:
        try:
            return place, _ask(place, partition, body)
        except RemoteError as error:
            if error.remote_code != SkipRefusedError.code:
                raise
    return places[-1], _ask(places[-1], partition, body)


def _parked_at(partition: int, lsn: int, admin: str) -> list[str]:
    """Where to ask: the nodes that are parked there, first the one that is to lead."""
    cluster = cluster_status(admin)
    if len(cluster.nodes) == 1:
        return [admin]
    row = next((row for row in cluster.partitions if row.partition == partition), None)
    answers = ask_everybody(cluster, admin, lambda node: _parked_lsn(node, partition))
    parked = [name for name, answer in answers.items() if answer.told == lsn]
    parked.sort(key=lambda name: (row is None or row.leader != name, name))
    found = [admin_of(cluster, name, admin) for name in parked]
    if found:
        _note(f"partition {partition} is parked there on {', '.join(parked)}")
    return found or [admin]  # Which refuses, and says how the partition is there.


def _parked_lsn(admin: str, partition: int) -> int:
    from ...partition_processor.status import PartitionStatus

    kind = dict[str, list[PartitionStatus]]
    statuses = get(admin, "/partitions", kind, timeout_seconds=NODE_TIMEOUT_SECONDS)["partitions"]
    return next((item.parked_lsn for item in statuses if item.partition == partition), 0)


def _who() -> str:
    """Who gives the command, for those who look later."""
    import getpass
    import socket

    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = "somebody"
    return f"{name}@{socket.gethostname()}"[:100]


def _show(answer: "SkipAnswer") -> None:
    """What is about to be skipped, before the question."""
    skip = answer.skip
    _note(f"LSN {skip.lsn} of partition {answer.partition}: {skip.what}")
    _note(f"  {skip.error}")
    if answer.behind:
        _note(f"  {answer.behind} records are behind it; those of the same leader do not count")


def _print(answer: "SkipAnswer", output: Format) -> None:
    if output is Format.JSON:
        print_json(answer)
        return
    skip = answer.skip
    if answer.already:
        status = "skipped before"
    else:
        status = "would be skipped" if answer.dry_run else "skipped"
    rows = {
        "partition": str(answer.partition),
        "lsn": str(skip.lsn),
        "status": status,
        "record": skip.what or "-",
        "error": skip.error or "-",
        "records behind it": "unknown" if answer.behind is None else str(answer.behind),
        "by": skip.by or "-",
        "on": skip.node,
        "at": answer.time,
    }
    print_table(["FIELD", "VALUE"], [[name, value] for name, value in rows.items()])


def _note(text: str) -> None:
    print(printable(text), file=sys.stderr)
