"""The commands of the README, one after the other, in both output formats."""

import json
from pathlib import Path
from typing import Any

from .cluster import Cluster
from .processes import Finished, run_perdure


def done(*arguments: str, stdin: str | None = None) -> Finished:
    """Run a command that succeeds and says nothing on stderr."""
    ended = run_perdure(*arguments, stdin=stdin)
    assert ended.status == 0, ended
    assert ended.stderr == "", ended
    return ended


def as_json(*arguments: str) -> Any:
    """What a command prints with ``-o json``."""
    return json.loads(done(*arguments, "-o", "json").stdout)


def rows_of(table: str) -> list[list[str]]:
    """The cells of a table that was printed to a pipe."""
    return [line.split() for line in table.splitlines()]


def test_the_story(tmp_path: Path) -> None:
    """Start, call, send, look; kill the node; the counter is right."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        ingress = ("--ingress", cluster.address("ingress-grpc"))
        _call_and_send(cluster, ingress)
        _look(cluster)
        assert cluster.node is not None
        cluster.node.kill()
        gone = run_perdure("call", "Greeter/greet", '"Ann"', *ingress)
        assert gone.status == 1
        assert gone.stderr.startswith("error PD0201: no node answers at "), gone
        cluster.start_node()
        assert done("call", "Counter/ann/get", *ingress).stdout == "12\n"
        key = ("--idempotency-key", "first")
        assert done("call", "Counter/ann/add", "5", *key, *ingress).stdout == "5\n"
        assert done("call", "Counter/ann/get", *ingress).stdout == "12\n"
        assert cluster.node.stop() == 0
        assert cluster.workers["worker"].stop() == 0


def _call_and_send(cluster: Cluster, ingress: tuple[str, ...]) -> None:
    assert done("call", "Greeter/greet", '"Ann"', *ingress).stdout == '"Hello Ann"\n'
    assert done("call", "Greeter/greet", "-", *ingress, stdin='"Bo"').stdout == '"Hello Bo"\n'
    shown = as_json("call", "Greeter/greet", '"Ann"', *ingress)
    assert shown["value"] == "Hello Ann"
    assert shown["invocation_id"].startswith("inv_1")

    key = ("--idempotency-key", "first")
    first = as_json("call", "Counter/ann/add", "5", *key, *ingress)
    assert first["value"] == 5
    assert as_json("call", "Counter/ann/add", "5", *key, *ingress) == first

    other = ("--idempotency-key", "second")
    sent = as_json("send", "Counter/ann/add", "7", *other, *ingress)
    assert sent["status"] == "accepted"
    again = as_json("send", "Counter/ann/add", "7", *other, *ingress)
    assert again == {"invocation_id": sent["invocation_id"], "status": "previously accepted"}
    table = rows_of(done("send", "Counter/ann/add", "7", *other, *ingress).stdout)
    assert table == [["INVOCATION", "STATUS"], [sent["invocation_id"], "previously", "accepted"]]
    cluster.wait_for_quiet()
    assert done("call", "Counter/ann/get", *ingress).stdout == "12\n"
    with cluster.http() as client:
        answer = client.post("/Counter/ann/add", 5, "first")
        assert answer.headers["x-restate-id"] == first["invocation_id"]
        assert answer.json() == 5


def _look(cluster: Cluster) -> None:
    admin = ("--admin", f"http://{cluster.address('admin')}")
    listed = as_json("partitions", "list", *admin)["partitions"]
    assert [row["partition"] for row in listed] == list(range(8))
    assert all((row["role"], row["lag"], row["error"]) == ("leader", 0, "") for row in listed)
    assert all(row["tail_lsn"] == row["applied_lsn"] + 1 for row in listed)
    assert sum(row["invocations"]["completed"] for row in listed) >= 6

    table = rows_of(done("partitions", "list", *admin).stdout)
    assert table[0][:7] == ["PARTITION", "NODE", "ROLE", "EPOCH", "APPLIED", "TAIL", "LAG"]
    assert [row[:3] for row in table[1:]] == [
        [str(row["partition"]), row["node"], "leader"] for row in listed
    ]

    detail = as_json("partitions", "inspect", "3", *admin)
    # Its store may have been synced in between.
    synced = {"durable_lsn": 0, "parked_lsn": 0}
    assert detail["status"] | synced == listed[3] | synced
    assert len(detail["digest"]) == 32
    assert (detail["running"], detail["waiting_for_worker"]) == (0, 0)
    lines = done("partitions", "inspect", "3", *admin).stdout.splitlines()
    cells = {name: value for name, _, value in (line.partition("  ") for line in lines)}
    cells = {name: value.strip() for name, value in cells.items()}
    assert cells["digest"] == detail["digest"]
    assert cells["partition"] == "3"

    wrong = run_perdure("partitions", "inspect", "8", *admin)
    assert wrong.status == 1
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("error PD1001: "), wrong
    assert "partitions list" in wrong.stderr


def test_without_a_node(tmp_path: Path) -> None:
    """Each command says in one line what to do, and its exit status is 1."""
    with Cluster(tmp_path) as cluster:
        ingress = ("--ingress", cluster.address("ingress-grpc"))
        admin = ("--admin", f"http://{cluster.address('admin')}")
        for command in (
            ("call", "Greeter/greet", '"Ann"', *ingress),
            ("send", "Greeter/greet", '"Ann"', *ingress),
            ("partitions", "list", *admin),
            ("partitions", "inspect", "0", *admin),
        ):
            ended = run_perdure(*command)
            assert ended.status == 1, ended
            assert ended.stdout == ""
            assert ended.stderr.startswith("error PD0201: no node answers at "), ended
            assert "perdure server" in ended.stderr
            assert "Traceback" not in ended.stderr
