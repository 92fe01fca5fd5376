"""``perdure cluster``: the cluster at a glance."""

import sys
from typing import TYPE_CHECKING, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption
from .everybody import cluster_status
from .output import Format, Output, print_json, print_table, printable

if TYPE_CHECKING:
    from ..cluster import ClusterStatus, NodeRow

HELP: Final = """Look at the cluster.

  perdure cluster status
"""
STATUS_HELP: Final = """Show the nodes, where the partitions are, and what needs attention.

Any node can be asked; it tells how it sees the others; CLOCK is how far a node's clock is ahead of
its own, at least. Warnings go to stderr. What to do about them is told by: perdure doctor

  perdure cluster status

  perdure cluster status --admin http://127.0.0.1:9071 -o json
"""

ROLE_COUNT: Final = 5
"""Admin, ingress, log-server, metadata-server, worker."""
NODE_COLUMNS: Final = (
    "NODE", "ID", "STATE", "ROLES", "ZONE", "STORAGE", "LEADS", "KEEPS", "CLOCK", "ADDRESS",
    "ADMIN",
)  # fmt: skip


def build_cluster() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    # A group of one command would else be that command.
    group.callback()(_group)
    group.command("status", help=STATUS_HELP)(status)
    return group


def _group() -> None:
    """Look at the cluster."""


_group.__doc__ = HELP


def status(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    found = cluster_status(admin)
    if output is Format.JSON:
        print_json(found)
        return
    print_table(
        ["CLUSTER", "FINGERPRINT", "AS SEEN BY", "PARTITIONS", "COPIES OF EACH"],
        [
            [
                found.cluster,
                found.fingerprint,
                found.me,
                str(len(found.partitions)),
                str(found.replicas),
            ]
        ],
    )
    print()
    print_nodes(found)
    print()
    print_table(
        [
            "PARTITION",
            "LEADER",
            "REPLICAS",
            f"ON {found.me}",
            "EPOCH",
            "APPLIED",
            "LAG",
            "STOPPED ON",
        ],
        [
            [
                str(row.partition),
                row.leader or "-",
                ",".join(row.replicas) or "-",
                row.role,
                str(row.epoch),
                str(row.applied_lsn),
                str(row.lag),
                ",".join(copy.node for copy in row.stopped) or "-",
            ]
            for row in found.partitions
        ],
        dispensable=("EPOCH", "APPLIED"),
    )
    for warning in found.warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr)


def print_nodes(found: "ClusterStatus") -> None:
    """Print the nodes of a cluster, with what they are to lead and keep."""
    print_table(
        list(NODE_COLUMNS),
        [_cells(found, node) for node in found.nodes],
        dispensable=("ADDRESS", "ROLES", "CLOCK", "ID", "ADMIN"),
    )


def state_text(node: "NodeRow") -> str:
    """State of a node, with what an operator or the node itself said about it."""
    also = [text for text, holds in (("leaving", node.leaving), ("drained", node.drained)) if holds]
    return ",".join([node.state, *also])


def roles_text(node: "NodeRow") -> str:
    """What a node does."""
    return "all" if len(node.roles) == ROLE_COUNT else ",".join(node.roles)


def _cells(found: "ClusterStatus", node: "NodeRow") -> list[str]:
    return [
        node.name,
        f"n{node.id}:{node.generation}",
        state_text(node),
        roles_text(node),
        node.zone or "-",
        node.storage,
        str(sum(row.leader == node.name for row in found.partitions)),
        str(sum(node.name in row.replicas for row in found.partitions)),
        "-" if node.clock_ahead_ms is None else f"{node.clock_ahead_ms / 1000:+.1f}s",
        node.addresses.node or "-",
        node.addresses.admin or "-",
    ]
