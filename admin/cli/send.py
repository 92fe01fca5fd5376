"""``perdure send``: start a handler and do not wait for it."""

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from ...core.quantities import DURATION_FORM, parse_duration
from .ingress_client import (
    INGRESS_DEFAULT,
    BodyArgument,
    IdempotencyKeyOption,
    IngressOption,
    TargetArgument,
    ask,
    build_request,
)
from .output import Format, Output, print_json, print_table

HELP: Final = """Start a handler and return as soon as its start is durable.

  perdure send Mailer/deliver '{"to": "ada@example.com"}'

  perdure send Counter/ada/add 5 --idempotency-key first -o json

  perdure send Reminders/remind '"water the plants"' --delay 5s
"""
_NS_PER_MS: Final = 1_000_000
DelayOption = Annotated[
    str | None,
    typer.Option("--delay", metavar="DURATION", help="Start it later: 500ms, 5s, 1h30m, 2d."),
]


def send(
    target: TargetArgument,
    body: BodyArgument = None,
    ingress: IngressOption = INGRESS_DEFAULT,
    idempotency_key: IdempotencyKeyOption = None,
    delay: DelayOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    request = build_request(target, body, idempotency_key)
    delay_ms = _milliseconds(delay)
    from ...proto.generated import ingress_pb2 as wire

    message = wire.SendRequest(invocation=request, delay_ms=delay_ms)
    response = ask(ingress, lambda stub: stub.Send(message))
    known = response.status == wire.SendResponse.PREVIOUSLY_ACCEPTED
    status = "previously accepted" if known else "accepted"
    starts = response.execution_time_ms
    time = None if not starts else f"{datetime.fromtimestamp(starts / 1000, UTC):%FT%T}Z"
    if output is Format.JSON:
        shown = {"invocation_id": response.invocation_id, "status": status}
        print_json(shown if time is None else shown | {"execution_time": time})
        return
    columns, row = ["INVOCATION", "STATUS"], [response.invocation_id, status]
    if time is not None:
        columns.append("STARTS")
        row.append(time)
    print_table(columns, [row])


def _milliseconds(delay: str | None) -> int:
    """The delay; what is less than a millisecond is one. Raises typer.BadParameter."""
    if delay is None:
        return 0
    try:
        return -(-parse_duration(delay) // _NS_PER_MS)
    except ValueError:
        raise typer.BadParameter(
            f"{delay!r} is not {DURATION_FORM}", param_hint="--delay"
        ) from None
