"""``perdure partitions skip`` on a real node: what it shows, asks, refuses and leaves behind."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from perdure.admin.cli.main import run
from perdure.log.types import Record
from perdure.partition_processor.describing import PARKED, UNFIT
from perdure.partition_processor.digests import DifferenceError
from perdure.partition_processor.machine import RecordFailedError
from perdure.partition_processor.proposals import Proposal
from perdure.partition_processor.status import StoppedCopy
from perdure.partition_processor.tables.aside import Aside

from .logs_node import LogsNode, on_logs_node
from .small_cluster import SmallCluster, on_cluster
from .test_cli import Ended

Command = Callable[..., Awaitable[Ended]]
Scenario = Callable[[LogsNode, Command], Awaitable[None]]
OnNode = Callable[[Scenario], None]


@pytest.fixture
def on_node(capsys: pytest.CaptureFixture[str]) -> OnNode:
    """Runs a scenario with a node and with what runs commands against it."""

    def start(scenario: Scenario) -> None:
        async def both(node: LogsNode) -> None:
            async def command(*arguments: str) -> Ended:
                capsys.readouterr()
                line = [*arguments, "--admin", f"http://{node.address}"]
                code = await asyncio.to_thread(run, line)
                captured = capsys.readouterr()
                return Ended(code, captured.out, captured.err)

            await scenario(node, command)

        on_logs_node(both)

    return start


async def parked(node: LogsNode) -> int:
    """Park the node's partition; the LSN of the record that it is parked at."""
    processor = node.view.manager.processors[0]
    proposals = processor._proposals
    assert proposals is not None
    proposals.propose(Proposal(99, b"", (), 0, None, None, None))
    async with asyncio.timeout(60):
        while processor.parked is None:
            await asyncio.sleep(0.001)
    return processor.parked.lsn


def test_a_parked_partition_is_shown_and_goes_on_without_the_record(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, command: Command) -> None:
        await node.add("ada")
        number = str(lsn := await parked(node))
        doctor = await command("doctor")
        assert doctor.code == 1
        assert f"perdure partitions skip 0 --lsn {lsn}" in doctor.out

        shown = await command("partitions", "skip", "0", "--lsn", number, "--dry-run")
        assert shown.code == 0
        assert "would be skipped" in shown.out
        assert "kind 99" in shown.out
        unasked = await command("partitions", "skip", "0", "--lsn", number)
        assert unasked.code == 2
        assert "add --yes" in unasked.err
        assert f"LSN {lsn} of partition 0: kind 99" in unasked.err
        wrong = await command("partitions", "skip", "0", "--lsn", str(lsn + 1), "--yes")
        assert wrong.code == 1
        assert f"PD0918: partition 0 is parked at LSN {lsn}" in wrong.err
        assert node.view.manager.processors[0].parked is not None

        done = await command("partitions", "skip", "0", "--lsn", number, "--yes", "-o", "json")
        # The node's own log lines are captured, too.
        answer, _ = json.JSONDecoder().raw_decode(done.out[done.out.index("{") :])
        assert (answer["skip"]["lsn"], answer["already"], answer["dry_run"]) == (lsn, False, False)
        assert "@" in answer["skip"]["by"]
        again = await command("partitions", "skip", "0", "--lsn", number)
        assert again.code == 0
        assert "skipped before" in again.out
        await node.add("ada")
        inspected = await command("partitions", "inspect", "0")
        assert f"skipped lsn {lsn}" in inspected.out
        assert answer["skip"]["by"] in inspected.out
        assert (await command("doctor")).code == 0
        fine = await command("partitions", "skip", "0", "--lsn", str(lsn + 1), "--yes")
        assert f"is not parked on {node.view.node_name}: it is leader" in fine.err

    on_node(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/partitions/9/skip", {"lsn": 3}, 404, "PD1001"),
        ("/partitions/0/skip", {"lsn": 0}, 400, "PD1003"),
        ("/partitions/0/skip", {"lsn": 3, "by": "x" * 101}, 400, "PD1003"),
        ("/partitions/0/skip", {}, 400, "PD1003"),
        ("/partitions/0/skip", {"lsn": 3, "force": True}, 400, "PD1003"),
        ("/partitions/0/skip", {"lsn": 3}, 409, "PD0918"),
    ],
)
def test_what_is_not_taken(path: str, body: object, status: int, code: str) -> None:
    async def scenario(node: LogsNode) -> None:
        answer = await node.ask("POST", path, body)
        assert (answer.status, answer.body["code"]) == (status, code)

    on_logs_node(scenario)


def test_a_node_knows_how_far_others_are_with_a_partition() -> None:
    async def scenario(cluster: SmallCluster) -> None:
        cluster.seen.told = {(0, 1): 9, (0, 2): 7, (1, 3): 5, (0, 3): 8}
        assert cluster.view().applied_elsewhere(0) == {"node-2": 7, "node-3": 8}
        assert cluster.view().applied_elsewhere(2) == {}
        # Who is parked tells, too; of a copy that is not to be gone on from nothing follows.
        cluster.seen.stopped_copies = {(2, 2): (6, PARKED), (2, 3): (9, UNFIT), (2, 1): (6, PARKED)}
        assert cluster.view().applied_elsewhere(2) == {"node-2": 6}
        found = [StoppedCopy("node-1", 6, True), StoppedCopy("node-2", 6, True)]
        assert cluster.view().stopped_copies(2) == [*found, StoppedCopy("node-3", 9, False)]
        row = (await cluster.view().status()).partitions[2]
        assert row.stopped == cluster.view().stopped_copies(2)

    on_cluster(scenario)


def test_a_copy_that_is_set_aside_is_filled_anew_by_command(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, command: Command) -> None:
        await node.add("ada")
        manager = node.view.manager
        refused = await command("partitions", "refill", "0", "--yes")
        assert refused.code == 1
        assert "PD0928: partition 0 is leader on" in refused.err
        error = RecordFailedError(3, Record(1, b"", ()), DifferenceError("its rows differ"))
        processor = manager.processors[0]
        processor.aside = Aside(error.lsn, "its rows differ")
        processor.lose(error)
        manager._parked(processor, error)
        doctor = await command("doctor")
        assert doctor.code == 1
        assert f"perdure partitions refill 0 --on {node.view.node_name}" in doctor.out
        assert node.view.node_name in (await command("cluster", "status")).out.splitlines()[-1]

        unasked = await command("partitions", "refill", "0")
        assert unasked.code == 2
        assert f"Fill the copy of partition 0 on {node.view.node_name} anew?" not in unasked.out
        done = await command("partitions", "refill", "0", "--yes")
        assert done.code == 0, done.err
        assert "is filled anew" in done.out
        async with asyncio.timeout(120):
            while not manager.processors[0].leading:
                await asyncio.sleep(0.001)
        await node.add("ada")
        assert (await command("doctor")).code == 0

    on_node(scenario)
