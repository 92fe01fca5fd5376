"""``perdure logs``: looking into the logs of a node, and the few things to do with them."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

HELP: Final = """Look into the logs of a node, read, compare, seal, reconfigure and trim them.

Partition N keeps its records in log N.

  perdure logs list

  perdure logs read 3 --since 10m

  perdure logs describe 3 -o json
"""


def build_logs() -> "typer.Typer":
    """The group of commands."""
    import typer

    from . import describe, digest, find_tail, list_logs, read, reconfigure, seal, trim

    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("list", help=list_logs.HELP)(list_logs.list_logs)
    group.command("describe", help=describe.HELP)(describe.describe)
    group.command("digest", help=digest.HELP)(digest.digest)
    group.command("read", help=read.HELP)(read.read)
    group.command("find-tail", help=find_tail.HELP)(find_tail.find_tail)
    group.command("seal", help=seal.HELP)(seal.seal)
    group.command("reconfigure", help=reconfigure.HELP)(reconfigure.reconfigure)
    group.command("trim", help=trim.HELP)(trim.trim)
    return group
