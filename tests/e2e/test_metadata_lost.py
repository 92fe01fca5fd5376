"""Two of three metadata servers go: calls go on, operators hear of it, and all is well after."""

import json
import signal
import time
from pathlib import Path

from .cluster import HttpClient
from .load import Load, check_all
from .node_group import PARTITIONS, NodeGroup
from .processes import run_perdure, wait_until

LOST = "too few of the 3 metadata servers are there"
SEED = 7
ASKED = "n4"


def leaders(group: NodeGroup) -> dict[int, tuple[str, int]]:
    """Who leads each partition, and under which epoch."""
    return {
        row["partition"]: (name, row["leader_epoch"])
        for name in group.workers
        for row in group.partitions(name)
        if row["role"] == "leader"
    }


def told(group: NodeGroup) -> bool:
    """Whether the status of the cluster says that metadata servers are lost."""
    with HttpClient(group.ports[ASKED]["admin"]) as client:
        answer = client.request("GET", "/cluster")
    assert answer.status == 200, answer
    return any(warning.startswith(LOST) for warning in answer.json()["warnings"])


def test_calls_go_on_without_metadata_and_operators_hear_of_it(tmp_path: Path) -> None:
    servers = ("n1", "n2", "n3")
    with NodeGroup(tmp_path, 5, metadata_servers=servers, nothing_else=("n1", "n2")) as group:
        group.start()
        # Few clients: the question is not how much goes on, but that it does.
        with Load(group, SEED, threads=2) as load:
            group.nodes["n1"].kill()
            group.nodes["n2"].signal(signal.SIGSTOP)
            wait_until("the status to tell of it", lambda: told(group))
            wait_until("all partitions to be led", lambda: len(leaders(group)) == PARTITIONS)
            before = leaders(group)
            load.wait_for_acks(time.monotonic())

            admin = ("--admin", f"http://{group.address(ASKED, 'admin')}")
            asked = run_perdure("doctor", "-o", "json", *admin)
            assert asked.status == 1, asked
            problems = json.loads(asked.stdout)["problems"]
            [problem] = [item for item in problems if item["where"] == "metadata"]
            assert problem["what"].startswith("too few metadata servers agree"), problem
            # Each leads under the epoch that it had: without metadata none could have another.
            assert leaders(group) == before
            load.wait_for_acks(time.monotonic())

            group.nodes["n2"].signal(signal.SIGCONT)
            wait_until("the status to be well", lambda: not told(group))
            # What takes the metadata goes again, and calls go on behind it.
            with HttpClient(group.ports[before[0][0]]["admin"]) as client:
                changed = client.request(
                    "POST", "/logs/0/reconfigure", b"{}", **{"content-type": "application/json"}
                )
            assert changed.status == 200, changed
            load.wait_for_acks(time.monotonic())
        check_all(group, load.accounts)
