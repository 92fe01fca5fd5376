"""A record that nobody can apply parks a partition on three real nodes, and a command ends that."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import partition_of

from . import poisoning
from .cluster import HttpClient
from .node_group import PARTITIONS, NodeGroup
from .processes import Finished, run_perdure, wait_until

PROGRAM = [sys.executable, str(Path(poisoning.__file__))]


def key_in(partition: int) -> str:
    """A counter that lives in a partition."""
    names = (f"key-{number}" for number in range(1000))
    return next(
        name for name in names if partition_of(keyed_partition_key(name), PARTITIONS) == partition
    )


def statuses(group: NodeGroup) -> dict[str, dict[str, Any]]:
    """Partition 0 on each node that has it."""
    rows = {name: group.partitions(name) for name in group.ports}
    assert all(rows.values()), rows
    return {name: row[0] for name, row in rows.items() if row[0]["role"] != "absent"}


def parked(group: NodeGroup) -> set[int]:
    """Where it is parked on all nodes that have it; nothing unless all are."""
    found = {row["parked_lsn"] for row in statuses(group).values()}
    return set() if 0 in found else found


def detail(group: NodeGroup, name: str) -> dict[str, Any]:
    """Partition 0 in full, as a node has it."""
    with HttpClient(group.ports[name]["admin"]) as client:
        answer: dict[str, Any] = client.request("GET", "/partitions/0").json()
        return answer


def command(group: NodeGroup, name: str, *arguments: str) -> Finished:
    """Run a command that asks a node."""
    return run_perdure(*arguments, "--admin", f"http://{group.address(name, 'admin')}")


def test_a_parked_partition_goes_on_without_its_record(tmp_path: Path) -> None:
    with NodeGroup(tmp_path, 3, program=PROGRAM) as group:
        group.start()
        here, elsewhere = key_in(0), key_in(1)
        with group.http() as client:
            for key in (here, elsewhere):
                assert client.post(f"/Counter/{key}/add", 1, "first").json() == 1
            leader = group.leader(0)
            assert leader is not None
            group.nodes[leader].signal(signal.SIGUSR1)
            wait_until("all replicas to be parked", lambda: len(parked(group)) == 1)
            (lsn,) = parked(group)

            # The others go on. A node that has no copy knows how far those are that are parked.
            assert client.post(f"/Counter/{elsewhere}/add", 1, "second").json() == 2
            (without,) = set(group.ports) - set(statuses(group))
            stopped = [
                {"node": name, "applied_lsn": lsn - 1, "parked": True}
                for name in sorted(statuses(group))
            ]
            wait_until("it to be told", lambda: detail(group, without)["stopped"] == stopped)
            told = command(group, without, "doctor", "-o", "json")
            fixes = [problem["fix"] for problem in json.loads(told.stdout)["problems"]]
            assert sum(f"perdure partitions skip 0 --lsn {lsn}" in fix for fix in fixes) == 2

            # It is not the copies that are wrong.
            refused = command(group, without, "partitions", "refill", "0", "--on", leader, "--yes")
            assert (refused.status, "PD0928" in refused.stderr) == (1, True), refused
            skipped = command(group, without, "partitions", "skip", "0", "--lsn", str(lsn), "--yes")
            assert skipped.status == 0, skipped
            group.wait_until_whole()
            assert client.post(f"/Counter/{here}/add", 1, "first").json() == 1
            assert client.post(f"/Counter/{here}/add", 1, "second").json() == 2
        wait_until("replicas to agree", group.replicas_agree)
        for name in statuses(group):
            assert [skip["lsn"] for skip in detail(group, name)["skipped"]] == [lsn]
        wait_until(
            "all to hear that nothing has stopped any more",
            lambda: all(not detail(group, name)["stopped"] for name in group.ports),
        )
        # A node that starts again skips it, too, and nothing is wrong any more.
        assert group.nodes[leader].stop() == 0, group.nodes[leader].stderr
        group.spawn(leader)
        group.wait_until_whole()
        assert group.counter(here) == 2
