"""The ``perdure`` command: finds the command to run and turns every expected failure into a line.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130
interrupted.
"""

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

INSTALL_LINE: Final = "pip install 'perdure[server]'"

_HELP: Final = """Perdure: a log-centric durable runtime for Python.

Start a node, then a worker that runs your code, or both with dev, then call it:

  perdure server

  perdure worker greeter.py --connect 127.0.0.1:5122

  perdure dev greeter.py

  perdure up --nodes 3 --app greeter.py

  perdure call Greeter/greet '"Ada"'

  perdure send Counter/ada/add 5 --idempotency-key first

  perdure send Reminders/remind '"water the plants"' --delay 2d

  perdure attach --workflow SignUp/ada

  perdure awakeables resolve sign_1Q2M… true

  perdure invocations list --status backing-off

  perdure logs read 0 --object Counter/ada

  perdure cluster status

  perdure doctor
"""


def main() -> None:
    """Run the command line of this process and end it."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough. What is still buffered would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and give its exit code."""
    try:
        app = build_app()
    except ModuleNotFoundError as error:
        return _missing(error)
    from ...core.errors import PerdureError
    from .output import report

    try:
        app(arguments, prog_name="perdure")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    except PerdureError as error:
        report(error)
        return 1
    except ModuleNotFoundError as error:
        return _missing(error)
    return 0


def build_app() -> "typer.Typer":
    """The whole command tree."""
    import typer

    from . import (
        attach,
        call,
        invocation_output,
        send,
        send_signal,
        server,
        simulate,
        worker,
    )
    from .dev import HELP as DEV_HELP
    from .dev import dev
    from .doctor import HELP as DOCTOR_HELP
    from .doctor import doctor
    from .up import HELP as UP_HELP
    from .up import up

    app = typer.Typer(
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", is_eager=True, callback=_version
        ),
    ) -> None:
        """Options that stand before a command."""

    root.__doc__ = _HELP
    app.command("server", help=server.HELP)(server.server)
    app.command("worker", help=worker.HELP)(worker.worker)
    app.command("dev", help=DEV_HELP)(dev)
    app.command("up", help=UP_HELP)(up)
    app.command("call", help=call.HELP)(call.call)
    app.command("send", help=send.HELP)(send.send)
    app.command("attach", help=attach.HELP)(attach.attach)
    app.command("output", help=invocation_output.HELP)(invocation_output.invocation_output)
    app.command("signal", help=send_signal.HELP)(send_signal.send_signal)
    app.command("sim", help=simulate.HELP)(simulate.sim)
    app.command("doctor", help=DOCTOR_HELP)(doctor)
    _add_groups(app)
    return app


def _add_groups(app: "typer.Typer") -> None:
    """The commands that have commands of their own."""
    from .awakeables import build_awakeables
    from .cluster import build_cluster
    from .deployments import build_deployments
    from .invocations import build_invocations
    from .logs import build_logs
    from .metadata import build_metadata
    from .nodes import build_nodes
    from .partitions import build_partitions
    from .services import build_services
    from .snapshots import build_snapshots
    from .state import build_state

    app.add_typer(build_awakeables(), name="awakeables")
    app.add_typer(build_cluster(), name="cluster")
    app.add_typer(build_nodes(), name="nodes")
    app.add_typer(build_partitions(), name="partitions")
    app.add_typer(build_metadata(), name="metadata")
    app.add_typer(build_logs(), name="logs")
    app.add_typer(build_snapshots(), name="snapshots")
    app.add_typer(build_invocations(), name="invocations")
    app.add_typer(build_state(), name="state")
    app.add_typer(build_services(), name="services")
    app.add_typer(build_deployments(), name="deployments")


def _version(wanted: bool) -> None:
    if wanted:
        import typer

        from ... import __version__

        print(f"perdure {__version__}")
        raise typer.Exit(0)


def _missing(error: ModuleNotFoundError) -> int:
    """Name the install line for a package of ours that a bare install lacks."""
    if error.name is None or error.name.split(".")[0] == __name__.split(".")[0]:
        raise error
    print(f"error: this command needs {error.name}; install it with", file=sys.stderr)
    print(f"  {INSTALL_LINE}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
