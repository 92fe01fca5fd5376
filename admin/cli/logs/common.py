"""What the commands about logs share: the argument, the words."""

from typing import Annotated

import typer

LogArgument = Annotated[
    int, typer.Argument(metavar="LOG", min=0, help="The log's number, its partition's.")
]


def state_of(sealed: bool) -> str:
    """A log's state as a word."""
    return "sealed" if sealed else "open"
