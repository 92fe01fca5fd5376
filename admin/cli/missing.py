"""Telling that an answer is not about the whole cluster."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from .output import printable

if TYPE_CHECKING:
    from ..api.missing import Missing


def tell_missing(missing: "Sequence[Missing]") -> None:
    """Print on stderr what an answer does not have. Raises typer.Exit with 1 when it lacks any."""
    if not missing:
        return
    print("this is not all of it:", file=sys.stderr)
    for item in missing:
        print(printable(f"  {_what(item)}: {item.code} {item.message}"), file=sys.stderr)
    print("  ask again in a moment; perdure doctor tells what is wrong", file=sys.stderr)
    raise typer.Exit(1)


def _what(item: "Missing") -> str:
    parts = []
    if item.node is not None:
        parts.append(f"node {item.node}")
    if item.partitions:
        noun = "partition" if len(item.partitions) == 1 else "partitions"
        parts.append(f"{noun} {', '.join(map(str, item.partitions))}")
    return ", ".join(parts)
