"""``perdure logs seal``: have a log take nothing until it is opened again."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption, post
from ..confirm import YesOption, confirm
from ..output import Format, Output, print_json
from .common import CHANGE_TIMEOUT_SECONDS, LogArgument

if TYPE_CHECKING:
    from ...api.log_answers import SealAnswer

HELP: Final = """Seal a whole log: its partition takes no calls until the log is opened again.

What is in the log stays readable. `perdure logs reconfigure` opens it again, and so does the next
leader of its partition, as after a restart.

--accept-loss ends a log whose last segment has lost so many disks that nothing else can. It shows
what is left before it asks; what only the lost disks had is lost. Refused where a seal without it
works, or will once a node is back. --dry-run shows what is left and changes nothing.

  perdure logs seal 3

  perdure logs seal 3 --segment 7 --yes

  perdure logs seal 3 --accept-loss --dry-run
"""


def seal(
    log: LogArgument,
    segment: Annotated[
        int | None,
        typer.Option("--segment", metavar="INDEX", min=1, help="Only if this is the last segment."),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="End it without what lost disks had.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --accept-loss: only show what is left.")
    ] = False,
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...api.log_answers import SealAnswer

    body: dict[str, object] = {} if segment is None else {"segment": segment}
    if dry_run and not accept_loss:
        raise typer.BadParameter("it goes with --accept-loss", param_hint="--dry-run")
    if accept_loss:
        body["accept_loss"] = True
        plan = post(
            admin,
            f"/logs/{log}/seal",
            {**body, "dry_run": True},
            SealAnswer,
            timeout_seconds=CHANGE_TIMEOUT_SECONDS,
        )
        if dry_run:
            _print(plan, output)
            return
        _show(plan)
    confirm(
        f"Seal log {log}? Partition {log} takes no calls until the log is opened again.", yes=yes
    )
    answer = post(
        admin, f"/logs/{log}/seal", body, SealAnswer, timeout_seconds=CHANGE_TIMEOUT_SECONDS
    )
    _print(answer, output)


def _show(plan: "SealAnswer") -> None:
    """What is given up, before the question."""
    for line in _loss_lines(plan):
        print(line, file=sys.stderr)


def _loss_lines(answer: "SealAnswer") -> list[str]:
    loss = answer.loss
    if loss is None:
        return []
    lines = [
        f"segment {loss.segment} of log {loss.log} was on {', '.join([*loss.left, *loss.lost])}; "
        f"{', '.join(loss.lost)} lost the disk, {', '.join(loss.left)} still has it",
        f"what is left ends before LSN {loss.tail_lsn}; what only the lost disks had is lost",
    ]
    lines += [
        f"the records from LSN {first} to {last} are on none of those that are left: who has not "
        "applied them needs a snapshot"
        for first, last in loss.missing
    ]
    return lines


def _print(answer: "SealAnswer", output: Format) -> None:
    if output is Format.JSON:
        print_json(answer)
        return
    if answer.dry_run:
        print("\n".join(_loss_lines(answer)))
        return
    done = "was sealed already" if answer.already_sealed else "is sealed"
    print(
        f"log {answer.log} {done}: segment {answer.segment}, tail {answer.tail_lsn}; open it again "
        f"with: perdure logs reconfigure {answer.log}"
    )
