"""``perdure deployments``: which code there is and what still needs it, over admin REST."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption, get, quoted
from .missing import tell_missing
from .output import Format, Output, print_fields, print_json, print_table

if TYPE_CHECKING:
    from ..api.service_answers import DeploymentRow

HELP: Final = """See which code there is, who runs it, and what still needs it.

  perdure deployments list

  perdure deployments describe dp-0123456789abcdef
"""
_STATUS_HELP: Final = """\
active: new invocations run on it. draining: only invocations that began on it still need it
(PINNED). drained: nothing needs it, its workers may be stopped."""
LIST_HELP: Final = f"""List the deployments, oldest first.

{_STATUS_HELP}

  perdure deployments list

  perdure deployments list -o json
"""
DESCRIBE_HELP: Final = f"""Show one deployment with its workers and services.

{_STATUS_HELP}

  perdure deployments describe dp-0123456789abcdef
"""


def build_deployments() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("list", help=LIST_HELP)(list_deployments)
    group.command("describe", help=DESCRIBE_HELP)(describe)
    return group


def list_deployments(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    from ..api.service_answers import DeploymentList

    answer = get(admin, "/deployments", DeploymentList, timeout_seconds=60)
    if output is Format.JSON:
        print_json(answer)
        tell_missing(answer.missing)
        return
    print_table(
        ["DEPLOYMENT", "STATUS", "WORKERS", "PINNED", "SERVICES", "REGISTERED"],
        [
            [
                row.name,
                row.status,
                _workers(row),
                _pinned(row),
                " ".join(row.services),
                row.registered,
            ]
            for row in answer.deployments
        ],
    )
    tell_missing(answer.missing)


def describe(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its name.")],
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ..api.service_answers import DeploymentDetail

    path = f"/deployments/{quoted(deployment)}"
    detail = get(admin, path, DeploymentDetail, timeout_seconds=60)
    if output is Format.JSON:
        print_json(detail)
        tell_missing(detail.missing)
        return
    row = detail.deployment
    print_fields(
        {
            "deployment": row.name,
            "status": row.status,
            "pinned invocations": _pinned(row),
            "registered": row.registered,
            "code hash": row.code_hash,
        }
    )
    print()
    print_table(
        ["WORKER", "STATE", "ATTEMPTS"],
        [
            [worker.name, "leaving" if worker.leaving else "connected", str(worker.attempts)]
            for worker in detail.workers
        ]
        or [["none is connected", "-", "-"]],
    )
    print()
    print_table(
        ["SERVICE", "KIND", "NEW INVOCATIONS", "HANDLERS"],
        [
            [
                service.name,
                service.kind,
                "here" if service.latest else "elsewhere",
                " ".join(service.handlers) or "-",
            ]
            for service in detail.services
        ],
    )
    tell_missing(detail.missing)


def _workers(row: "DeploymentRow") -> str:
    return (
        f"{row.workers}+{row.leaving_workers} leaving" if row.leaving_workers else str(row.workers)
    )


def _pinned(row: "DeploymentRow") -> str:
    return str(row.pinned) if row.pinned_all_counted else f"{row.pinned} or more"
