"""``perdure invocations restart``: run completed invocations again."""

from typing import Annotated, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption
from ..confirm import YesOption
from ..output import Format, Output
from .actions import (
    BULK_HELP,
    LIMIT_DEFAULT,
    Action,
    DryRunOption,
    IdsArgument,
    LimitOption,
    Run,
    act,
)
from .filters import (
    Filters,
    HandlerOption,
    IdempotencyKeyFilter,
    KeyOption,
    OldestFirstOption,
    PinnedOption,
    ServiceOption,
    StatusOption,
)

HELP: Final = f"""Run completed invocations again, each under a new id.

The input is that of the old one. With --from the journal is kept up to this entry, with what its
commands have come to, and the rest is done anew; describe shows the entries' numbers. A workflow's
run cannot be restarted.

  perdure invocations restart inv_1…

  perdure invocations restart inv_1… --from 4 --deployment latest
{BULK_HELP}"""

_STATUSES: Final = ("completed",)


def restart(
    ids: IdsArgument = None,
    deployment: Annotated[
        str,
        typer.Option(
            "--deployment",
            metavar="keep|latest|NAME",
            help="The code to run: the newest, what the old one ran on, or this.",
        ),
    ] = "latest",
    from_entry: Annotated[
        int | None,
        typer.Option("--from", metavar="ENTRY", min=0, help="The last journal entry to keep."),
    ] = None,
    service: ServiceOption = None,
    handler: HandlerOption = None,
    key: KeyOption = None,
    status: StatusOption = None,
    pinned_to: PinnedOption = None,
    idempotency_key: IdempotencyKeyFilter = None,
    oldest_first: OldestFirstOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    limit: LimitOption = LIMIT_DEFAULT,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    filters = Filters(
        service, handler, key, tuple(status or ()), pinned_to, idempotency_key, oldest_first
    )
    body: dict[str, object] = {"deployment": deployment}
    if from_entry is not None:
        body["from_entry"] = from_entry
    action = Action("restart", _STATUSES, body)
    act(action, Run(ids, filters, dry_run, yes, limit, admin, output))
