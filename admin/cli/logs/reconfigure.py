"""``perdure logs reconfigure``: go on in a new segment, of another provider if wanted."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption, post
from ..confirm import YesOption, confirm
from ..output import Format, Output, print_json, print_table
from .common import CHANGE_TIMEOUT_SECONDS, LogArgument

if TYPE_CHECKING:
    from ...api.log_answers import SegmentParamsView

HELP: Final = """Seal the last segment of a log and go on in a new one; opens a sealed log again.

Nothing is lost and nothing changes its order; calls wait meanwhile. An empty segment is replaced.

  perdure logs reconfigure 3

  perdure logs reconfigure 3 --provider local --yes

  perdure logs reconfigure 3 --sequencer n2
"""


def reconfigure(
    log: LogArgument,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider", metavar="KIND", help="What keeps the new segment; as before by default."
        ),
    ] = None,
    sequencer: Annotated[
        str | None,
        typer.Option(
            "--sequencer",
            metavar="NODE",
            help="Another node that orders this one segment; the leader's own by default.",
        ),
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Allow a provider that forgets its records at a restart."
        ),
    ] = False,
    yes: YesOption = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...api.log_answers import ReconfigureAnswer

    confirm(f"Seal the last segment of log {log} and go on in a new one?", yes=yes)
    body: dict[str, object] = {"accept_loss": accept_loss}
    if provider is not None:
        body["provider"] = provider
    if sequencer is not None:
        body["sequencer"] = sequencer
    answer = post(
        admin,
        f"/logs/{log}/reconfigure",
        body,
        ReconfigureAnswer,
        timeout_seconds=CHANGE_TIMEOUT_SECONDS,
    )
    if output is Format.JSON:
        print_json(answer)
        return
    opened = "is open again" if answer.was_sealed else "goes on"
    print(
        f"log {answer.log} {opened} in segment {answer.new.segment}; segment "
        f"{answer.sealed_segment} is sealed, its tail is {answer.tail_lsn}"
    )
    print_table(
        ["", "SEGMENT", "KIND", "LOGLET", "EPOCH", "SEQUENCER"],
        [_cells("old", answer.old), _cells("new", answer.new)],
    )


def _cells(name: str, params: "SegmentParamsView") -> list[str]:
    return [
        name,
        str(params.segment),
        params.kind,
        str(params.loglet),
        str(params.epoch),
        params.sequencer or "-",
    ]
