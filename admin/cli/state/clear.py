"""``perdure state clear``: have an object or workflow forget."""

from typing import Annotated, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption
from ..confirm import YesOption, confirm
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

HELP: Final = f"""Clear entries of the state of an object or workflow, or all of it.

  perdure state clear Counter ada total

  perdure state clear Counter ada --yes
{TURN_HELP}"""


def clear(
    service: ServiceArgument,
    key: KeyArgument,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="The entries; all by default.")
    ] = None,
    version: VersionOption = None,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = TIMEOUT_DEFAULT,
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    if not names:
        confirm(f"Clear the whole state of {service}/{key}?", yes=yes)
    change_state(
        admin,
        service,
        key,
        [{"name": name, "clear": True} for name in dict.fromkeys(names or ())],
        replace=not names,
        version=version,
        wait_seconds=0 if no_wait else timeout,
        output=output,
    )
