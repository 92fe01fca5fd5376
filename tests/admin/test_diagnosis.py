"""What the doctor finds in what nodes tell: each problem, and nothing where all is well."""

from typing import Any

import msgspec
import pytest

from perdure.admin.api.log_answers import LogRow
from perdure.admin.cli.diagnosis import (
    LAG_RECORDS_MAX,
    LOG_RECORDS_MAX,
    NodeReport,
    Problem,
    diagnose,
)
from perdure.admin.cluster import ClusterStatus, NodeRow, PartitionRow
from perdure.log.replicated.provider import Replication
from perdure.metadata.nodes import Addresses
from perdure.metadata.quorum import MemberReport, MembersReport
from perdure.metadata.quorum.members import IN_ORDER, NOT_TOLD
from perdure.node.membership.clocks import clock_warnings
from perdure.node.replicated_logs import copies_warnings
from perdure.partition_processor.status import PartitionStatus

NAMES = ("a", "b", "c")
replace: Any = msgspec.structs.replace


def node(name: str) -> NodeRow:
    number = NAMES.index(name) + 1
    addresses = Addresses(f"{name}:1", admin=f"{name}:2")
    return NodeRow(
        number,
        name,
        1,
        "alive",
        False,
        ("log-server", "worker"),
        "",
        "read-write",
        False,
        addresses,
    )


def well() -> ClusterStatus:
    """Three nodes; partition n is led by the nth, and the next one follows."""
    return ClusterStatus(
        "c",
        "f",
        "a",
        2,
        [node(name) for name in NAMES],
        [
            PartitionRow(
                number, NAMES[number], [NAMES[number], NAMES[(number + 1) % 3]], "", 0, 0, 0
            )
            for number in range(3)
        ],
        [],
    )


def reports(cluster: ClusterStatus) -> dict[str, NodeReport]:
    return {
        name: NodeReport(
            name,
            version="1",
            view=cluster,
            partitions=[
                PartitionStatus(
                    row.partition,
                    name,
                    "leader" if row.leader == name else "follower",
                    1,
                    1,
                    2,
                    0,
                    {},
                )
                for row in cluster.partitions
                if name in row.replicas
            ],
            snapshots_on=True,
        )
        for name in NAMES
    }


def members(*states: str, agreed: bool = True, settled: bool = True) -> MembersReport:
    return MembersReport(
        1,
        agreed,
        settled,
        tuple(
            MemberReport(name, f"{name}:1", "0", state, 1)
            for name, state in zip(NAMES, states or (IN_ORDER,) * 3, strict=False)
        ),
    )


def only(problems: list[Problem], severity: str, where: str, what: str) -> None:
    """There is just this one, and it says what to do."""
    assert [(each.severity, each.where) for each in problems] == [(severity, where)], problems
    assert what in problems[0].what
    assert problems[0].fix


def changed(cluster: ClusterStatus, name: str, **fields: Any) -> ClusterStatus:
    return replace(
        cluster,
        nodes=[replace(each, **fields) if each.name == name else each for each in cluster.nodes],
    )


def test_invocations_that_no_worker_is_there_for_are_told_with_their_leader() -> None:
    cluster = well()
    told = reports(cluster)
    told["b"] = replace(
        told["b"],
        partitions=[replace(status, unserved=3) for status in told["b"].partitions],
    )

    found = diagnose(cluster, told, members())
    only(found, "error", "partition 1 on b", "3 invocations wait for a worker")
    assert "--connect b:1" in found[0].fix


def test_a_cluster_that_is_well_has_no_problem() -> None:
    cluster = well()
    assert diagnose(cluster, reports(cluster), members(IN_ORDER, NOT_TOLD, IN_ORDER)) == []


@pytest.mark.parametrize(
    ("fields", "severity", "what"),
    [
        ({"state": "suspect"}, "warning", "silent"),
        ({"storage": "data-loss"}, "error", "data-loss"),
        ({"storage": "gone"}, "warning", "given up"),
        ({"storage": "read-only"}, "warning", "nothing new"),
        ({"storage": "provisioning"}, "warning", "not in use yet"),
        ({"drained": True}, "warning", "still to keep partitions 1, 2"),
    ],
)
def test_nodes_that_are_not_as_they_should_be(
    fields: dict[str, Any], severity: str, what: str
) -> None:
    cluster = changed(well(), "c", **fields)
    only(diagnose(cluster, reports(cluster), members()), severity, "c", what)


def test_a_copy_that_is_set_aside_is_to_be_filled_anew() -> None:
    cluster = well()
    told = reports(cluster)
    status = replace(told["b"].partitions[0], role="stopped", error="PD0929 it differs", aside=True)
    told["b"] = replace(told["b"], partitions=[status])
    found = diagnose(cluster, told, members())

    only(found, "error", f"partition {status.partition} on b", "never leads: PD0929 it differs")
    assert f"perdure partitions refill {status.partition} --on b" in found[0].fix


def test_a_dead_node_and_what_it_leaves_with_too_few_copies() -> None:
    cluster = changed(well(), "c", state="dead")
    told = {name: report for name, report in reports(cluster).items() if name != "c"}
    found = diagnose(cluster, told | {"c": NodeReport("c", problem="refused")}, members())

    assert [(each.severity, each.where) for each in found] == [
        ("error", "c"),
        ("warning", "partitions 1, 2"),
    ]
    assert "perdure nodes drain c, then perdure nodes remove c" in found[0].fix


def test_a_node_whose_admin_rest_does_not_answer() -> None:
    cluster = well()
    told = reports(cluster) | {"b": NodeReport("b", problem="no node answers")}
    only(diagnose(cluster, told, members()), "warning", "b", "no node answers")


def test_nodes_that_see_others_differently() -> None:
    cluster = well()
    told = reports(cluster)
    told["b"] = replace(told["b"], view=changed(cluster, "c", state="dead"))
    only(diagnose(cluster, told, members()), "warning", "c", "b sees it as dead")


def test_a_partition_without_a_leader() -> None:
    cluster = well()
    rows = [replace(cluster.partitions[0], leader=None), *cluster.partitions[1:]]
    cluster = replace(cluster, partitions=rows)
    only(diagnose(cluster, reports(cluster), members()), "error", "partition 0", "no node leads")


@pytest.mark.parametrize(
    ("fields", "severity", "where", "what"),
    [
        ({"role": "candidate"}, "error", "partition 0 on a", "does not yet"),
        ({"role": "stopped", "error": "PD0924: x"}, "error", "partition 0 on a", "PD0924: x"),
        (
            {"role": "stopped", "error": "PD0902: x", "parked_lsn": 7},
            "error",
            "partition 0 on a",
            "parked at LSN 7: PD0902",
        ),
        ({"lag": LAG_RECORDS_MAX + 1}, "warning", "partition 0 on a", "10001 records"),
    ],
)
def test_copies_that_do_not_work(
    fields: dict[str, Any], severity: str, where: str, what: str
) -> None:
    cluster = well()
    told = reports(cluster)
    first, *others = told["a"].partitions
    told["a"] = replace(told["a"], partitions=[replace(first, **fields), *others])
    only(diagnose(cluster, told, members()), severity, where, what)


@pytest.mark.parametrize(
    ("found", "severity", "where", "what"),
    [
        ("too few answer", "error", "metadata", "too few answer"),
        (members("away", "away", IN_ORDER, agreed=False), "error", "metadata", "a: away; b: away"),
        (members("away", IN_ORDER, IN_ORDER), "warning", "metadata server a", "away"),
        (members(settled=False), "warning", "metadata", "unfinished"),
        (members(IN_ORDER), "warning", "metadata", "with 1 metadata server none may fail"),
    ],
)
def test_metadata_servers(found: MembersReport | str, severity: str, where: str, what: str) -> None:
    cluster = well()
    only(diagnose(cluster, reports(cluster), found), severity, where, what)


def test_logs_that_grow_where_no_snapshots_are_taken() -> None:
    cluster = well()
    told = reports(cluster)
    log = LogRow(1, 1, 0, 1, LOG_RECORDS_MAX + 1, False, "replicated", 1, 1, "a")
    assert diagnose(cluster, told | {"b": replace(told["b"], logs=[log])}, members()) == []
    off = replace(told["b"], snapshots_on=False)
    assert diagnose(cluster, told | {"b": off}, members()) == []
    told["b"] = replace(off, logs=[log])
    only(diagnose(cluster, told, members()), "warning", "b", "logs 1 grow")


def test_logs_that_are_sealed_as_a_whole() -> None:
    cluster = well()
    told = reports(cluster)
    log = LogRow(1, 2, 0, 9, 8, True, "replicated", 1, 1, "b")
    told = {name: replace(report, logs=[log]) for name, report in told.items()}
    found = diagnose(cluster, told, members())
    only(found, "error", "log 1", "takes no calls")
    assert found[0].fix == "open it again: perdure logs reconfigure 1"


def test_logs_that_have_lost_too_many_disks() -> None:
    cluster = well()
    told = reports(cluster)
    log = LogRow(1, 2, 0, 9, 8, False, "replicated", 1, 1, "b", "", "incomplete", ["b is gone"])
    told["b"] = replace(told["b"], logs=[log])
    found = diagnose(cluster, told, members())
    only(found, "error", "log 1", "b is gone")
    assert "perdure logs seal 1 --accept-loss" in found[0].fix


def test_releases_that_differ() -> None:
    cluster = well()
    told = reports(cluster)
    told["c"] = replace(told["c"], version="2")
    only(diagnose(cluster, told, members()), "warning", "versions", "1 on a, b; 2 on c")


def test_what_nodes_warn_of_is_told_once_with_its_fix() -> None:
    cluster = replace(well(), warnings=["n hears too few: look at its network"])
    only(diagnose(cluster, reports(cluster), members()), "warning", "cluster", "n hears too few")


@pytest.mark.parametrize(
    ("warnings", "what", "fix"),
    [
        (clock_warnings({"a": 0, "b": 7_200_000_000_000, "c": 0}), "clock of b is 2h", "NTP"),
        (copies_warnings([], Replication(2)), "only 0 can take any", "start more log-servers"),
    ],
)
def test_what_the_parts_of_a_node_warn_of_has_its_fix(
    warnings: list[str], what: str, fix: str
) -> None:
    cluster = replace(well(), warnings=warnings)
    problems = diagnose(cluster, reports(cluster), members())
    only(problems, "warning", "cluster", what)
    assert fix in problems[0].fix


def test_errors_come_first() -> None:
    cluster = changed(changed(well(), "a", storage="read-only"), "c", storage="data-loss")
    found = diagnose(cluster, reports(cluster), None)
    assert [each.severity for each in found] == ["error", "warning"]
