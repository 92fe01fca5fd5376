"""``perdure nodes``: the nodes of the cluster, and taking one out."""

from typing import Annotated, Final

import typer

from ..cluster import NodeRow
from .admin_client import ADMIN_DEFAULT, AdminOption, delete, post, quoted
from .cluster import print_nodes, state_text
from .confirm import YesOption, confirm
from .everybody import cluster_status
from .output import Format, Output, print_json, print_table

HELP: Final = """Look at the nodes of the cluster, empty one, take one out.

  perdure nodes list

  perdure nodes drain node-3
"""
LIST_HELP: Final = """List the nodes: state, roles, how many partitions each is to lead and keep.

  perdure nodes list

  perdure nodes list -o json
"""
DRAIN_HELP: Final = """Have a node give up what it leads and keeps, before it is stopped or removed.

Ends at once; partitions move meanwhile. LEADS and KEEPS of perdure nodes list show how far that is.
Refused for the last node that can have partitions.

  perdure nodes drain node-3
"""
UNDRAIN_HELP: Final = """Let a node lead and keep partitions again.

  perdure nodes undrain node-3
"""
REMOVE_HELP: Final = """Take a node out of the cluster, for good.

It has to be dead, to keep no partition (drain it first) and to be no metadata server, and no log
may need its disk: else it is refused with what to do. A removed node comes back only with an empty
directory, as a new one.

  perdure nodes drain node-3

  perdure nodes remove node-3 --yes

--lost is for a cluster that has lost so many machines at once that it cannot tell who is dead.
"""

NameArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]


def build_nodes() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("list", help=LIST_HELP)(list_nodes)
    group.command("drain", help=DRAIN_HELP)(drain)
    group.command("undrain", help=UNDRAIN_HELP)(undrain)
    group.command("remove", help=REMOVE_HELP)(remove)
    return group


def list_nodes(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    found = cluster_status(admin)
    if output is Format.JSON:
        print_json({"nodes": found.nodes})
    else:
        print_nodes(found)


def drain(
    name: NameArgument, admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE
) -> None:
    """Run the command."""
    _print(post(admin, f"/cluster/nodes/{quoted(name)}/drain", {}, NodeRow), output)


def undrain(
    name: NameArgument, admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE
) -> None:
    """Run the command."""
    _print(post(admin, f"/cluster/nodes/{quoted(name)}/undrain", {}, NodeRow), output)


def remove(
    name: NameArgument,
    lost: Annotated[
        bool, typer.Option("--lost", help="It is silent, and certain never to come back.")
    ] = False,
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    confirm(f"remove node {name} from the cluster for good?", yes=yes)
    query = {"lost": "true"} if lost else {}
    removed = delete(admin, f"/cluster/nodes/{quoted(name)}", NodeRow, query=query)
    if output is Format.JSON:
        print_json({"removed": removed})
    else:
        print_table(
            ["NODE", "ID", "STATUS"],
            [[removed.name, f"n{removed.id}:{removed.generation}", "removed"]],
        )


def _print(node: NodeRow, output: Format) -> None:
    if output is Format.JSON:
        print_json(node)
    else:
        print_table(
            ["NODE", "ID", "STATE"],
            [[node.name, f"n{node.id}:{node.generation}", state_text(node)]],
        )
