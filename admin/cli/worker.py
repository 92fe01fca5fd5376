"""``perdure worker``: run an app's handlers in this process."""

from typing import Annotated, Final, Literal

import typer

from ...core.addresses import parse_address

HELP: Final = """Run the services of an app and take work from nodes.

  perdure worker greeter.py --connect 127.0.0.1:5122

  perdure worker greeter.py --connect a:5122,b:5122 --deployment greeter-7
"""


def worker(
    app: Annotated[
        str, typer.Argument(metavar="APP.py", help="The file that defines the services.")
    ],
    connect: Annotated[
        str, typer.Option("--connect", metavar="HOST:PORT[,…]", help="The nodes to serve.")
    ] = "127.0.0.1:5122",
    deployment: Annotated[
        str | None,
        typer.Option(
            "--deployment",
            metavar="NAME",
            help="Identity of this code; derived from it by default.",
        ),
    ] = None,
    transport: Annotated[
        Literal["tcp", "grpc"],
        typer.Option("--transport", help="What the nodes speak: their listen.node_transport."),
    ] = "tcp",
) -> None:
    """Run the command."""
    addresses = [address.strip() for address in connect.split(",") if address.strip()]
    if not addresses:
        raise typer.BadParameter("give at least one HOST:PORT", param_hint="--connect")
    for address in addresses:
        try:
            parse_address(address)
        except ValueError as error:
            raise typer.BadParameter(f"{address!r}: {error}", param_hint="--connect") from None
    from ...core.net.choice import make_transport
    from ...sdk.run_worker import serve_app

    raise typer.Exit(serve_app(app, addresses, deployment, make_transport(transport)))
