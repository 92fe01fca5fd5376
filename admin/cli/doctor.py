"""``perdure doctor``: asks every node, and tells what is wrong and how to mend it."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from ...core.errors import PerdureError
from ..cluster import ClusterStatus
from .admin_client import ADMIN_DEFAULT, AdminOption, get
from .everybody import NODE_TIMEOUT_SECONDS, ask_everybody, cluster_status
from .output import Format, Output, RemoteError, print_json, print_table

if TYPE_CHECKING:
    from ...metadata.quorum import MembersReport
    from .diagnosis import NodeReport

_Told = TypeVar("_Told")

HELP: Final = """Ask every node of the cluster, and tell what is wrong and how to mend it.

Nodes that do not answer are among what is told. Changes nothing. Exits with 1 when something does
not work, and with 0 when nothing is wrong or only warnings are left.

  perdure doctor

  perdure doctor --admin http://127.0.0.1:9071 -o json
"""

_MEMBERS_TIMEOUT_SECONDS: Final = 30.0
"""Servers that do not answer are waited for, for some seconds by the node."""


def doctor(admin: AdminOption = ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    from .diagnosis import NodeReport, diagnose

    cluster = cluster_status(admin)
    with ThreadPoolExecutor(1) as thread:
        # At the same time: where something is wrong, each of them waits for who does not answer.
        asked = thread.submit(_members, admin)
        answers = ask_everybody(cluster, admin, _ask)
        members = asked.result()
    reports: dict[str, NodeReport] = {}
    for name, answer in answers.items():
        if answer.told is not None:
            reports[name] = answer.told
        elif answer.problem is not None:
            reports[name] = NodeReport(name, problem=answer.problem.message)
    problems = diagnose(cluster, reports, members)
    if output is Format.JSON:
        print_json({"cluster": cluster.cluster, "asked": sorted(reports), "problems": problems})
    elif problems:
        print_table(
            ["SEVERITY", "WHERE", "WHAT", "FIX"],
            [[each.severity, each.where, each.what, each.fix] for each in problems],
        )
    answered = [name for name, report in reports.items() if not report.problem]
    print(
        f"{len(answered)} of {len(cluster.nodes)} nodes answered; "
        f"{len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'} found",
        file=sys.stderr,
    )
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


def _ask(admin: str) -> "NodeReport":
    """Everything that one node tells. Raises PerdureError when it tells nothing."""
    from ...partition_processor.status import PartitionStatus
    from ..api.log_answers import LogList
    from .diagnosis import NodeReport

    seconds = NODE_TIMEOUT_SECONDS
    version = get(admin, "/version", dict[str, str], timeout_seconds=seconds)
    partitions = get(
        admin, "/partitions", dict[str, list[PartitionStatus]], timeout_seconds=seconds
    )
    # As this node has them: each is asked itself.
    here = {"here": "true"}
    logs = _told(lambda: get(admin, "/logs", LogList, query=here, timeout_seconds=seconds))
    return NodeReport(
        version["node"],
        version=version["version"],
        view=_told(lambda: get(admin, "/cluster", ClusterStatus, timeout_seconds=seconds)),
        partitions=partitions["partitions"],
        logs=[] if logs is None else logs.logs,
        snapshots_on=_takes_snapshots(admin),
    )


def _told(ask: Callable[[], _Told]) -> _Told | None:
    """What a node tells besides; None where it does not, which hides nothing of the rest."""
    try:
        return ask()
    except PerdureError:
        return None


def _takes_snapshots(admin: str) -> bool | None:
    """Whether a node takes snapshots; None when it does not say."""
    from ...partition_processor.snapshots.errors import SnapshotsOffError
    from ..api.snapshot_answers import SnapshotList

    query = {"partition": "0"}
    try:
        get(admin, "/snapshots", SnapshotList, query=query, timeout_seconds=NODE_TIMEOUT_SECONDS)
    except RemoteError as error:
        return False if error.remote_code == SnapshotsOffError.code else None
    except PerdureError:
        return None
    return True


def _members(admin: str) -> "MembersReport | str | None":
    """The metadata servers, or why nobody can tell; None where there are none to tell of."""
    from ...metadata.quorum import MembersReport
    from ..errors import ClusterAloneError

    try:
        return get(
            admin,
            "/cluster/metadata/members",
            MembersReport,
            timeout_seconds=_MEMBERS_TIMEOUT_SECONDS,
        )
    except RemoteError as error:
        return None if error.remote_code == ClusterAloneError.code else error.message
    except PerdureError as error:
        return error.message
