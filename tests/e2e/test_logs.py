"""``perdure logs`` against a real node: look, read, follow over a restart, move, trim, seal."""

import json
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from .cluster import Cluster
from .processes import Finished, Process, run_perdure, wait_until

ONE_PARTITION = ("--set", "partitions.count=1", "--set", "log.trim_interval=50ms")


class Logs:
    """``perdure logs …`` for one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        """Take the cluster whose node is asked."""
        self.admin = ("--admin", f"http://{cluster.address('admin')}")

    def run(self, *arguments: str) -> Finished:
        """Run a command to its end."""
        return run_perdure("logs", *arguments, *self.admin)

    def done(self, *arguments: str) -> str:
        """What a command prints that succeeds and says nothing on stderr."""
        ended = self.run(*arguments)
        assert ended.status == 0, ended
        assert ended.stderr == "", ended
        return ended.stdout

    def as_json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.done(*arguments, "-o", "json"))

    def records(self, *arguments: str) -> list[Any]:
        """The records that a reading gives."""
        lines = self.done("read", "0", *arguments, "-o", "json").splitlines()
        return [json.loads(line) for line in lines]


def tail_of(logs: Logs) -> int:
    """The log's tail."""
    tail: int = logs.as_json("find-tail", "0")["tail_lsn"]
    return tail


def test_look_and_read(tmp_path: Path) -> None:
    """Every record of a call is found by its object, its invocation and its time."""
    with Cluster(tmp_path) as cluster:
        cluster.start(*ONE_PARTITION)
        logs = Logs(cluster)
        answered = cluster.call("Counter", "add_in_steps", 5, key="ann")
        cluster.call("Counter", "add", 5, key="bob")
        [row] = logs.as_json("list")["logs"]
        detail = logs.as_json("describe", "0")

        assert (row["log"], row["kind"], row["sealed"], row["error"]) == (0, "local", False, "")
        assert row["tail_lsn"] == row["records"] + 1 == tail_of(logs)
        assert [segment["state"] for segment in detail["segments"]] == ["open"]
        table = logs.done("describe", "0").splitlines()
        assert table[0].split()[:2] == ["LOG", "STATE"]

        mine = logs.records("--invocation", answered.invocation_id)
        assert mine[0]["kind"] == "Invoke"
        assert all(record["invocation"] == answered.invocation_id for record in mine)
        frames = [name for record in mine for name in record.get("frames", ())]
        assert {"RunCommand", "SetStateCommand", "OutputCommand", "End"} <= set(frames)
        of_object = logs.records("--object", "Counter/ann")
        assert [item for item in of_object if item["keys"] != "all"] == mine
        assert logs.records("--since", "10m") == logs.records()
        assert logs.records("--until", "10m") == []
        lines = logs.done("read", "0", "--kind", "Invoke").splitlines()
        assert lines[-1].endswith("Counter/bob/add")


def test_move_trim_and_seal(tmp_path: Path) -> None:
    """A log goes on in a new segment, forgets what is stored, is sealed and opened again."""
    with Cluster(tmp_path) as cluster:
        cluster.start(*ONE_PARTITION)
        logs = Logs(cluster)
        cluster.call("Counter", "add", 5, key="ann")
        moved = logs.as_json("reconfigure", "0", "--provider", "local", "--yes")
        assert moved["new"]["segment"] == moved["sealed_segment"] + 1
        cluster.call("Counter", "add", 2, key="ann")
        first, second = logs.as_json("describe", "0")["segments"]
        assert (first["state"], second["state"]) == ("sealed", "open")
        assert first["tail_lsn"] == second["base_lsn"] == moved["tail_lsn"]

        last = tail_of(logs) - 1
        refused = logs.run("trim", "0", str(last + 1), "--yes")
        assert refused.status == 1
        assert refused.stderr.startswith("error PD1004: "), refused
        wait_until(
            "the node to store what it applied",
            lambda: logs.as_json("describe", "0")["durable_lsn"] >= last,
        )
        trimmed = logs.as_json("trim", "0", str(last), "--yes")
        assert trimmed["trim_point"] == last
        assert logs.records()[0] == {"trim_gap": [1, last]}
        assert len(logs.as_json("describe", "0")["segments"]) == 1

        _seal_and_open(cluster, logs)
        assert cluster.node is not None
        assert cluster.node.stop() == 0
        cluster.start_node(*ONE_PARTITION)
        cluster.wait_for_answer()
        assert cluster.counter("ann") == 8


def _seal_and_open(cluster: Cluster, logs: Logs) -> None:
    """Calls are refused while the log is sealed, with the way out, and taken again afterwards."""
    asked = logs.run("seal", "0")
    assert asked.status == 2
    assert "--yes" in asked.stderr
    assert cluster.counter("ann") == 7
    logs.done("seal", "0", "--yes")
    with cluster.http() as client:
        answer = client.post("/Counter/ann/add", 1)
    assert answer.status == 503
    assert "perdure logs reconfigure 0" in answer.json()["message"]
    with pytest.raises(grpc.RpcError) as refused:
        cluster.call("Counter", "add", 1, key="ann")
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "perdure logs reconfigure 0" in refused.value.details()
    assert logs.as_json("list")["logs"][0]["sealed"] is True
    shown = logs.done("reconfigure", "0", "--yes")
    assert shown.startswith("log 0 is open again in segment "), shown
    assert cluster.call("Counter", "add", 1, key="ann").value == b"8"


def test_follow_over_a_restart(tmp_path: Path) -> None:
    """What is written is shown at once, a kill of the node is waited for, Ctrl-C ends it."""
    with Cluster(tmp_path) as cluster:
        cluster.start(*ONE_PARTITION)
        logs = Logs(cluster)
        arguments = ["logs", "read", "0", "-f", "--from", "1", "-o", "json", *logs.admin]
        follower = Process("follower", arguments, tmp_path)
        try:
            cluster.call("Counter", "add", 5, key="ann")
            _wait_for_key(follower, "ann")
            assert cluster.node is not None
            cluster.node.kill()
            follower.wait_for_line("notice: no node answers at")
            cluster.start_node(*ONE_PARTITION)
            cluster.wait_for_answer()
            cluster.call("Counter", "add", 5, key="bob")
            _wait_for_key(follower, "bob")
            follower.wait_for_line("notice: the node answers again")
            follower._popen.send_signal(signal.SIGINT)
            assert follower.wait() == 130
        finally:
            follower.kill()
        assert "Traceback" not in follower.stderr
        shown = [json.loads(line)["lsn"] for line in follower.stdout_path.read_text().splitlines()]
        assert shown == list(range(1, len(shown) + 1))


def _wait_for_key(follower: Process, key: str) -> None:
    wanted = f'"object_key":"{key}"'
    wait_until(f"the record of {key}", lambda: wanted in follower.stdout_path.read_text())
