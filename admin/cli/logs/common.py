"""What the commands about logs share: the argument, the words."""

from typing import Annotated, Final

import typer

CHANGE_TIMEOUT_SECONDS: Final = 75.0
"""Log-servers that do not answer are waited for, and so is a leader, which any node asks."""

LogArgument = Annotated[
    int, typer.Argument(metavar="LOG", min=0, help="The log's number, its partition's.")
]
FromOption = Annotated[
    int | None, typer.Option("--from", metavar="LSN", min=1, help="The first LSN.")
]
ToOption = Annotated[int | None, typer.Option("--to", metavar="LSN", min=1, help="The last LSN.")]


def state_of(sealed: bool) -> str:
    """A log's state as a word."""
    return "sealed" if sealed else "open"
