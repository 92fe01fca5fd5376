"""``perdure server``: run a node in this process."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from .node_flags import (
    AdminListenOption,
    AssignmentsOption,
    IngressGrpcOption,
    IngressHttpOption,
    assignments_of,
)

HELP: Final = """Run a node.

  perdure server

  perdure server --config node.toml --set partitions.count=4

  PERDURE__LOGGING__LEVEL=debug perdure server --base-dir /var/lib/perdure

Options come from the file, then the environment, then the command line; later ones win.
"""


def server(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Options as TOML.")
    ] = None,
    assignments: AssignmentsOption = None,
    base_dir: Annotated[
        str | None, typer.Option("--base-dir", metavar="DIR", help="Where the node stores.")
    ] = None,
    ingress_http: IngressHttpOption = None,
    ingress_grpc: IngressGrpcOption = None,
    admin: AdminListenOption = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="HOST:PORT", help="Workers and other nodes.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow addresses that other machines reach.")
    ] = False,
) -> None:
    """Run the command."""
    from ...node.main import run_server
    from ...node.options import load_node_options

    flags = {
        "--base-dir": ("node.base_dir", base_dir),
        "--ingress-http": ("listen.ingress_http", ingress_http),
        "--ingress-grpc": ("listen.ingress_grpc", ingress_grpc),
        "--admin": ("listen.admin", admin),
        "--node": ("listen.node", node),
        "--insecure": ("listen.insecure", "true" if insecure else None),
    }
    options = load_node_options(
        file=config, environment=os.environ, assignments=assignments_of(assignments, flags)
    )
    raise typer.Exit(run_server(options))
