"""``perdure state get``: what an object or workflow remembers."""

import base64
import sys
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption
from ..output import Format, Output, print_fields, print_json, print_table
from .common import KeyArgument, ServiceArgument, read_state

if TYPE_CHECKING:
    from ...api.invocation_answers import ValueView

HELP: Final = """Show the state of an object or workflow, with its version.

  perdure state get Counter ada

  perdure state get Counter ada total

  perdure state get Counter ada -o json

With a name the value alone is printed, as it is. Exit code 1 when there is none of this name.
"""


def get_state(
    service: ServiceArgument,
    key: KeyArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One entry of the state.")
    ] = None,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    state = read_state(admin, service, key, name)
    if name is not None and not state.entries:
        print(f"{service}/{key} has no entry {name!r}", file=sys.stderr)
        raise typer.Exit(1)
    if output is Format.JSON:
        print_json(state)
    elif name is not None:
        _print_value(state.entries[0].value)
    else:
        holder = state.holder
        print_fields(
            {
                "state of": f"{service}/{key}",
                "version": state.version,
                "held by": "-" if holder is None else f"{holder.id} ({holder.target})",
            }
        )
        print()
        print_table(
            ["NAME", "BYTES", "VALUE"],
            [[entry.name, str(entry.value.bytes), _text(entry.value)] for entry in state.entries],
        )


def _print_value(value: "ValueView") -> None:
    if value.too_long:
        print(f"the value has {value.bytes} bytes, too many to be shown", file=sys.stderr)
        raise typer.Exit(1)
    sys.stdout.flush()
    if value.base64 is not None:
        sys.stdout.buffer.write(base64.b64decode(value.base64))
    elif value.bytes:
        sys.stdout.buffer.write(msgspec.json.encode(value.json) + b"\n")
    sys.stdout.flush()


def _text(value: "ValueView") -> str:
    if value.too_long:
        return "(too long to be shown)"
    if value.base64 is not None:
        return "(no JSON)"
    return msgspec.json.encode(value.json).decode() if value.bytes else "(empty)"
