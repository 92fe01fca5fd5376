"""``perdure logs read``: the records of a log, filtered, and followed as they come."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ....core.clock import SystemClock
from ..admin_client import ADMIN_DEFAULT, AdminOption, get
from ..output import Format, Output
from .common import FromOption, LogArgument, ToOption
from .record_feed import RecordFeed
from .record_lines import HEADINGS, decode_item, gap_line, record_line

if TYPE_CHECKING:
    from ...api.log_answers import RecordsPage

HELP: Final = """Read the records of a log, oldest first.

  perdure logs read 3 --from 1200 -n 50

  perdure logs read 3 --object Counter/ada --since 10m

  perdure logs read 3 --invocation inv_1… -o json

  perdure logs read 3 --kind AttemptFailed --since 2026-01-31T09:30:00Z

  perdure logs read 3 -f

At most 100 records are printed unless -n says otherwise. With -f reading goes on as records are
written, from the tail unless --from or --since is given, until Ctrl-C or -n records; a restart of
the node is waited for.

With -o json each line is one JSON object: a record, or {"trim_gap": [first, last]} for LSNs that
are gone. --key and --object also show records that touch every key.
"""

LIMIT_DEFAULT: Final = 100


def read(
    log: LogArgument,
    from_lsn: FromOption = None,
    to_lsn: ToOption = None,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", metavar="N", min=1, help="So many at most.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="HEX", help="Those that touch this key.")
    ] = None,
    invocation: Annotated[
        str | None, typer.Option("--invocation", metavar="ID", help="Those about it.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--object", metavar="SERVICE/KEY", help="Those that touch the object."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="From then on: ISO 8601, or 10m for ago."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Up to then, in the same forms.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="NAME", help="Those of this kind.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as records are written.")
    ] = False,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    if sum(item is not None for item in (key, invocation, target)) > 1:
        raise typer.BadParameter("give one of --key, --invocation and --object")
    if follow and until is not None:
        raise typer.BadParameter("--until and -f do not go together; --to LSN ends a reading")
    filters = {
        "key": key if target is None else _key_of(target),
        "invocation": invocation,
        "since": _instant(since, "--since"),
        "until": _instant(until, "--until"),
        "kind": kind,
        "to": None if to_lsn is None else str(to_lsn),
    }
    if limit is None and not follow:
        limit = LIMIT_DEFAULT
    if follow and from_lsn is None and since is None:
        from_lsn = _tail_of(admin, log)
    feed = RecordFeed(
        admin,
        log,
        {name: value for name, value in filters.items() if value is not None},
        from_lsn=from_lsn,
        follow=follow,
    )
    printer = _Printer(output, limit)
    for page in feed.pages(printer.left):
        printer.show(page)
    if feed.more:
        print(f"there is more: --from {feed.next_lsn}", file=sys.stderr)


class _Printer:
    """Prints pages as they come and counts records."""

    def __init__(self, output: Format, limit: int | None) -> None:
        self._output = output
        self._limit = limit
        self._headed = output is Format.JSON

    def left(self) -> int | None:
        """How many records may still be printed."""
        return self._limit

    def show(self, page: "RecordsPage") -> None:
        """Print the items of a page."""
        from ...api.log_answers import TrimGapView

        if not self._headed:
            self._headed = True
            print(HEADINGS)
        for item in page.records:
            shown = decode_item(item)
            gap = isinstance(shown, TrimGapView)
            if not gap and self._limit is not None:
                self._limit -= 1
            if self._output is Format.JSON:
                print(bytes(item).decode())
            else:
                print(gap_line(shown) if isinstance(shown, TrimGapView) else record_line(shown))
        sys.stdout.flush()


def _tail_of(admin: str, log: int) -> int:
    from ...api.log_answers import TailAnswer

    return get(admin, f"/logs/{log}/tail", TailAnswer).tail_lsn


def _key_of(target: str) -> str:
    """The key of an object in hex. Raises typer.BadParameter."""
    from ....partition_processor.records import object_key

    service, slash, key = target.partition("/")
    if not (service and slash):
        raise typer.BadParameter(f"{target!r} is not SERVICE/KEY", param_hint="--object")
    return object_key(service, key).hex()


def _instant(text: str | None, option: str) -> str | None:
    """An instant as the node takes it. Raises typer.BadParameter."""
    from ....core.quantities import DURATION_FORM, parse_duration
    from ...api.times import TIME_FORM, parse_time_ns, time_text

    if text is None:
        return None
    try:
        ago_ns = int(parse_duration(text))
    except ValueError:
        try:
            return time_text(parse_time_ns(text))
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is neither {TIME_FORM}, nor {DURATION_FORM} ago", param_hint=option
            ) from None
    return time_text(max(0, SystemClock().time_ns() - ago_ns))
