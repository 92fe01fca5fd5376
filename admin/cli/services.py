"""``perdure services``: what can be called, over admin REST."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .admin_client import ADMIN_DEFAULT, AdminOption, get, quoted
from .missing import tell_missing
from .output import Format, Output, print_fields, print_json, print_table

if TYPE_CHECKING:
    from ..api.service_answers import HandlerView

HELP: Final = """See which services can be called, and how their calls are handled.

  perdure services list

  perdure services describe Counter -o json
"""
LIST_HELP: Final = """List the services.

DEPLOYMENT is the code that new invocations run on, WORKERS how many workers run it that are
connected to any node.

  perdure services list

  perdure services list -o json
"""
DESCRIBE_HELP: Final = """Show one service: its handlers, what they take, how calls are handled.

The options are those that hold: of the handler, else of the service, else of the node.

  perdure services describe Counter

  perdure services describe Counter -o json
"""


def build_services() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("list", help=LIST_HELP)(list_services)
    group.command("describe", help=DESCRIBE_HELP)(describe)
    return group


def list_services(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    from ..api.service_answers import ServiceList

    answer = get(admin, "/services", ServiceList)
    if output is Format.JSON:
        print_json(answer)
        tell_missing(answer.missing)
        return
    print_table(
        ["SERVICE", "KIND", "ACCESS", "DEPLOYMENT", "WORKERS", "HANDLERS"],
        [
            [
                row.name,
                row.kind,
                _access(row.public),
                row.deployment,
                str(row.workers),
                " ".join(row.handlers) or "-",
            ]
            for row in answer.services
        ],
    )
    tell_missing(answer.missing)


def describe(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service's name.")],
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ..api.service_answers import ServiceDetail

    detail = get(admin, f"/services/{quoted(service)}", ServiceDetail)
    if output is Format.JSON:
        print_json(detail)
        tell_missing(detail.missing)
        return
    print_fields(
        {
            "service": detail.name,
            "kind": detail.kind,
            "access": _access(detail.public),
            "deployment": detail.deployment,
            "workers": str(detail.workers),
            "documentation": detail.documentation or "-",
        }
    )
    print()
    print_table(
        ["HANDLER", "KIND", "ACCESS", "INPUT", "OUTPUT"],
        [
            [
                handler.name,
                handler.kind,
                _access(handler.public),
                _input(handler),
                handler.output or "-",
            ]
            for handler in detail.handlers
        ],
    )
    print()
    print_table(
        ["HANDLER", "RETRY", "INACTIVITY", "ABORT", "RESULT", "JOURNAL", "PLAIN", "STATE"],
        [
            [
                handler.name,
                _retry(handler),
                handler.options.inactivity_timeout,
                handler.options.abort_timeout,
                handler.options.result_retention,
                handler.options.journal_retention,
                handler.options.plain_retention,
                "lazy" if handler.options.lazy_state else "eager",
            ]
            for handler in detail.handlers
        ],
    )
    tell_missing(detail.missing)


def _access(public: bool) -> str:
    return "public" if public else "private"


def _input(handler: "HandlerView") -> str:
    if handler.input is None:
        return "-"
    return f"{handler.input}{'' if handler.input_required else ' or nothing'}"


def _retry(handler: "HandlerView") -> str:
    options = handler.options
    attempts = options.retry_max_attempts
    end = "for ever" if attempts is None else f"{attempts} attempts, then {options.on_max_attempts}"
    return (
        f"{options.retry_initial_interval} x{options.retry_factor:g} up to "
        f"{options.retry_max_interval}, {end}"
    )
