"""``perdure invocations purge``: forget completed invocations."""

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
    DeploymentOption,
    Filters,
    HandlerOption,
    IdempotencyKeyFilter,
    KeyOption,
    OldestFirstOption,
    ServiceOption,
    StatusOption,
)

HELP: Final = f"""Forget completed invocations before their time, or only their journals.

With a workflow's run go its state and promises: the workflow can then run again.

  perdure invocations purge inv_1…

  perdure invocations purge --service Mailer --journal-only --yes
{BULK_HELP}"""

_STATUSES: Final = ("completed",)


def purge(
    ids: IdsArgument = None,
    journal_only: Annotated[
        bool, typer.Option("--journal-only", help="Keep the results, forget how they came about.")
    ] = False,
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
    action = Action(
        "purge", _STATUSES, {"journal_only": journal_only}, "Nobody can read them again."
    )
    act(action, Run(ids, filters, dry_run, yes, limit, admin, output))
