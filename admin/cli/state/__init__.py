"""``perdure state``: look at the state of an object or workflow, and change it."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

HELP: Final = """Look at the state of an object or workflow, and change it.

  perdure state get Counter ada

  perdure state set Counter ada total 42

  perdure state clear Counter ada total
"""


def build_state() -> "typer.Typer":
    """The group of commands."""
    import typer

    from . import clear, get_state, set_state

    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("get", help=get_state.HELP)(get_state.get_state)
    group.command("set", help=set_state.HELP)(set_state.set_state)
    group.command("clear", help=clear.HELP)(clear.clear)
    return group
