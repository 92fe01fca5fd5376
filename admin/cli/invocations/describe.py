"""``perdure invocations describe``: one invocation in full."""

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption, get, quoted
from ..output import Format, Output, print_fields, print_json, print_table, printable, short_time
from .list_invocations import detail_of

if TYPE_CHECKING:
    from ...api.invocation_answers import (
        EntryView,
        EventView,
        InvocationDetail,
        RelatedView,
        ResultView,
        ValueView,
    )

HELP: Final = """Show one invocation: what it is at, what it waits for, its journal, its failures.

  perdure invocations describe inv_1…

  perdure invocations describe inv_1… -o json

The table shows a command with its result in one line, DURATION is from one to the other; the JSON
has every entry of the journal by itself, with all that it says, and the stack of every failure.
"""
_RESULT_SHOWN: Final = 60


def describe(
    invocation: Annotated[str, typer.Argument(metavar="ID", help="The invocation's id.")],
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    detail = read_whole(admin, invocation)
    if output is Format.JSON:
        print_json(detail)
        return
    print_fields(_fields(detail))
    if detail.journal:
        print()
        _print_journal(detail.journal)
    if detail.events:
        print()
        _print_events(detail.events)


def read_whole(admin: str, invocation: str) -> "InvocationDetail":
    """An invocation with its whole journal. Raises TransportError or RemoteError."""
    from ...api.invocation_answers import InvocationDetail

    path = f"/invocations/{quoted(invocation)}"
    detail = get(admin, path, InvocationDetail, timeout_seconds=60)
    part = detail
    while part.next_entry is not None:
        query = {"from_entry": str(part.next_entry)}
        part = get(admin, path, InvocationDetail, query=query, timeout_seconds=60)
        journal = [*detail.journal, *part.journal]
        detail = msgspec.structs.replace(detail, journal=journal, next_entry=part.next_entry)
    return detail


def _fields(detail: "InvocationDetail") -> dict[str, str]:
    row = detail.invocation
    fields = {
        "invocation": row.id,
        "target": row.target,
        "status": f"{row.status} since {short_time(row.modified)}",
        "detail": detail_of(row),
        "created": short_time(row.created),
        "completed": _time(detail.completed),
        "forgotten": _time(detail.expires),
        "attempt": str(row.attempt),
        "failed attempts": f"{row.failed_attempts}, since the journal grew "
        f"{detail.retries_since_entry}",
        "next attempt": _time(row.next_retry),
        "last failure": row.last_failure or "-",
        "deployment": row.deployment or "-",
        "idempotency key": row.idempotency_key or "-",
        "started by": _related(detail.started_by) or "a client",
        "restarted from": _related(detail.restarted_from),
        "trace": detail.traceparent or "",
        "lock": "",
        "goes on with": "",
        "result": "",
    }
    if detail.inbox is not None:
        holder = _related(detail.inbox.holder)
        fields["lock"] = f"held by {holder}; {detail.inbox.place} others come first"
    if row.status == "paused":
        fields["goes on with"] = f"perdure invocations resume {row.id}"
    if row.failure is not None:
        fields["result"] = f"[{row.failure.code}] {row.failure.message}"
    elif detail.output is not None:
        fields["result"] = _value(detail.output)
    for number, wait in enumerate(detail.waits_for):
        fields["waits for" if not number else f"or for {number}"] = wait.text
    for number, waiter in enumerate(detail.waiters):
        fields["waited for by" if not number else f"and by {number}"] = _related(waiter)
    if detail.clients:
        fields["clients that wait"] = str(detail.clients)
    return {name: value for name, value in fields.items() if value}


def _print_journal(journal: "list[EntryView]") -> None:
    print_table(
        ["ENTRY", "TIME", "COMMAND", "NAME", "DETAILS", "RESULT", "DURATION", "ATTEMPT"],
        [
            [
                str(entry.index),
                short_time(entry.time),
                entry.entry,
                entry.name or "-",
                entry.details or "-",
                _result(entry.result),
                "-" if entry.duration_ms is None else f"{entry.duration_ms:.1f} ms",
                str(entry.attempt) if entry.attempt else "-",
            ]
            for entry in journal
            # Those that belong to a command are shown as its result.
            if entry.completes is None
        ],
    )


def _print_events(events: "list[EventView]") -> None:
    print_table(
        ["TIME", "ATTEMPT", "EVENT", "AT", "NEXT ATTEMPT", "MESSAGE"],
        [
            [
                short_time(event.time),
                str(event.attempt),
                event.kind,
                event.command or "-",
                _time(event.next_retry),
                f"[{event.code}] {event.message}" if event.code else event.message,
            ]
            for event in events
        ],
    )
    stack = next((event.stacktrace for event in reversed(events) if event.stacktrace), "")
    for line in stack.splitlines():
        print(f"  {printable(line)}")


def _time(text: str | None) -> str:
    return "-" if text is None else short_time(text)


def _related(related: "RelatedView | None") -> str:
    if related is None:
        return ""
    if related.target is None:
        return f"{related.id} ({related.how}, not known here any more)"
    return f"{related.id} ({related.how}, {related.target}, {related.status})"


def _result(result: "ResultView | None") -> str:
    if result is None:
        return "-"
    if result.failure is not None:
        return f"[{result.failure.code}] {result.failure.message}"
    if result.value is not None:
        return _value(result.value)
    if result.state_keys is not None:
        return " ".join(result.state_keys) or "none"
    return "-" if result.invocation is not None else "void"


def _value(value: "ValueView") -> str:
    if not value.bytes:
        return "nothing"
    if value.json is msgspec.UNSET:
        return f"{value.bytes} bytes"
    text = msgspec.json.encode(value.json).decode()
    return text if len(text) <= _RESULT_SHOWN else f"{text[:_RESULT_SHOWN]}…"
