"""Doing something to one invocation or to many: asking before it, batches, a line per result."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption, post
from ..confirm import YesOption, confirm
from ..missing import tell_missing
from ..output import Format, Output, print_json, printable
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
from .list_invocations import print_rows

if TYPE_CHECKING:
    from ...api.invocation_answers import InvocationRow, OperationResult
    from ...api.missing import Missing

BATCH: Final = 200
LIMIT_DEFAULT: Final = 500
NOT_COMPLETED: Final = (
    "scheduled",
    "pending",
    "ready",
    "running",
    "backing-off",
    "suspended",
    "paused",
)
_TIMEOUT_SECONDS: Final = 120.0

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID…]", help="Invocation ids; or give filters.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show which it would be, and change nothing.")
]
LimitOption = Annotated[
    int,
    typer.Option("-n", "--limit", metavar="N", min=1, help="So many at most, found by filters."),
]

BULK_HELP: Final = """
Name invocations by their ids, or find them by filters; --dry-run shows which those are. Found by
filters, or with several ids, it asks before it does anything, unless --yes is given.

Prints a line for each. Exit code 1 when it could not be done to one of them, or when a part of the
cluster could not be asked which there are.
"""


class Action(msgspec.Struct, frozen=True):
    """One command on the way.

    Attributes:
        verb: path of the operation, and the word in questions.
        statuses: found by filters, unless --status says otherwise.
        body: what goes along with the ids.
        warning: what to know before saying yes.
    """

    verb: str
    statuses: tuple[str, ...]
    body: Mapping[str, object]
    warning: str = ""


class Run(msgspec.Struct, frozen=True):
    """How a command is to be carried out: what all of them take."""

    ids: list[str] | None
    filters: Filters
    dry_run: bool
    yes: bool
    limit: int
    admin: str
    output: Format


def bulk_command(action: Action) -> Callable[..., None]:
    """The command of an action that takes invocations, found in every way, and nothing else."""

    def command(
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
        act(action, Run(ids, filters, dry_run, yes, limit, admin, output))

    return command


def act(action: Action, run: Run) -> None:
    """Do it. Raises typer.Exit with 1 when it could not be done to one of them."""
    ids, rows, missing = _chosen(action, run)
    if run.dry_run:
        _show_dry_run(action, run, ids, rows)
        tell_missing(missing)
        return
    if not ids:
        _nothing(run)
        tell_missing(missing)
        return
    if rows is not None or len(ids) > 1:
        count = "1 invocation" if len(ids) == 1 else f"{len(ids)} invocations"
        question = f"{action.verb.capitalize()} {count}?"
        confirm(f"{question} {action.warning}".rstrip(), yes=run.yes)
    results = _carry_out(action, run, ids)
    if run.output is Format.JSON:
        print_json({"results": results})
    tell_missing(missing)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _chosen(
    action: Action, run: Run
) -> "tuple[list[str], list[InvocationRow] | None, list[Missing]]":
    """The ids, and where filters found them their rows, and what could not be asked.

    Raises typer.BadParameter.
    """
    if run.ids:
        if run.filters.given:
            raise typer.BadParameter("give ids or filters, not both")
        return list(dict.fromkeys(run.ids)), None, []
    if not run.filters.given:
        raise typer.BadParameter(
            "say which invocations: give their ids, or a filter such as --service"
        )
    filters = run.filters
    if not filters.statuses:
        filters = msgspec.structs.replace(filters, statuses=action.statuses)
    selected = select(run.admin, filters, run.limit)
    if selected.more:
        print(f"there may be more than {run.limit}: run it again, or give --limit", file=sys.stderr)
    return [row.id for row in selected.rows], selected.rows, selected.missing


def _show_dry_run(
    action: Action, run: Run, ids: list[str], rows: "list[InvocationRow] | None"
) -> None:
    if run.output is Format.JSON:
        print_json({"would": action.verb, "ids": ids})
    elif rows is not None:
        print_rows(rows)
    else:
        print("\n".join(printable(text) for text in ids))
    print(f"{len(ids)} would be touched; nothing was changed", file=sys.stderr)


def _nothing(run: Run) -> None:
    if run.output is Format.JSON:
        print_json({"results": []})
    print("no invocation passes the filters; nothing was changed", file=sys.stderr)


def _carry_out(action: Action, run: Run, ids: list[str]) -> "list[OperationResult]":
    from ...api.invocation_answers import OperationAnswer

    results: list[OperationResult] = []
    for start in range(0, len(ids), BATCH):
        body = {"ids": ids[start : start + BATCH], **action.body}
        answer = post(
            run.admin,
            f"/invocations/{action.verb}",
            body,
            OperationAnswer,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        results += answer.results
        if run.output is Format.TABLE:
            for result in answer.results:
                print(_line(result))
            sys.stdout.flush()
        if len(ids) > BATCH:
            print(f"{len(results)} of {len(ids)}", file=sys.stderr)
    return results


def _line(result: "OperationResult") -> str:
    made = "" if result.new_id is None else f" {result.new_id}"
    code = "" if result.code is None else f"{result.code} "
    return printable(f"{result.id}  {result.outcome}  {code}{result.message}{made}")
