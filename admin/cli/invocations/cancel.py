"""``perdure invocations cancel``: ask invocations to cancel themselves."""

from typing import Final

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
    DeploymentOption,
    Filters,
    HandlerOption,
    IdempotencyKeyFilter,
    KeyOption,
    OldestFirstOption,
    ServiceOption,
    StatusOption,
)

HELP: Final = f"""Ask invocations to cancel themselves.

Where a handler waits, it gets a cancellation, which it may handle, and so do the invocations that
it called and waits for. One that has not started ends at once. A paused one goes on for it.

  perdure invocations cancel inv_1…

  perdure invocations cancel --service Counter --key ada --dry-run
{BULK_HELP}"""

_STATUSES: Final = (
    "scheduled",
    "pending",
    "ready",
    "running",
    "backing-off",
    "suspended",
    "paused",
)


def cancel(
    ids: IdsArgument = None,
    service: ServiceOption = None,
    handler: HandlerOption = None,
    key: KeyOption = None,
    status: StatusOption = None,
    deployment: DeploymentOption = None,
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
        service, handler, key, tuple(status or ()), deployment, idempotency_key, oldest_first
    )
    action = Action("cancel", _STATUSES, {})
    act(action, Run(ids, filters, dry_run, yes, limit, admin, output))
