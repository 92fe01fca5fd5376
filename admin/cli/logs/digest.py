"""``perdure logs digest``: what the log-servers of each segment hold, and whether they agree."""

import sys
from typing import TYPE_CHECKING, Final

import typer

from ..admin_client import ADMIN_DEFAULT, AdminOption, get
from ..output import Format, Output, print_json, print_table
from .common import FromOption, LogArgument, ToOption

if TYPE_CHECKING:
    from ...api.log_answers import LogDigest, SegmentDigest, ServerDigest

HELP: Final = """Ask the log-servers what they hold of a log, and compare it.

Each server reads its batches and checks their checksums. BATCHES and DIGEST are of those that are
committed and not trimmed; the same DIGEST means the same batches. A server that was away lacks what
came meanwhile, which is no fault as long as enough others have it. Exits with 1 when a segment is
not whole, with how many servers answered.

  perdure logs digest 3

  perdure logs digest 3 --from 1200 --to 5000 -o json
"""

_TIMEOUT_SECONDS: Final = 120.0
_RANGES_SHOWN: Final = 3


def digest(
    log: LogArgument,
    from_lsn: FromOption = None,
    to_lsn: ToOption = None,
    admin: AdminOption = ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...api.log_answers import LogDigest

    asked = {"from": from_lsn, "to": to_lsn}
    query = {name: str(value) for name, value in asked.items() if value is not None}
    answer = get(
        admin, f"/logs/{log}/digest", LogDigest, query=query, timeout_seconds=_TIMEOUT_SECONDS
    )
    if output is Format.JSON:
        print_json(answer)
    else:
        _print(answer)
    if any(segment.verdict not in ("", "whole") for segment in answer.segments):
        raise typer.Exit(1)


def _print(answer: "LogDigest") -> None:
    print_table(
        [
            "SEGMENT", "STATE", "FROM", "TO", "SERVER", "STATUS", "TAIL", "TRIMMED", "SEALED",
            "BATCHES", "DIGEST", "MISSING",
        ],
        [
            [str(segment.index), segment.state, str(segment.from_lsn), str(segment.to_lsn), *cells]
            for segment in answer.segments
            for cells in map(_cells, segment.servers)
        ],
        dispensable=("TRIMMED", "BATCHES", "STATE", "TAIL"),
    )  # fmt: skip
    for segment in answer.segments:
        print(_line(segment))
        if not segment.complete:
            print(f"there is more: --from {segment.to_lsn + 1}", file=sys.stderr)


def _cells(server: "ServerDigest") -> list[str]:
    if server.status != "ok":
        status = f"{server.status}: {server.problem}" if server.problem else server.status
        return [server.server, status, *["-"] * 6]
    ranges = [f"{first}-{last}" for first, last in server.missing[:_RANGES_SHOWN]]
    more = len(server.missing) - len(ranges)
    return [
        server.server,
        server.status,
        str(server.tail_lsn),
        "-" if server.trim_point is None else str(server.trim_point),
        _sealed(server),
        str(server.batches),
        server.digest[:16] or "-",
        ",".join(ranges) + (f",+{more}" if more else "") or "-",
    ]


def _sealed(server: "ServerDigest") -> str:
    if server.final_tail_lsn is not None:
        return f"at {server.final_tail_lsn}"
    return "yes" if server.sealed else "no"


def _line(segment: "SegmentDigest") -> str:
    name = f"segment {segment.index}"
    match segment.verdict:
        case "":
            return f"{name} is kept on one node: there is nothing to compare"
        case "unknown":
            return f"{name}: no server answers"
        case "conflict":
            return (
                f"{name}: servers disagree where batches begin and end, which must never be: "
                "report it, with the directories of its log-servers"
            )
        case "missing":
            return f"{name}: records are on none of the servers that answered"
        case "thin":
            return (
                f"{name}: records are on {segment.fewest} of the servers that answered, and are to "
                f"be on {segment.copies}"
            )
        case _:
            return f"{name} is whole: each record is on {segment.fewest} servers or more"
