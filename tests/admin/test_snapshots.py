"""Snapshots over admin REST and on the command line: taken, listed, shown, and what is refused."""

import asyncio
import json
from pathlib import Path

import pytest

from perdure.admin.cli.main import run
from perdure.core.ids import LogId

from .logs_node import LogsNode, on_logs_node
from .test_cli import Ended

TRIMS = "log.trim_interval=10ms"


def options(folder: Path) -> tuple[str, ...]:
    """A node that takes snapshots when it is asked to."""
    return (TRIMS, f"snapshots.directory={folder / 'snapshots'}", "snapshots.interval=0s")


def test_snapshots_are_taken_and_listed(tmp_path: Path) -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        assert await node.get("/snapshots") == {
            "place": str(tmp_path / "snapshots"),
            "snapshots": [],
            "problems": [],
        }
        assert (await node.get("/partitions/0"))["snapshot"] is None
        [created] = (await node.post("/snapshots", {"partition": 0}))["snapshots"]
        [again] = (await node.post("/snapshots", {"all": True}))["snapshots"]
        await node.add("ada")
        [newer] = (await node.post("/snapshots", {"all": True}))["snapshots"]
        listed = await node.get("/snapshots?partition=0")
        inspected = await node.get("/partitions/0")

        statuses = [item["status"] for item in (created, again, newer)]
        assert statuses == ["created", "unchanged", "created"]
        assert created["snapshot"] == again["snapshot"]
        assert created["snapshot"]["lsn"] == 3
        assert created["snapshot"]["created_at"].startswith("2023-11-14T22:13")
        assert listed["snapshots"] == [newer["snapshot"], created["snapshot"]]
        assert inspected["snapshot"]["name"] == newer["snapshot"]["name"]
        assert inspected["snapshot"]["digest"] == inspected["digest"]
        # A damaged one does not hide the others.
        (folder,) = (tmp_path / "snapshots").glob(f"*/{created['snapshot']['name']}")
        (folder / "metadata").write_bytes(b"{}")
        listed = await node.get("/snapshots")
        assert listed["snapshots"] == [newer["snapshot"]]
        [problem] = listed["problems"]
        assert problem["code"] == "PD0922"
        assert str(folder / "metadata") in problem["message"]

    on_logs_node(scenario, *options(tmp_path))


def test_what_is_not_understood_is_refused(tmp_path: Path) -> None:
    async def scenario(node: LogsNode) -> None:
        for body, status, code in (
            ({}, 400, "PD1003"),
            ({"partition": 0, "all": True}, 400, "PD1003"),
            ({"partition": "x"}, 400, "PD1003"),
            ({"partition": 1}, 404, "PD1001"),
            ({"partition": -1}, 404, "PD1001"),
            ({"some": 1}, 400, "PD1003"),
        ):
            answer = await node.ask("POST", "/snapshots", body)
            assert (answer.status, answer.body["code"]) == (status, code), body
        for query, code in (
            ("partition=x", "PD1003"),
            ("from=1", "PD1003"),
            ("partition=1", "PD1001"),
        ):
            answer = await node.ask("GET", f"/snapshots?{query}")
            assert answer.body["code"] == code

    on_logs_node(scenario, *options(tmp_path))


def test_a_node_without_a_directory_says_so() -> None:
    async def scenario(node: LogsNode) -> None:
        for answer in (
            await node.ask("GET", "/snapshots"),
            await node.ask("POST", "/snapshots", {"partition": 0}),
        ):
            assert (answer.status, answer.body["code"]) == (409, "PD0920")
            assert "set snapshots.directory" in answer.body["message"]
        failed = await node.post("/snapshots", {"all": True})
        assert failed["snapshots"][0]["status"] == "failed"
        assert (await node.get("/logs/0"))["archived_lsn"] is None

    on_logs_node(scenario)


def test_trim_removes_nothing_that_no_snapshot_has(tmp_path: Path) -> None:
    async def scenario(node: LogsNode) -> None:
        for _ in range(3):
            await node.add("ada")
        await node.until_durable(7)
        refused = await node.ask("POST", "/logs/0/trim", {"lsn": 5})
        assert (refused.status, refused.body["code"]) == (409, "PD1004")
        assert "perdure snapshots create --partition 0" in refused.body["message"]
        await node.post("/snapshots", {"partition": 0})
        assert (await node.get("/logs/0"))["archived_lsn"] == 7
        assert (await node.post("/logs/0/trim", {"lsn": 5}))["trim_point"] == 5

    on_logs_node(scenario, *options(tmp_path))


def test_the_commands_print_tables_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(node: LogsNode) -> None:
        async def command(*arguments: str) -> Ended:
            capsys.readouterr()
            line = [*arguments, "--admin", f"http://{node.address}"]
            code = await asyncio.to_thread(run, line)
            captured = capsys.readouterr()
            return Ended(code, captured.out, captured.err)

        await node.add("ada")
        created = await command("snapshots", "create", "--partition", "0")
        unchanged = await command("snapshots", "create", "--all", "-o", "json")
        listed = await command("snapshots", "list")
        as_json = await command("snapshots", "list", "--partition", "0", "-o", "json")
        inspected = await command("partitions", "inspect", "0")
        described = await command("logs", "describe", "0")
        both = await command("snapshots", "create", "--all", "--partition", "0")
        neither = await command("snapshots", "create")
        unknown = await command("snapshots", "create", "--partition", "9")

        assert created.code == unchanged.code == listed.code == 0
        # The node of this process may have logged before.
        heading, row = created.out.splitlines()[-2:]
        assert heading.split()[:4] == ["PARTITION", "STATUS", "LSN", "EPOCH"]
        assert row.split()[:4] == ["0", "created", "3", "1"]
        assert json.loads(unchanged.out)["snapshots"][0]["status"] == "unchanged"
        [snapshot] = json.loads(as_json.out)["snapshots"]
        assert listed.out.splitlines()[1].split()[-1] == snapshot["name"]
        assert f"snapshot digest       {snapshot['digest']}" in inspected.out
        assert "lsn 3, 2023-11-14T22:13" in inspected.out
        assert described.out.splitlines()[1].split()[4] == "3"
        assert both.code == neither.code == 2
        assert (unknown.code, unknown.out) == (1, "")
        assert "PD1001" in unknown.err
        (folder,) = (tmp_path / "snapshots").glob("*/0*")
        (folder / "metadata").write_bytes(b"{}")
        damaged = await command("snapshots", "list")
        assert (damaged.code, len(damaged.out.splitlines())) == (0, 1)
        assert "PD0922" in damaged.err

    on_logs_node(scenario, *options(tmp_path))


def test_a_failed_snapshot_of_many_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(node: LogsNode) -> None:
        line = ["snapshots", "create", "--all", "--admin", f"http://{node.address}"]
        code = await asyncio.to_thread(run, line)
        captured = capsys.readouterr()

        assert code == 1
        assert "partition 0: PD0920" in captured.err
        assert captured.out.splitlines()[-1].split()[:2] == ["0", "failed"]

    on_logs_node(scenario)


def test_the_view_knows_how_far_the_archive_is(tmp_path: Path) -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        assert node.view.archived_lsn(LogId(0)) == 0
        await node.post("/snapshots", {"partition": 0})
        assert node.view.archived_lsn(LogId(0)) == 3

    on_logs_node(scenario, *options(tmp_path))
