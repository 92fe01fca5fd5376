"""The cluster over admin REST and on the command line."""

import asyncio
import http.client
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.admin.cli.main import run
from perdure.admin.http import AdminServer
from perdure.core.metrics import Metrics
from perdure.metadata.nodes import Addresses

from ..node.controller.facts import view_of
from .small_cluster import ClusterFakeView, SmallCluster, on_cluster
from .test_cli import NOBODY, Ended

Ask = Callable[..., Awaitable[tuple[int, Any]]]
Command = Callable[..., Awaitable[Ended]]


class Served:
    """A small cluster behind admin REST."""

    def __init__(
        self, cluster: SmallCluster, address: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Take where it is."""
        self.cluster = cluster
        self.address = address
        self._capsys = capsys

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON."""

        def asked() -> tuple[int, Any]:
            connection = http.client.HTTPConnection(self.address, timeout=60)
            headers = {} if method == "GET" else {"content-type": "application/json"}
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            answer = response.status, json.loads(response.read())
            connection.close()
            return answer

        return await asyncio.to_thread(asked)

    async def command(self, *arguments: str) -> Ended:
        """Run a command line against it."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(run, [*arguments, "--admin", f"http://{self.address}"])
        captured = self._capsys.readouterr()
        return Ended(code, captured.out, captured.err)


@pytest.fixture
def serve(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a scenario against a cluster behind admin REST."""

    def start(scenario: Callable[[Served], Awaitable[None]]) -> None:
        async def body(cluster: SmallCluster) -> None:
            server = AdminServer(ClusterFakeView(cluster), Metrics())
            address = await server.start("127.0.0.1:0")
            try:
                await scenario(Served(cluster, address, capsys))
            finally:
                await server.stop()

        on_cluster(body)

    return start


Serve = Callable[[Callable[[Served], Awaitable[None]]], None]


def test_the_shape_of_the_answer(serve: Serve) -> None:
    async def scenario(node: Served) -> None:
        status, body = await node.ask("GET", "/cluster")

        assert status == 200
        assert set(body) == {
            "cluster", "fingerprint", "me", "replicas", "nodes", "partitions", "warnings",
        }  # fmt: skip
        assert set(body["nodes"][0]) == {
            "id", "name", "generation", "state", "leaving", "roles", "zone", "storage", "drained",
            "addresses",
            "clock_ahead_ms",
        }  # fmt: skip
        assert set(body["nodes"][0]["addresses"]) == {
            "node", "ingress_http", "ingress_grpc", "admin",
        }  # fmt: skip
        assert set(body["partitions"][0]) == {
            "partition", "leader", "replicas", "role", "epoch", "applied_lsn", "lag",
            "stopped",
        }  # fmt: skip

    serve(scenario)


def test_every_refusal_has_its_status(serve: Serve) -> None:
    async def scenario(node: Served) -> None:
        await node.cluster.place((1, (1, 2)))
        members = "/cluster/metadata/members"
        for method, path, body, expected in (
            ("POST", "/cluster/nodes/node-9/drain", None, (404, "PD1119")),
            ("POST", "/cluster/nodes/node-1/drain?x=1", None, (400, "PD1003")),
            ("DELETE", "/cluster/nodes/node-2", None, (409, "PD1120")),
            ("DELETE", "/cluster/nodes/node-2?lost=maybe", None, (400, "PD1003")),
            ("DELETE", "/cluster/nodes/node-9", None, (404, "PD1119")),
            ("POST", "/cluster/partitions/0/move", {"to": "node-3"}, (409, "PD1121")),
            ("POST", "/cluster/partitions/9/move", {"to": "node-2"}, (409, "PD1121")),
            ("POST", "/cluster/partitions/x/move", {"to": "node-2"}, (404, "PD1001")),
            ("POST", "/cluster/partitions/0/move", {"to": "node-9"}, (404, "PD1119")),
            ("POST", "/cluster/partitions/0/move", {}, (400, "PD1003")),
            ("POST", "/cluster/partitions/0/move", {"to": 3}, (400, "PD1003")),
            ("POST", members, {"name": "node-2"}, (409, "PD1120")),
            ("POST", members, {"address": "a:1"}, (400, "PD1003")),
            ("DELETE", f"{members}/n1", None, (409, "PD0606")),
            ("DELETE", f"{members}/n9", None, (409, "PD0606")),
            ("GET", "/cluster/metadata/keys/none", None, (404, "PD1001")),
            ("PUT", "/cluster/metadata/keys/nodes", {}, (405, "PD1002")),
            ("GET", "/cluster/metadata/keys/" + "x" * 1025, None, (400, "PD0202")),
        ):
            status, answer = await node.ask(method, path, body)
            assert (status, answer["code"]) == expected, (method, path, answer)
            assert answer["message"]
        node.cluster.joined = False
        status, answer = await node.ask("GET", "/cluster")
        assert (status, answer["code"]) == (503, "PD1010")
        assert "it waits for the metadata servers (PD0602: nobody answers)" in answer["message"]

    serve(scenario)


def test_lost_metadata_servers_are_told(serve: Serve) -> None:
    async def scenario(node: Served) -> None:
        node.cluster.servers._proposer.options = type(node.cluster.servers._proposer.options)(
            operation_seconds=0.05
        )
        node.cluster.hosts.stop(0)
        status, _ = await node.ask("GET", "/cluster/metadata/members")
        assert status in (200, 503)
        told = await node.command("doctor", "-o", "json")
        assert told.code == 1
        [problem] = [
            each for each in json.loads(told.out)["problems"] if each["where"] == "metadata"
        ]
        assert problem["severity"] == "error"
        assert "n1" in problem["what"]

    serve(scenario)


def test_metadata_is_shown_as_it_is(serve: Serve) -> None:
    async def scenario(node: Served) -> None:
        await node.cluster.metadata.put("some/odd key", b"\xff\x00")
        status, nodes = await node.ask("GET", "/cluster/metadata/keys/nodes")
        assert status == 200
        assert nodes["version"] == 1
        assert nodes["value"]["cluster"] == "c"
        _, odd = await node.ask("GET", "/cluster/metadata/keys/some%2Fodd%20key")
        assert odd == {"key": "some/odd key", "version": 1, "base64": "/wA="}
        _, keys = await node.ask("GET", "/cluster/metadata/keys?prefix=some")
        assert keys == {"keys": ["some/odd key"], "more": False}
        listed = await node.command("metadata", "get")
        assert listed.out.split() == ["KEY", "nodes", "placement", "some/odd", "key"]
        shown = await node.command("metadata", "get", "nodes")
        assert '"fingerprint": "f"' in shown.out
        assert "/wA=" in (await node.command("metadata", "get", "some/odd key")).out
        as_json = await node.command("metadata", "get", "nodes", "-o", "json")
        assert json.loads(as_json.out)["value"]["cluster"] == "c"
        missing = await node.command("metadata", "get", "none")
        assert (missing.code, missing.out) == (1, "")
        assert "error PD1001" in missing.err

    serve(scenario)


def test_commands_show_the_cluster(serve: Serve) -> None:
    async def scenario(node: Served) -> None:
        await node.cluster.place((1, (1, 2)))
        node.cluster.seen.change(view_of(node.cluster.seen.nodes, dead=(3,)))
        shown = await node.command("cluster", "status")
        assert shown.code == 0
        assert "node-3  n3:1  dead" in shown.out
        nodes = await node.command("nodes", "list")
        assert [line.split()[0] for line in nodes.out.splitlines()] == [
            "NODE", "node-1", "node-2", "node-3",
        ]  # fmt: skip
        for name in ("cluster", "nodes"):
            command = (name, "status" if name == "cluster" else "list", "-o", "json")
            assert len(json.loads((await node.command(*command)).out)["nodes"]) == 3
        members = await node.command("metadata", "members")
        assert "in order" in members.out
        as_json = json.loads((await node.command("metadata", "members", "-o", "json")).out)
        assert as_json["members"][0]["name"] == "n1"

    serve(scenario)


def test_commands_change_the_cluster(serve: Serve) -> None:
    async def scenario(node: Served) -> None:
        cluster = node.cluster
        await cluster.place((1, (1, 2)))
        moved = await node.command("partitions", "move", "0", "--to", "node-2")
        assert moved.out.splitlines()[1].split() == ["0", "node-2", "node-1,node-2"]
        refused = await node.command("partitions", "move", "0", "--to", "node-3")
        assert (refused.code, refused.out) == (1, "")
        assert "error PD1121" in refused.err
        drained = await node.command("nodes", "drain", "node-3")
        assert drained.out.splitlines()[1].split() == ["node-3", "n3:1", "alive,drained"]
        alive = await node.command("nodes", "remove", "node-3", "--yes")
        assert (alive.code, alive.out) == (1, "")
        assert "stop it first" in alive.err
        cluster.die(3)
        await cluster.decide()
        unasked = await node.command("nodes", "remove", "node-3")
        assert unasked.code == 2
        removed = await node.command("nodes", "remove", "node-3", "--yes", "-o", "json")
        assert json.loads(removed.out)["removed"]["name"] == "node-3"
        await node.command("nodes", "drain", "node-2")
        last = await node.command("nodes", "drain", "node-1")
        assert "error PD1120" in last.err
        undrained = await node.command("nodes", "undrain", "node-2", "-o", "json")
        assert json.loads(undrained.out)["drained"] is False

    serve(scenario)


def test_partitions_are_listed_as_their_leaders_see_them(serve: Serve) -> None:
    """Two nodes answer at the same place, which says so; the third one does not answer."""

    async def scenario(node: Served) -> None:
        cluster = node.cluster
        # Where their admin REST is does not matter: nodes reach each other.
        await cluster.set_node(2, addresses=Addresses("h:1", admin=NOBODY))
        await cluster.set_node(3, addresses=Addresses("h:2", admin=NOBODY))
        await cluster.place((1, (1, 2)), (2, (1, 2)), (3, (2, 3)), (0, (2,)))
        listed = await node.command("partitions", "list")
        rows = [line.split() for line in listed.out.splitlines()]
        assert rows[0][:4] == ["PARTITION", "NODE", "REPLICAS", "ROLE"]
        assert rows[1][:4] == ["0", "node-1", "node-1,node-2", "leader"]
        assert rows[2][:4] == ["1", "node-2", "node-1,node-2", "stopped"]
        assert rows[3][:4] == ["2", "node-3", "node-2,node-3", "unknown"]
        assert rows[4][:4] == ["3", "-", "node-2", "unknown"]
        assert "node-3 does not tell" in listed.err
        as_json = json.loads((await node.command("partitions", "list", "-o", "json")).out)
        assert as_json["partitions"][0]["status"]["role"] == "leader"
        assert as_json["partitions"][2]["status"] is None
        here = await node.command("partitions", "list", "--here")
        assert [line.split()[1] for line in here.out.splitlines()] == ["NODE", "node-1", "node-1"]
        inspected = await node.command("partitions", "inspect", "1")
        assert "partition 1 is led by node-2, which was asked" in inspected.err
        gone = await node.command("partitions", "inspect", "2")
        assert (gone.code, gone.out) == (1, "")
        assert "node node-3 cannot be reached" in gone.err
        status, refused = await node.ask("GET", "/cluster/nodes/node-9/ask/version")
        assert (status, refused["code"]) == (404, "PD1001")
        assert "node-1, node-2, node-3" in refused["message"]
        for name in ("node-1", "node-2"):
            ask = f"/cluster/nodes/{name}/ask"
            status, refused = await node.ask("GET", f"{ask}/metrics")
            assert (status, refused["code"]) == (404, "PD1001")
            status, refused = await node.ask("POST", f"{ask}/partitions/7/skip", {"lsn": 1})
            assert (status, refused["code"]) == (404, "PD1001")
            assert "no partition '7'" in refused["message"]
            status, refused = await node.ask("POST", f"{ask}/version", {})
            assert (status, refused["code"]) == (405, "PD1002")

    serve(scenario)


def test_doctor_asks_everybody(serve: Serve) -> None:
    async def scenario(node: Served) -> None:
        cluster = node.cluster
        await cluster.set_node(3, storage="data-loss", addresses=Addresses("h:2", admin=NOBODY))
        await cluster.place((1, (1, 2)), (1, (1, 2)), (2, (2, 3)), (0, (2,)))
        told = await node.command("doctor", "-o", "json")
        found = {(each["severity"], each["where"]) for each in json.loads(told.out)["problems"]}

        assert told.code == 1
        assert ("error", "partition 3") in found
        assert ("error", "partition 1 on node-1") in found
        assert ("error", "node-3") in found
        assert ("warning", "node-3") in found
        assert "2 of 3 nodes answered" in told.err
        table = await node.command("doctor")
        assert table.out.split()[:4] == ["SEVERITY", "WHERE", "WHAT", "FIX"]

    serve(scenario)
