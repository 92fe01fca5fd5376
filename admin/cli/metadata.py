"""``perdure metadata``: the metadata servers of a cluster, and what the metadata store holds."""

from typing import Annotated, Final

import typer

from ...metadata.quorum import MembersReport
from .admin_client import ADMIN_DEFAULT, AdminOption, delete, get, post, quoted
from .confirm import YesOption, confirm
from .output import Format, Output, print_fields, print_json, print_table

HELP: Final = """Look at the metadata servers and the metadata; change the list of servers.

  perdure metadata members

  perdure metadata get nodes
"""
MEMBERS_HELP: Final = """List the metadata servers and how each of them is.

  perdure metadata members

  perdure metadata members -o json
"""
GET_HELP: Final = """Show a value of the metadata store; without a key, which keys there are.

  perdure metadata get

  perdure metadata get placement

  perdure metadata get log/0/chain -o json
"""
ADD_HELP: Final = """Make a node a metadata server; ends when it has a copy of everything.

The node runs already, with the role metadata-server. Servers are added one at a time.

  perdure metadata add node-4
"""
REMOVE_HELP: Final = """Take a node out of the list of metadata servers. It need not be alive.

Refused when those that are left would not be enough.

  perdure metadata remove node-2 --yes
"""

CHANGE_TIMEOUT_SECONDS: Final = 120.0
"""A new server is given a copy of everything first."""

NameArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]


def build_metadata() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    group.command("members", help=MEMBERS_HELP)(members)
    group.command("get", help=GET_HELP)(get_value)
    group.command("add", help=ADD_HELP)(add)
    group.command("remove", help=REMOVE_HELP)(remove)
    return group


def members(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    # A server that does not answer is waited for.
    answer = get(
        admin, "/cluster/metadata/members", MembersReport, timeout_seconds=CHANGE_TIMEOUT_SECONDS
    )
    _print(answer, output)


def get_value(
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="Which one.")] = "",
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ..api.cluster import MetadataKeys, MetadataValue

    if not key:
        listed = get(admin, "/cluster/metadata/keys", MetadataKeys)
        if output is Format.JSON:
            print_json(listed)
        else:
            print_table(["KEY"], [[each] for each in listed.keys])
        return
    found = get(admin, f"/cluster/metadata/keys/{quoted(key)}", MetadataValue)
    if output is Format.JSON:
        print_json(found)
        return
    print_fields({"key": found.key, "version": str(found.version)})
    print()
    if found.base64:
        print(found.base64)
    else:
        print_json(found.value)


def add(
    name: NameArgument, admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE
) -> None:
    """Run the command."""
    answer = post(
        admin,
        "/cluster/metadata/members",
        {"name": name},
        MembersReport,
        timeout_seconds=CHANGE_TIMEOUT_SECONDS,
    )
    _print(answer, output)


def remove(
    name: NameArgument,
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    confirm(f"take {name} out of the metadata servers?", yes=yes)
    answer = delete(
        admin,
        f"/cluster/metadata/members/{quoted(name)}",
        MembersReport,
        timeout_seconds=CHANGE_TIMEOUT_SECONDS,
    )
    _print(answer, output)


def _print(report: MembersReport, output: Format) -> None:
    if output is Format.JSON:
        print_json(report)
        return
    print_table(
        ["EPOCH", "AGREED", "SETTLED"],
        [[str(report.epoch), _yes(report.agreed), _yes(report.settled)]],
    )
    print()
    print_table(
        ["SERVER", "ADDRESS", "STORAGE", "STATE", "KEYS"],
        [
            [
                member.name,
                member.address,
                member.server_id,
                member.state,
                "-" if member.registers is None else str(member.registers),
            ]
            for member in report.members
        ],
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
