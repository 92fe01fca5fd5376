"""``perdure invocations pause``: keep invocations from going on."""

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

HELP: Final = f"""Keep invocations from going on until they are resumed.

What runs loses its attempt and keeps its journal. A suspended one has no attempt and stays as it
is: it goes on when what it waits for comes.

  perdure invocations pause inv_1…

  perdure invocations pause --service Mailer --status backing-off
{BULK_HELP}"""

_STATUSES: Final = ("ready", "running", "backing-off")


def pause(
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
    action = Action("pause", _STATUSES, {})
    act(action, Run(ids, filters, dry_run, yes, limit, admin, output))
