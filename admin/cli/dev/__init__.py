"""``perdure dev``: a node and a worker of one app, started anew whenever the app is saved."""

import asyncio
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from ..node_flags import (
    AdminListenOption,
    AssignmentsOption,
    IngressGrpcOption,
    IngressHttpOption,
    assignments_of,
)

HELP: Final = """Run a node with a worker for one app, and start the worker anew at each save.

  perdure dev greeter.py

  perdure dev greeter.py --base-dir ./dev-data --ingress-http 127.0.0.1:9080

Prints how to call each handler. Every .py file in the app's directory, and below it, counts. When
the app cannot be imported the error is shown, and the next save is tried. Invocations that began
with older code go on with the new one. Ctrl-C stops both.

What is stored is gone at the end unless --base-dir is given.
"""


def dev(
    app: Annotated[
        Path, typer.Argument(metavar="APP.py", help="The file that defines the services.")
    ],
    base_dir: Annotated[
        str | None,
        typer.Option("--base-dir", metavar="DIR", help="Where the node stores; kept at the end."),
    ] = None,
    assignments: AssignmentsOption = None,
    ingress_http: IngressHttpOption = None,
    ingress_grpc: IngressGrpcOption = None,
    admin: AdminListenOption = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="HOST:PORT", help="For the worker.")
    ] = None,
) -> None:
    """Run the command."""
    from ....core.options import Assignment
    from ....node.main import run_server
    from ....node.options import load_node_options
    from ....node.server import NodeServer
    from ....sdk.loading import check_app_file
    from .supervisor import Supervisor

    file = check_app_file(app)
    with ExitStack() as stack:
        temporary = stack.enter_context(TemporaryDirectory(prefix="perdure-dev-"))
        flags = {
            "--base-dir": ("node.base_dir", base_dir or str(Path(temporary) / "data")),
            "--ingress-http": ("listen.ingress_http", ingress_http),
            "--ingress-grpc": ("listen.ingress_grpc", ingress_grpc),
            "--admin": ("listen.admin", admin),
            "--node": ("listen.node", node),
        }
        # The node's own steps would hide what the app prints; --set brings them back.
        layer = [Assignment("logging.level", "warning", "perdure dev")]
        layer += assignments_of(assignments, flags)
        options = load_node_options(environment=os.environ, assignments=layer)
        supervise = partial(
            Supervisor,
            file,
            report=Path(temporary) / "report.json",
            transport=options.listen.node_transport,
            data="in a temporary directory" if base_dir is None else f"in {base_dir}",
        )

        async def beside(server: NodeServer, stop: asyncio.Event) -> None:
            supervisor = supervise(ready=server.ready, addresses=server.addresses, stop=stop)
            await supervisor.run()

        raise typer.Exit(run_server(options, beside))
