"""``perdure server``: run a node in this process."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

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
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One option, such as node.name=a."),
    ] = None,
    base_dir: Annotated[
        str | None, typer.Option("--base-dir", metavar="DIR", help="Where the node stores.")
    ] = None,
    ingress_http: Annotated[
        str | None,
        typer.Option("--ingress-http", metavar="HOST:PORT", help="HTTP front door."),
    ] = None,
    ingress_grpc: Annotated[
        str | None,
        typer.Option("--ingress-grpc", metavar="HOST:PORT", help="gRPC front door."),
    ] = None,
    admin: Annotated[
        str | None, typer.Option("--admin", metavar="HOST:PORT", help="Admin REST and metrics.")
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="HOST:PORT", help="Workers and other nodes.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow addresses that other machines reach.")
    ] = False,
) -> None:
    """Run the command."""
    from ...core.options import Assignment, parse_assignment
    from ...node.main import run_server
    from ...node.options import load_node_options

    layer = [parse_assignment(text) for text in assignments or ()]
    flags = {
        "--base-dir": ("node.base_dir", base_dir),
        "--ingress-http": ("listen.ingress_http", ingress_http),
        "--ingress-grpc": ("listen.ingress_grpc", ingress_grpc),
        "--admin": ("listen.admin", admin),
        "--node": ("listen.node", node),
        "--insecure": ("listen.insecure", "true" if insecure else None),
    }
    layer += [
        Assignment(key, value, flag) for flag, (key, value) in flags.items() if value is not None
    ]
    options = load_node_options(file=config, environment=os.environ, assignments=layer)
    raise typer.Exit(run_server(options))
