"""``perdure invocations resume``: have paused or waiting invocations go on."""

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

HELP: Final = f"""Have paused invocations go on, and those that back off or are suspended try now.

With --deployment an invocation goes on with other code: of the deployment that new invocations run
on (latest), or of a named one. It must have the handler.

  perdure invocations resume inv_1…

  perdure invocations resume --service Mailer --deployment latest --yes
{BULK_HELP}"""

_STATUSES: Final = ("paused", "backing-off")


def resume(
    ids: IdsArgument = None,
    deployment: Annotated[
        str,
        typer.Option(
            "--deployment",
            metavar="keep|latest|NAME",
            help="The code to go on with: as it began, the newest, or this.",
        ),
    ] = "keep",
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
    action = Action("resume", _STATUSES, {"deployment": deployment})
    act(action, Run(ids, filters, dry_run, yes, limit, admin, output))
