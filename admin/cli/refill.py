"""``perdure partitions refill``: have a copy that has stopped begun anew."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption, post
from .confirm import YesOption, confirm
from .everybody import admin_of, cluster_status
from .output import Format, Output, print_json, print_table

if TYPE_CHECKING:
    from ..cluster import ClusterStatus

HELP: Final = """Have a node's copy of a partition that has stopped there filled anew.

For a copy whose rows are not those of the others, or that has applied what its log does not have
any more: perdure doctor shows which. It is filled from a snapshot, or from the log where that is
whole; its rows stay until it is certain that either leads to the log's end. Keep what the node has
in its directory bundles, and report it: this heals, and explains nothing.

Without --on, the node where the copy has stopped is looked for; there must be one only.

  perdure partitions refill 3

  perdure partitions refill 3 --on node-2
"""


def refill(
    partition: Annotated[int, typer.Argument(metavar="ID", min=0, help="The partition's number.")],
    on: Annotated[str, typer.Option("--on", metavar="NODE", help="Whose copy it is.")] = "",
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ..api.partition_answers import RefillAnswer

    cluster = cluster_status(admin)
    name = on or _stopped_on(cluster, partition)
    confirm(f"Fill the copy of partition {partition} on {name} anew?", yes=yes)
    asked = admin_of(cluster, name, admin)
    answer = post(asked, f"/partitions/{partition}/refill", {}, RefillAnswer)
    if output is Format.JSON:
        print_json(answer)
    else:
        rows = {
            "partition": str(answer.partition),
            "node": answer.node,
            "status": "is filled anew",
            "had stopped": answer.error or "-",
        }
        print_table(["FIELD", "VALUE"], [[key, value] for key, value in rows.items()])


def _stopped_on(cluster: "ClusterStatus", partition: int) -> str:
    """The node whose copy is not to be gone on from. Raises RefillRefusedError if not one."""
    from ...partition_processor.errors import RefillRefusedError

    row = next((row for row in cluster.partitions if row.partition == partition), None)
    names = [copy.node for copy in row.stopped if not copy.parked] if row is not None else []
    if len(names) == 1 or len(cluster.nodes) == 1:
        return names[0] if names else cluster.me
    if not names:
        raise RefillRefusedError(
            f"no copy of partition {partition} is known to have stopped for a reason of its own: "
            "perdure doctor tells what is wrong"
        )
    raise RefillRefusedError(
        f"the copies of partition {partition} have stopped on {', '.join(names)}: say which one "
        "with --on. At least one other has to be right, or a snapshot"
    )
