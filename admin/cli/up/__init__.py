"""``perdure up``: a cluster of several nodes on this machine, and a view of it."""

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..output import Format, Output

if TYPE_CHECKING:
    from ....node.local_cluster.launcher import LocalCluster
    from .loop import Stop

HELP: Final = """Run a cluster of several nodes on this machine.

  perdure up

  perdure up --nodes 5 --app greeter.py --app counter.py

  perdure up --base-dir ./cluster --plain -o json > addresses.json

Shows nodes and partitions: who leads, how far the others are behind, records per second. A digit
kills that node, as kill -9 does, and brings it back; w starts workers that have ended; q quits.
Without a terminal, or with --plain, it writes a line for everything that changes.

The first node listens where a single node does, if those ports are free, so other commands find it
by themselves. Each node's output goes to a file in the base directory. What is stored is gone at
the end unless --base-dir is given; with it, the next start goes on with the data.

Three nodes is the least that survives the loss of one.
"""

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", metavar="N", help="How many nodes, 1 to 9; 3 by default."),
    ] = None,
    base_dir: Annotated[
        Path | None,
        typer.Option("--base-dir", metavar="DIR", help="Where all is stored; kept at the end."),
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option(
            "--port-base",
            metavar="PORT",
            help="First port; each node has ten. By default the usual or else free ones.",
        ),
    ] = None,
    apps: Annotated[
        list[Path] | None,
        typer.Option("--app", metavar="APP.py", help="Start a worker of this app, too."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One option, for every node."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of the view, also on a terminal.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ....core.options import parse_assignment
    from ....node.local_cluster.directory import ClusterDirectory
    from ....node.local_cluster.launcher import LocalCluster
    from ....sdk.loading import check_app_file
    from .loop import Stop

    _check(nodes, port_base)
    for text in assignments or ():
        parse_assignment(text)
    files = [check_app_file(app) for app in apps or ()]
    stop = Stop()
    with ExitStack() as stack:
        # From here on a signal ends everything in order, wherever it comes.
        for number in STOP_SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, stop.request))
        if base_dir is None:
            temporary = stack.enter_context(TemporaryDirectory(prefix="perdure-up-"))
            place = Path(temporary) / "cluster"
        else:
            place = base_dir.absolute()
        directory = ClusterDirectory(place, count=nodes, port_base=port_base)
        stack.callback(directory.release)
        cluster = stack.enter_context(
            LocalCluster(directory, apps=files, settings=assignments or ())
        )
        live = not plain and output is not Format.JSON and _on_terminal()
        _run(cluster, stop, live=live, json=output is Format.JSON, kept=base_dir is not None)


def _run(cluster: "LocalCluster", stop: "Stop", *, live: bool, json: bool, kept: bool) -> None:
    from .loop import run_cluster
    from .plain import PlainView

    where = str(cluster.directory.path) if kept else "a temporary directory"
    if live:
        from .live import LiveView

        with LiveView(where) as view:
            run_cluster(cluster, view, stop)
        for line in view.last_words():
            print(line)
        return
    run_cluster(cluster, PlainView(where, cluster.directory.path, json=json), stop)


def _check(nodes: int | None, port_base: int | None) -> None:
    from ....node.local_cluster.directory import NODES_DEFAULT, NODES_MAX
    from ....node.local_cluster.ports import BASE_STEP

    if nodes is not None and not 1 <= nodes <= NODES_MAX:
        raise typer.BadParameter(
            f"{nodes} is not between 1 and {NODES_MAX}: for more, start each with perdure server",
            param_hint="--nodes",
        )
    last = 65_535 - BASE_STEP * (nodes or NODES_DEFAULT)
    if port_base is not None and not 1024 <= port_base <= last:
        raise typer.BadParameter(
            f"{port_base} is not between 1024 and {last}", param_hint="--port-base"
        )


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
