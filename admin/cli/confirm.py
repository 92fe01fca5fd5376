"""The question before a change."""

import sys
from typing import Annotated

import typer

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is changed; ends the command unless the answer is yes.

    Raises typer.Exit: 1 for a no, 2 where there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        print(
            "error: this asks before it changes anything, and there is no terminal", file=sys.stderr
        )
        print("  add --yes to do it without being asked", file=sys.stderr)
        raise typer.Exit(2)
    # Not typer's own question, of which a part goes to stdout.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        print("nothing was changed", file=sys.stderr)
        raise typer.Exit(1)
