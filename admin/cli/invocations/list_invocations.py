"""``perdure invocations list``: which invocations there are."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption
from ..missing import tell_missing
from ..output import Format, Output, print_json, print_table, short_time
from .filters import (
    DeploymentOption,
    Filters,
    HandlerOption,
    IdempotencyKeyFilter,
    KeyOption,
    OldestFirstOption,
    ServiceOption,
    StatusOption,
    select,
)

if TYPE_CHECKING:
    from ...api.invocation_answers import InvocationRow

HELP: Final = """List invocations; those that have completed are left out unless asked for.

  perdure invocations list

  perdure invocations list --service Counter --key ada --all

  perdure invocations list --status backing-off --status paused --oldest-first

  perdure invocations list --service Mailer --handler deliver --idempotency-key first -o json

A key, or service, handler and idempotency key together, are looked up directly; any other filter
goes through all invocations, a little at a time, which takes seconds for millions. Any node of a
cluster answers for all of it. Exit code 1 when a part of it could not be asked; which, is told.
"""
HEADINGS: Final = ["INVOCATION", "TARGET", "STATUS", "CREATED", "ATTEMPT", "DETAIL"]
LIMIT_DEFAULT: Final = 100
_FAILURE_SHOWN: Final = 80


def list_invocations(
    service: ServiceOption = None,
    handler: HandlerOption = None,
    key: KeyOption = None,
    status: StatusOption = None,
    deployment: DeploymentOption = None,
    idempotency_key: IdempotencyKeyFilter = None,
    oldest_first: OldestFirstOption = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that have completed, too.")
    ] = False,
    limit: Annotated[
        int, typer.Option("-n", "--limit", metavar="N", min=1, help="So many at most.")
    ] = LIMIT_DEFAULT,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    if everything and status:
        raise typer.BadParameter("give --all or --status, not both")
    statuses = ("all",) if everything else tuple(status or ())
    filters = Filters(service, handler, key, statuses, deployment, idempotency_key, oldest_first)
    selected = select(admin, filters, limit)
    if output is Format.JSON:
        print_json(
            {
                "invocations": selected.rows,
                "more": selected.more,
                "now": selected.now,
                "missing": selected.missing,
            }
        )
    else:
        print_rows(selected.rows)
        if selected.more:
            print(f"there may be more: --limit {2 * limit}", file=sys.stderr)
    tell_missing(selected.missing)


def print_rows(rows: "list[InvocationRow]") -> None:
    """Print a line for each."""
    print_table(
        HEADINGS,
        [
            [
                row.id,
                row.target,
                row.status,
                short_time(row.created),
                str(row.attempt) if row.attempt else "-",
                detail_of(row),
            ]
            for row in rows
        ],
    )


def detail_of(row: "InvocationRow") -> str:
    """What there is to say about a status."""
    if row.status == "completed":
        if row.failure is None:
            return "succeeded"
        return _cut(f"failed: [{row.failure.code}] {row.failure.message}")
    if row.starts is not None:
        return f"starts {short_time(row.starts)}"
    failure = "" if row.last_failure is None else _cut(row.last_failure)
    if row.next_retry is not None:
        return f"next attempt {short_time(row.next_retry)}; {failure}"
    if row.status == "ready":
        pinned = "" if row.deployment is None else f" of {row.deployment}"
        return f"waits for a worker{pinned}"
    return failure if row.status == "paused" and failure else "-"


def _cut(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _FAILURE_SHOWN else f"{line[:_FAILURE_SHOWN]}…"
