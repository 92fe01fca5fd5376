"""What a cluster of three processes cannot do: refused with a way out, and nothing is changed.

docs/cluster.md has the table of all such requests and where each is tested.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..ports import HOST, free_port
from .cluster import DOORS, HttpClient
from .node_group import NodeGroup
from .processes import Finished, Process, run_perdure, wait_until


class Strays:
    """Processes that have no place in the cluster."""

    def __init__(self, directory: Path) -> None:
        """Nothing runs yet."""
        self._directory = directory
        self._count = 0
        self._running: list[Process] = []

    def start(self, base_dir: str, settings: Mapping[str, str]) -> Process:
        """Start a node on ports of its own."""
        self._count += 1
        ports = {door: free_port() for door in DOORS}
        settings = {"cluster.metadata_servers": f"{HOST}:{ports['node']}", **settings}
        line = ["server", "--base-dir", str(self._directory / base_dir)]
        for door, port in ports.items():
            line += [f"--{door}", f"{HOST}:{port}"]
        for option, value in settings.items():
            line += ["--set", f"{option}={value}"]
        process = Process(f"stray-{self._count}", line, self._directory)
        self._running.append(process)
        return process

    def kill(self) -> None:
        """End all of them."""
        for process in self._running:
            process.kill()


def refused(ended: Finished, code: str, *texts: str) -> None:
    """Check that something failed with a code, and what it says."""
    assert ended.status == 1, ended
    assert "Traceback" not in ended.stderr, ended
    assert f"error {code}: " in ended.stderr, ended
    for text in texts:
        assert text in ended.stderr, (text, ended)


def command(group: NodeGroup, name: str, *arguments: str) -> Finished:
    """Run a command that asks a node."""
    return run_perdure(*arguments, "--admin", f"http://{group.address(name, 'admin')}")


def status(group: NodeGroup, name: str = "n1") -> Any:
    """The cluster as a node sees it."""
    with HttpClient(group.ports[name]["admin"]) as client:
        return client.request("GET", "/cluster").json()


def facts(group: NodeGroup) -> Any:
    """What a refused request must leave as it was: the metadata, but for who leads."""
    found = status(group)
    nodes = [{**node, "clock_ahead_ms": None, "state": None} for node in found["nodes"]]
    return nodes, [row["replicas"] for row in found["partitions"]]


def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    snapshots = tmp_path / "snapshots"
    options = ("cluster.replicas=5", f"snapshots.directory={snapshots}")
    strays = Strays(tmp_path)
    with NodeGroup(tmp_path, 3, *options) as group:
        try:
            for name in group.ports:
                group.spawn(name)
            # More copies than nodes: each node has one, and the cluster says so.
            wait_until("every node to keep everything", lambda: keeps_everything(group))
            assert any(
                "to have 5 replicas, but only 3 nodes" in warning
                for warning in status(group)["warnings"]
            ), status(group)["warnings"]
            before = facts(group)
            strangers(group, strays, str(snapshots))
            requests(group)
            assert facts(group) == before
        finally:
            strays.kill()


def keeps_everything(group: NodeGroup) -> bool:
    """Whether all nodes have joined, keep all partitions, and each is led."""
    tables = [group.partitions(name) for name in group.ports]
    return all(tables) and all(
        sorted(row["role"] for row in rows) == ["follower", "follower", "leader"]
        for rows in zip(*tables, strict=True)
    )


def strangers(group: NodeGroup, strays: Strays, snapshots: str) -> None:
    """Processes that must not get in."""
    servers = ",".join(group.address(name, "node") for name in group.ports)
    here = {"cluster.metadata_servers": servers}
    ended = strays.start("other-name", {**here, "node.name": "x", "node.cluster": "shop"})
    refused(ended.finished(), "PD1113", "node.cluster", "'perdure'", "'shop'")

    ended = strays.start("same-name", {**here, "node.name": "n2"})
    refused(ended.finished(), "PD1115", "n2", "give this one another name")

    # A cluster of the same name with another fingerprint: its nodes' snapshots and disks.
    other = {"node.name": "y", "cluster.provision": "true"}
    ended = strays.start("other-cluster", {**other, "snapshots.directory": snapshots})
    refused(ended.finished(), "PD0923", "snapshots of cluster", "snapshots.directory")
    ended = strays.start("other-cluster", {**here, "node.name": "y"})
    refused(ended.finished(), "PD1114", "another cluster", "an empty one")


def requests(group: NodeGroup) -> None:
    """Requests that must not be carried out."""
    leader = group.leader(0)
    assert leader is not None
    refused(command(group, leader, "logs", "trim", "0", "1000000", "--yes"), "PD1004", "lower LSN")
    refused(
        command(group, "n1", "partitions", "move", "0", "--to", "n9"),
        "PD1119",
        "the nodes are: n1, ",
    )
    refused(command(group, "n1", "nodes", "remove", "n3", "--yes"), "PD1120", "stop it first")
    group.nodes["n3"].kill()
    wait_until(
        "n3 to be dead",
        lambda: {node["name"]: node["state"] for node in status(group)["nodes"]}["n3"] == "dead",
    )
    refused(command(group, "n1", "partitions", "move", "0", "--to", "n3"), "PD1121", "n3", "dead")
    refused(command(group, "n1", "nodes", "remove", "n3", "--yes"), "PD1120", "drain it")
    found = command(group, "n1", "doctor", "-o", "json")
    problems = json.loads(found.stdout)["problems"]
    assert ("n3", "it is dead") in {(each["where"], each["what"]) for each in problems}
    assert all(each["fix"] for each in problems)
