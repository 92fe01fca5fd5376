"""What commands print: tables and JSON on stdout, errors with a next step on stderr."""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final

import typer

from ...core.errors import PerdureError, TransportError
from .columns import columns_that_fit


class Format(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("-o", "--output", help="How to print: table or json.")]

_NEXT_STEPS: Final = {
    "PD0201": "is a node running? start one with: perdure server",
    "PD0204": "a node tells its addresses when it starts: gRPC 8081, admin 9070 by default",
    "PD0301": "every option and what it takes: docs/options.md",
    "PD0501": "start a worker that offers it: perdure worker APP.py --connect HOST:PORT",
    "PD0503": "give the key in the target: Object/key/handler",
    "PD0504": "leave the key out of the target: Service/handler",
    "PD0508": "try again in a moment",
    "PD0509": "try again in a moment, or another node with --ingress HOST:PORT",
    "PD0510": "wait for it with: perdure attach ID",
    "PD0910": "have its result with: perdure attach --workflow NAME/KEY",
    "PD0912": "check the id; results are forgotten after their retention: perdure invocations list",
    "PD0807": "the log's tail is shown by: perdure logs find-tail LOG",
    "PD0811": "the log's segments are shown by: perdure logs describe LOG",
    "PD0813": "list what there is with: perdure logs list",
    "PD0817": "who orders the log's appends is shown by: perdure logs list",
    "PD0818": "make room with: perdure logs trim LOG LSN",
    "PD1001": "list what there is: perdure services, deployments, invocations, partitions, nodes "
    "or logs list; perdure metadata get",
    "PD1004": "how far it may be trimmed is shown by: perdure logs describe LOG",
}


class RemoteError(PerdureError):
    """An error that a node answered with; its code is the node's."""

    def __init__(self, code: str, message: str) -> None:
        """Take code and sentence as they came."""
        super().__init__(message)
        # The class attribute speaks of a kind; this is one answer, of whatever kind.
        self.remote_code = code


def report(error: PerdureError) -> None:
    """Print an expected failure: one line, and what to do next when we know it."""
    code = error.remote_code if isinstance(error, RemoteError) else error.code
    print(f"error {code}: {error.message}", file=sys.stderr)
    # A node that answers that it cannot reach another one runs.
    is_there = isinstance(error, RemoteError) and code == TransportError.code
    if code in _NEXT_STEPS and not is_there:
        print(f"  {_NEXT_STEPS[code]}", file=sys.stderr)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def short_time(text: str) -> str:
    """An instant to the millisecond."""
    whole, dot, fraction = text.rstrip("Z").partition(".")
    return f"{whole}.{fraction[:3]}Z" if dot else text


def print_fields(fields: Mapping[str, str]) -> None:
    """Print the fields of one thing, a line each."""
    print_table(["FIELD", "VALUE"], [[name, value] for name, value in fields.items()])


def printable(text: str) -> str:
    """The text without what a terminal would act on: keys and messages come from anybody."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def print_outcome(name: str, identity: str, outcome: str, output: Format) -> None:
    """Print what became of one thing, which JSON knows by `name`."""
    if output is Format.JSON:
        print_json({name: identity, "status": outcome})
    else:
        print_table([name.removesuffix("_id").upper(), "STATUS"], [[identity, outcome]])


_GAP: Final = 2
_FOLDED_ABOVE: Final = 30
"""Characters of a column that longer cells may be folded to."""


def print_table(
    columns: list[str], rows: list[list[str]], *, dispensable: Sequence[str] | None = None
) -> None:
    """Print rows under headings; where stdout is no terminal, plain columns for grep and awk.

    Args:
        dispensable: columns that a narrow terminal does without, the first of them first. Before
            them go those that have nothing in them. None for a table that always has all.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(padded).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    shown = list(range(len(columns)))
    if dispensable is not None:
        empty = [each for each in shown if rows and all(row[each] == "-" for row in rows)]
        named = [columns.index(name) for name in dispensable]
        shown = columns_that_fit(
            [min(width, _FOLDED_ABOVE) for width in widths],
            console.width,
            gap=_GAP,
            dispensable=[*empty, *(each for each in named if each not in empty)],
        )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP - 1, 0, 0))
    for each in shown:
        # An id that is cut off is no id: what does not fit goes to the next line.
        table.add_column(columns[each], overflow="fold")
    for row in rows:
        table.add_row(*(row[each] for each in shown))
    console.print(table)
    left_out = [name for each, name in enumerate(columns) if each not in shown]
    if left_out:
        told = f"no room for {', '.join(left_out)}: widen the terminal, or use -o json"
        print(told, file=sys.stderr)
