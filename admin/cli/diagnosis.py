"""Diagnosis: from what the nodes of a cluster tell, what is wrong and how to mend it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from ...metadata.quorum import MembersReport
from ...metadata.quorum.members import IN_ORDER, NOT_TOLD
from ...partition_processor.status import PartitionStatus
from ..api.log_answers import LogRow
from ..cluster import ClusterStatus, NodeRow

LAG_RECORDS_MAX: Final = 10_000
"""A copy that is further behind than this would make a change of leader slow."""

LOG_RECORDS_MAX: Final = 100_000
"""A log that keeps more than this, where no snapshots are taken, is going to fill the disk."""

_SHOWN_MAX: Final = 8

Severity: TypeAlias = Literal["error", "warning"]


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        severity: ``error`` where something does not work, ``warning`` where something may come.
        where: the node, partitions or part that it is about.
        what: what is wrong.
        fix: what to do.
    """

    severity: Severity
    where: str
    what: str
    fix: str


class NodeReport(msgspec.Struct, frozen=True):
    """What one node told.

    Attributes:
        problem: why it told nothing, empty otherwise.
        version: its release.
        view: how it sees the cluster.
        snapshots_on: whether it takes snapshots; None when it did not say.
    """

    name: str
    problem: str = ""
    version: str = ""
    view: ClusterStatus | None = None
    partitions: Sequence[PartitionStatus] = ()
    logs: Sequence[LogRow] = ()
    snapshots_on: bool | None = None


def diagnose(
    cluster: ClusterStatus,
    reports: Mapping[str, NodeReport],
    members: MembersReport | str | None,
) -> list[Problem]:
    """Everything that is wrong, errors first.

    Args:
        cluster: as the node sees it that was asked first.
        reports: by the node's name.
        members: the metadata servers; a text says why nobody can tell; None where there are none.
    """
    found = [
        *_of_nodes(cluster, reports),
        *_of_partitions(cluster, reports),
        *_of_workers(cluster, reports),
        *_of_logs(reports),
        *_of_storage(cluster),
        *_of_metadata(cluster, members),
        *_of_snapshots(cluster, reports),
        *_of_versions(reports),
        *_warned(cluster, reports),
    ]
    return sorted(found, key=lambda problem: problem.severity)


def _of_nodes(cluster: ClusterStatus, reports: Mapping[str, NodeReport]) -> Iterable[Problem]:
    for node in cluster.nodes:
        seen = {
            name: report.view.node(node.name)
            for name, report in reports.items()
            if report.view is not None
        }
        states = {name: row.state for name, row in seen.items() if row is not None}
        if node.state == "dead":
            drain = "" if node.drained else f"perdure nodes drain {node.name}, then "
            yield Problem(
                "error",
                node.name,
                "it is dead",
                f"start it again. If it never comes back: {drain}perdure nodes remove {node.name}",
            )
        elif node.state == "suspect":
            yield Problem(
                "warning",
                node.name,
                "it is silent and gets nothing new",
                "look at the machine and its network; it is taken for dead soon, or is back",
            )
        elif (report := reports.get(node.name)) is not None and report.problem:
            yield Problem(
                "warning",
                node.name,
                f"it lives and does not answer {cluster.me}: {report.problem}",
                f"look at its load, and whether {cluster.me} reaches it at {node.addresses.node}",
            )
        others = sorted(name for name, state in states.items() if state != node.state)
        if others:
            text = ", ".join(f"{name} sees it as {states[name]}" for name in others)
            yield Problem(
                "warning",
                node.name,
                f"{cluster.me} sees it as {node.state}, but {text}",
                "look at the network between them if this stays",
            )


def _of_partitions(cluster: ClusterStatus, reports: Mapping[str, NodeReport]) -> Iterable[Problem]:
    dead = {node.name for node in cluster.nodes if node.state == "dead"}
    leaderless = [row.partition for row in cluster.partitions if row.leader is None]
    if leaderless:
        yield Problem(
            "error",
            _partitions(leaderless),
            "no node leads them, so they take no requests",
            "start the nodes that keep them, or another node with the role worker",
        )
    thin = [
        row.partition
        for row in cluster.partitions
        if len([name for name in row.replicas if name not in dead]) < cluster.replicas
    ]
    if thin:
        yield Problem(
            "warning",
            _partitions(thin),
            f"fewer than {cluster.replicas} living nodes have them",
            "start the nodes that are dead, add nodes, or take drained ones back",
        )
    leaders = {row.partition: row.leader for row in cluster.partitions}
    for name, report in sorted(reports.items()):
        yield from _of_copies(name, report.partitions, leaders)


def _of_copies(
    name: str, statuses: Sequence[PartitionStatus], leaders: Mapping[int, str | None]
) -> Iterable[Problem]:
    """The partitions as one node has them."""
    for status in statuses:
        if status.parked_lsn:
            yield Problem(
                "error",
                f"partition {status.partition} on {name}",
                f"it is parked at LSN {status.parked_lsn}: {status.error}",
                "start a release that can apply the record, and report it with what the node keeps "
                "in its directory bundles; or go on without it: perdure partitions skip "
                f"{status.partition} --lsn {status.parked_lsn}",
            )
        elif status.aside:
            yield Problem(
                "error",
                f"partition {status.partition} on {name}",
                f"this copy does not count any more and never leads: {status.error}",
                "report it with what the node keeps in its directory bundles; then have it filled "
                f"anew: perdure partitions refill {status.partition} --on {name}",
            )
        elif status.error:
            yield Problem(
                "error",
                f"partition {status.partition} on {name}",
                f"it has stopped: {status.error}",
                "do what the message says; its code is explained in docs/errors.md",
            )
    idle = [
        status.partition
        for status in statuses
        if leaders.get(status.partition) == name and status.role != "leader" and not status.error
    ]
    if idle:
        yield Problem(
            "error",
            f"{_partitions(idle)} on {name}",
            "it is to lead them and does not yet",
            "look again in a few seconds; if it stays, the log of the node says what it waits for",
        )
    behind = [status.partition for status in statuses if status.lag > LAG_RECORDS_MAX]
    if behind:
        most = max(status.lag for status in statuses)
        yield Problem(
            "warning",
            f"{_partitions(behind)} on {name}",
            f"up to {most} records are not applied there",
            "look at the node's load and disk; it catches up by itself if it can",
        )


def _of_workers(cluster: ClusterStatus, reports: Mapping[str, NodeReport]) -> Iterable[Problem]:
    """Invocations that wait at a node for a worker which is not connected to it."""
    for name, report in sorted(reports.items()):
        waiting = {
            status.partition: status.unserved
            for status in report.partitions
            if status.role == "leader" and status.unserved
        }
        if waiting:
            row = cluster.node(name)
            count = sum(waiting.values())
            yield Problem(
                "error",
                f"{_partitions(list(waiting))} on {name}",
                f"{count} invocation{' waits' if count == 1 else 's wait'} for a worker: none that "
                "is connected to this node has the service, or the deployment that was begun on",
                f"start one, with the addresses of all nodes: perdure worker APP --connect "
                f"{'...' if row is None else row.addresses.node},... (perdure deployments list "
                "shows what runs; the log of a worker says which node it does not reach)",
            )


def _of_logs(reports: Mapping[str, NodeReport]) -> Iterable[Problem]:
    sealed = {log.log for report in reports.values() for log in report.logs if log.sealed}
    for number in sorted(sealed):
        yield Problem(
            "error",
            f"log {number}",
            "it is sealed as a whole: its partition takes no calls",
            f"open it again: perdure logs reconfigure {number}",
        )
    incomplete = {
        log.log: ", ".join(log.problems)
        for _, report in sorted(reports.items())
        for log in report.logs
        if log.health == "incomplete"
    }
    for number, problems in sorted(incomplete.items()):
        yield Problem(
            "error",
            f"log {number}",
            f"so many of its disks are lost that records may be: {problems}",
            f"bring a disk back. If none can be, and its last segment is the one (perdure logs "
            f"describe {number}): perdure logs seal {number} --accept-loss, then perdure logs "
            f"reconfigure {number}. If it is an older one: perdure snapshots create --partition "
            f"{number}",
        )


def _of_storage(cluster: ClusterStatus) -> Iterable[Problem]:
    for node in cluster.nodes:
        if node.storage == "data-loss":
            yield Problem(
                "error",
                node.name,
                "its disk does not have what it held (data-loss)",
                "bring its disk back as it was, or start it once with an empty directory and "
                "cluster.accept_storage_loss=true",
            )
        elif node.storage == "gone":
            yield Problem(
                "warning",
                node.name,
                "what it held was given up (gone)",
                f"take it out: perdure nodes remove {node.name}",
            )
        elif node.storage == "read-only" and "log-server" in node.roles:
            yield Problem(
                "warning",
                node.name,
                "its log-server takes nothing new (read-only)",
                "that is by hand: replace the node when others have what it keeps",
            )
        elif node.storage == "provisioning" and node.state == "alive":
            yield Problem(
                "warning",
                node.name,
                "its log-server is not in use yet (provisioning)",
                "look again in a moment; else restart the node",
            )
        if node.drained and (kept := _kept(cluster, node)):
            yield Problem(
                "warning",
                node.name,
                f"it is drained and is still to keep {_partitions(kept)}",
                "wait; if it stays, no other node can take them: add one",
            )


def _of_metadata(cluster: ClusterStatus, members: MembersReport | str | None) -> Iterable[Problem]:
    if members is None:
        return
    if isinstance(members, str) or not members.agreed:
        reason = members if isinstance(members, str) else _ill(members)
        yield Problem(
            "error",
            "metadata",
            f"too few metadata servers agree: nothing of the cluster can be changed ({reason})",
            "start or connect the metadata servers that are missing",
        )
        return
    for member in members.members:
        if member.state not in (IN_ORDER, NOT_TOLD):
            yield Problem(
                "warning",
                f"metadata server {member.name}",
                member.state,
                f"start it. If its storage is lost: perdure metadata remove {member.name}, clear "
                f"its metadata directory, start it, perdure metadata add {member.name}",
            )
    if not members.settled:
        yield Problem(
            "warning",
            "metadata",
            "a change of the list of metadata servers is under way, or was left unfinished",
            "give the same command again: it goes on where that ended",
        )
    if len(members.members) < 3 <= len(cluster.nodes):
        yield Problem(
            "warning",
            "metadata",
            f"with {len(members.members)} metadata server{'s' if len(members.members) > 1 else ''} "
            "none may fail",
            "have three of them: perdure metadata add NODE",
        )


def _of_snapshots(cluster: ClusterStatus, reports: Mapping[str, NodeReport]) -> Iterable[Problem]:
    if len(cluster.nodes) == 1:
        return  # alone, a log is trimmed by what the node has on its own disk
    off = sorted(name for name, report in reports.items() if report.snapshots_on is False)
    long = sorted(
        {log.log for name in off for log in reports[name].logs if log.records > LOG_RECORDS_MAX}
    )
    if long:
        yield Problem(
            "warning",
            ", ".join(off),
            f"no snapshots are taken there, and logs {_list(long)} grow",
            "set snapshots.directory on every node, to a place that all of them share",
        )


def _of_versions(reports: Mapping[str, NodeReport]) -> Iterable[Problem]:
    versions: dict[str, list[str]] = {}
    for name, report in sorted(reports.items()):
        if report.version:
            versions.setdefault(report.version, []).append(name)
    if len(versions) > 1:
        text = "; ".join(f"{version} on {', '.join(names)}" for version, names in versions.items())
        yield Problem(
            "warning",
            "versions",
            f"the nodes run different releases: {text}",
            "bring all of them to the same release, one node after the other",
        )


def _warned(cluster: ClusterStatus, reports: Mapping[str, NodeReport]) -> Iterable[Problem]:
    """What the nodes themselves warn of, each once."""
    views = [cluster, *(report.view for report in reports.values() if report.view is not None)]
    for warning in dict.fromkeys(warning for view in views for warning in view.warnings):
        what, found, fix = warning.rpartition("; ")
        if not found:
            what, found, fix = warning.rpartition(": ")
        yield Problem("warning", "cluster", what or warning, fix if found else "see above")


def _kept(cluster: ClusterStatus, node: NodeRow) -> list[int]:
    return [row.partition for row in cluster.partitions if node.name in row.replicas]


def _ill(members: MembersReport) -> str:
    ill = [
        f"{member.name}: {member.state}"
        for member in members.members
        if member.state not in (IN_ORDER, NOT_TOLD)
    ]
    return "; ".join(ill) or "no quorum answers in time"


def _partitions(numbers: Sequence[int]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {_list(numbers)}"


def _list(numbers: Sequence[int]) -> str:
    text = ", ".join(str(number) for number in numbers[:_SHOWN_MAX])
    more = len(numbers) - _SHOWN_MAX
    return f"{text} and {more} more" if more > 0 else text
