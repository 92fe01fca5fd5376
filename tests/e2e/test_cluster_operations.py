"""An operator's week: three real nodes, one is emptied, dies, is taken out and replaced."""

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..ports import HOST, free_port
from .cluster import DOORS
from .processes import Finished, Process, run_perdure, wait_until

PARTITIONS = 4
PATIENCE_SECONDS = 120.0


class Nodes:
    """The nodes of one cluster, each on ports of its own."""

    def __init__(self, directory: Path, servers: int) -> None:
        """Choose ports for the metadata servers."""
        self._directory = directory
        self._ports = {
            f"node-{number}": {door: free_port() for door in DOORS}
            for number in range(1, servers + 1)
        }
        self._servers = ",".join(f"{HOST}:{ports['node']}" for ports in self._ports.values())
        self.running: dict[str, Process] = {}

    def start(self, name: str, *, instead_of: str = "", provision: bool = False) -> Process:
        """Start a node; a new one takes the ports of another that is gone for good."""
        ports = self._ports.setdefault(name, self._ports.get(instead_of, {}))
        settings = {
            "node.name": name,
            "cluster.metadata_servers": self._servers,
            "partitions.count": str(PARTITIONS),
            "snapshots.directory": str(self._directory / "snapshots"),
            "log.trim_interval": "1s",
            "cluster.provision": "true" if provision else "false",
        }
        line = ["server", "--base-dir", str(self._directory / name)]
        for door, port in ports.items():
            line += [f"--{door}", f"{HOST}:{port}"]
        for option, value in settings.items():
            line += ["--set", f"{option}={value}"]
        process = self.running[name] = Process(name, line, self._directory)
        return process

    def command(self, name: str, *arguments: str) -> Finished:
        """Run a command that asks a node."""
        admin = f"http://{HOST}:{self._ports[name]['admin']}"
        return run_perdure(*arguments, "--admin", admin)

    def told(self, name: str, *arguments: str) -> Any:
        """What a command prints as JSON; None when it fails."""
        ended = self.command(name, *arguments, "-o", "json")
        return json.loads(ended.stdout) if ended.status == 0 else None

    def until(self, what: str, holds: Callable[[Any], bool]) -> Any:
        """The status of the cluster once something holds of it."""
        found: list[Any] = []

        def done() -> bool:
            status = self._status("node-1")
            found[:] = [status]
            return status is not None and holds(status)

        wait_until(what, done, PATIENCE_SECONDS)
        return found[0]

    def _status(self, name: str) -> Any:
        """As the command has it, and cheap enough to ask again and again."""
        connection = http.client.HTTPConnection(
            HOST, self._ports[name]["admin"], timeout=PATIENCE_SECONDS
        )
        try:
            connection.request("GET", "/cluster")
            response = connection.getresponse()
            body = json.loads(response.read())
            return body if response.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()

    def kill(self) -> None:
        """End all of them."""
        for process in self.running.values():
            process.kill()


def placed(status: Any) -> bool:
    """Every partition has a leader and two copies."""
    return len(status["partitions"]) == PARTITIONS and all(
        row["leader"] and len(row["replicas"]) == 2 for row in status["partitions"]
    )


def states(status: Any) -> dict[str, str]:
    """Who lives."""
    return {node["name"]: node["state"] for node in status["nodes"]}


def kept(status: Any, name: str) -> list[int]:
    """The partitions that a node keeps."""
    return [row["partition"] for row in status["partitions"] if name in row["replicas"]]


def test_a_node_is_emptied_lost_taken_out_and_replaced(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 3)
    try:
        nodes.start("node-1", provision=True)
        wait_until(
            "a node that waits for others to say so",
            lambda: "PD0602" in nodes.command("node-1", "cluster", "status").stderr,
        )
        for name in ("node-2", "node-3"):
            nodes.start(name)
        operate(nodes)
    except BaseException:
        for process in nodes.running.values():
            print(f"{process.name}:\n{process.stderr[-3000:]}")
        raise
    finally:
        nodes.kill()


def holdings_whole(nodes: Nodes) -> bool:
    """Whether all log-servers of log 0 have said what they hold, and nothing is missing."""
    (segment, *_) = nodes.told("node-2", "logs", "digest", "0")["segments"]
    answered = [each["status"] for each in segment["servers"]] == ["ok"] * 3
    # While one is asked for too long, copies may seem too few; no verdict may be worse than that.
    assert segment["verdict"] in ("whole", "thin"), segment
    return answered and bool(segment["verdict"] == "whole")


def operate(nodes: Nodes) -> None:
    """What the test is about."""
    status = nodes.until(
        "three nodes and their partitions",
        lambda status: (
            list(states(status).values()) == ["alive"] * 3
            and placed(status)
            and all(kept(status, node["name"]) for node in status["nodes"])
        ),
    )

    # Any node tells of all partitions, and a lead goes where it is sent.
    moved = status["partitions"][0]
    (to,) = (name for name in moved["replicas"] if name != moved["leader"])
    (foreign,) = ({"node-1", "node-2", "node-3"}) - set(moved["replicas"])
    refused = nodes.command("node-1", "partitions", "move", "0", "--to", foreign)
    assert (refused.status, "PD1121" in refused.stderr) == (1, True), refused
    assert nodes.told("node-1", "partitions", "move", "0", "--to", to)["leader"] == to

    def leads() -> bool:
        told = nodes.told("node-3", "partitions", "list") or {"partitions": [{"status": None}]}
        row = told["partitions"][0]
        return (row["status"] or {}).get("role") == "leader" and bool(row["leader"] == to)

    wait_until("the new leader", leads, PATIENCE_SECONDS)

    # What its log-servers hold is the same, once all of them have had the time to answer.
    wait_until("all log-servers to say what they hold", lambda: holdings_whole(nodes))

    # What lives is not removed. It is emptied first; then it is lost.
    refused = nodes.command("node-1", "nodes", "remove", "node-3", "--yes")
    assert "is alive: stop it first" in refused.stderr, refused
    assert nodes.told("node-2", "nodes", "drain", "node-3")["drained"]
    nodes.until("node-3 to be empty", lambda status: not kept(status, "node-3") and placed(status))
    nodes.running["node-3"].kill()
    nodes.until("node-3 to be dead", lambda status: states(status)["node-3"] == "dead")
    told = nodes.command("node-1", "doctor", "-o", "json")
    problems = json.loads(told.stdout)["problems"]
    assert told.status == 1
    assert ("error", "node-3", "it is dead") in {
        (each["severity"], each["where"], each["what"]) for each in problems
    }

    # Each refusal says what to do next, and doing it is the way out.
    refused = nodes.command("node-1", "nodes", "remove", "node-3", "--yes")
    assert "perdure metadata remove node-3" in refused.stderr, refused
    left = nodes.told("node-1", "metadata", "remove", "node-3", "--yes")
    assert sorted(member["name"] for member in left["members"]) == ["node-1", "node-2"]
    # The logs leave it by themselves.
    wait_until(
        "node-3 to be taken out",
        lambda: nodes.command("node-1", "nodes", "remove", "node-3", "--yes").status == 0,
        PATIENCE_SECONDS,
    )
    assert list(states(nodes.told("node-2", "cluster", "status"))) == ["node-1", "node-2"]

    # It does not come back by itself; another one takes its place, as a metadata server too.
    nodes.start("node-3")
    assert nodes.running["node-3"].wait() == 1
    assert "PD1117" in nodes.running["node-3"].stderr
    nodes.start("node-4", instead_of="node-3")
    nodes.until("node-4 to take part", lambda status: bool(kept(status, "node-4")))
    members = nodes.told("node-4", "metadata", "add", "node-4")["members"]
    assert sorted(member["name"] for member in members) == ["node-1", "node-2", "node-4"]
    # What the lost one had kept has gone by itself, too, by a snapshot and a trim.
    wait_until(
        "nothing to be wrong any more",
        lambda: (told := nodes.told("node-4", "doctor")) is not None and not told["problems"],
        PATIENCE_SECONDS,
    )
