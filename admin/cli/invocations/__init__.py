"""``perdure invocations``: find invocations, look into one, and act on one or many."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

HELP: Final = """Find invocations, look into one, cancel, kill, pause, resume, restart, purge.

  perdure invocations list --service Counter --status backing-off

  perdure invocations describe inv_1…

  perdure invocations cancel inv_1…

  perdure invocations resume --service Counter --deployment latest --dry-run
"""


def build_invocations() -> "typer.Typer":
    """The group of commands."""
    import typer

    from . import cancel, describe, kill, list_invocations, pause, purge, restart, resume

    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("list", help=list_invocations.HELP)(list_invocations.list_invocations)
    group.command("describe", help=describe.HELP)(describe.describe)
    group.command("cancel", help=cancel.HELP)(cancel.cancel)
    group.command("kill", help=kill.HELP)(kill.kill)
    group.command("pause", help=pause.HELP)(pause.pause)
    group.command("resume", help=resume.HELP)(resume.resume)
    group.command("restart", help=restart.HELP)(restart.restart)
    group.command("purge", help=purge.HELP)(purge.purge)
    return group
