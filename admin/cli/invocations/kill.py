"""``perdure invocations kill``: end invocations at once."""

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

HELP: Final = f"""End invocations at once, with those that they called; no handler has a say.

What a handler would clean up stays as it is: cancel is the better choice where code can still run.

  perdure invocations kill inv_1…

  perdure invocations kill --service Mailer --status backing-off --yes
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


def kill(
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
    action = Action("kill", _STATUSES, {}, "What they called is killed, too; no handler cleans up.")
    act(action, Run(ids, filters, dry_run, yes, limit, admin, output))
