"""``perdure state set``: change what an object or workflow remembers."""

import base64
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption
from ..ingress_client import read_body
from ..output import Format, Output
from .common import (
    TIMEOUT_DEFAULT,
    TURN_HELP,
    KeyArgument,
    NoWaitOption,
    ServiceArgument,
    TimeoutOption,
    VersionOption,
    change_state,
)

HELP: Final = f"""Set one entry of the state of an object or workflow, or several.

  perdure state set Counter ada total 42

  perdure state set Counter ada total 42 --version 5c0d… --no-wait

  perdure state set Counter ada photo --file photo.jpg

  perdure state set Counter ada --file state.json --replace

With a name and --file, the file is the value, as it is. Without a name it is a JSON object with a
value for each entry; --replace clears all other entries. - as JSON or file is stdin.
{TURN_HELP}"""


def set_state(
    service: ServiceArgument,
    key: KeyArgument,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The entry to set.")] = None,
    value: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="Its value; - reads it from stdin.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            allow_dash=True,
            help="Take the value, or the values, from it.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Clear every entry that the file does not have.")
    ] = False,
    version: VersionOption = None,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = TIMEOUT_DEFAULT,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""  # fmt: skip
    change_state(
        admin,
        service,
        key,
        _changes(name, value, file, replace=replace),
        replace=replace,
        version=version,
        wait_seconds=0 if no_wait else timeout,
        output=output,
    )


def _changes(
    name: str | None, value: str | None, file: Path | None, *, replace: bool
) -> list[dict[str, object]]:
    """What is to be set. Raises typer.BadParameter."""
    if (value is None) == (file is None):
        raise typer.BadParameter("give NAME and JSON, or --file FILE")
    if name is not None and replace:
        raise typer.BadParameter("--replace goes with --file and without NAME")
    if value is not None:
        return [{"name": name, "json": msgspec.Raw(read_body(value))}]
    assert file is not None
    content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    if name is not None:
        return [{"name": name, "base64": base64.b64encode(content).decode()}]
    try:
        values = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise typer.BadParameter(
            f"the file is no JSON object with a value for each entry ({error})",
            param_hint="--file",
        ) from None
    return [{"name": entry, "json": item} for entry, item in values.items()]
