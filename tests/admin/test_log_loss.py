"""``perdure logs seal --accept-loss``: what is looked at before anything is given up."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from perdure.admin.cli.main import run
from perdure.log.chain import Segment
from perdure.log.replicated.holdings import SegmentHoldings, ServerHolding
from perdure.log.upkeep import SegmentHealth

from .logs_node import LogsNode, on_logs_node
from .test_cli import Ended

Scenario = Callable[["Losing", LogsNode, Callable[..., Awaitable[Ended]]], Awaitable[None]]


class Losing:
    """What a test says of the log-servers; the log itself is a local one, which can be sealed."""

    def __init__(self, node: LogsNode) -> None:
        self.health: SegmentHealth | None = SegmentHealth("incomplete", ("x",), ("n2", "n3"))
        self.servers: tuple[ServerHolding, ...] = (
            ServerHolding("n1", "ok", tail=9, known_tail=9),
            ServerHolding("n2", "lost"),
            ServerHolding("n3", "no answer"),
        )
        self.applied: Mapping[str, int] = {"n4": 2}
        self.given_up: list[tuple[int, list[str]]] = []
        view = cast("Any", node.view)
        view.segment_health = lambda segment: self.health
        view.segment_holdings = self._holdings
        view.give_up = self._give_up
        status = view.cluster_view.status
        view._cluster_view = SimpleNamespace(
            status=status, applied_elsewhere=lambda partition: self.applied
        )

    async def _holdings(
        self, segment: Segment, first: int, end: int, known_tail: int
    ) -> SegmentHoldings:
        return SegmentHoldings("thin", 1, 9, 2, 1, True, self.servers)

    def _give_up(self, segment: Segment, nodes: Collection[str]) -> None:
        self.given_up.append((segment.index, list(nodes)))


@pytest.fixture
def losing(capsys: pytest.CaptureFixture[str]) -> Callable[[Scenario], None]:
    """Runs a scenario on a node whose log has lost disks."""

    def start(scenario: Scenario) -> None:
        async def both(node: LogsNode) -> None:
            async def seal(*arguments: str) -> Ended:
                capsys.readouterr()
                line = ["logs", "seal", "0", *arguments, "--admin", f"http://{node.address}"]
                code = await asyncio.to_thread(run, line)
                captured = capsys.readouterr()
                return Ended(code, captured.out, captured.err)

            await node.add("ada")
            await scenario(Losing(node), node, seal)

        on_logs_node(both)

    return start


Start = Callable[[Scenario], None]


def test_what_is_left_is_shown_and_the_log_ends_there(losing: Start) -> None:
    async def scenario(world: Losing, node: LogsNode, seal: Any) -> None:
        gone = ((2, 3), (5, 5))
        world.servers = (
            msgspec.structs.replace(world.servers[0], missing=gone),
            *world.servers[1:],
        )
        shown = await seal("--accept-loss", "--dry-run")
        assert shown.code == 0
        assert "n2, n3 lost the disk, n1 still has it" in shown.out
        assert "what is left ends before LSN 9" in shown.out
        assert "the records from LSN 2 to 3 are on none" in shown.out
        unasked = await seal("--accept-loss")
        assert unasked.code == 2
        assert "what is left ends before LSN 9" in unasked.err
        assert world.given_up == []
        assert not (await node.get("/logs/0"))["sealed"]

        done = await seal("--accept-loss", "--yes")
        assert done.code == 0
        assert "log 0 is sealed: segment 2" in done.out
        assert world.given_up == [(2, ["n2", "n3"])]
        assert (await node.get("/logs/0"))["sealed"]
        again = await seal("--accept-loss", "--yes")
        assert (again.code, "PD1015" in again.err) == (1, True)
        assert "sealed already" in again.err

    losing(scenario)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"health": None}, "kept on one node"),
        ({"health": SegmentHealth("whole")}, "is whole, so a seal needs no loss"),
        (
            {"health": SegmentHealth("under-replicated", ("x",), ("n3",))},
            "is under-replicated, so a seal needs no loss",
        ),
        (
            {"health": SegmentHealth("incomplete", ("x",), ("n2",), ("n3",))},
            "n3 of segment 2 of log 0 is dead",
        ),
        (
            {"servers": (ServerHolding("n1", "no answer"), ServerHolding("n2", "lost"))},
            "n1 of segment 2 of log 0 is left and did not answer",
        ),
        (
            {"servers": (ServerHolding("n2", "lost"), ServerHolding("n3", "lost"))},
            "no log-server of segment 2 of log 0 is left",
        ),
        ({"applied": {"n4": 9}}, "n4 has applied log 0 up to LSN 9"),
        (
            {"servers": (ServerHolding("n1", "ok", tail=3, known_tail=2),)},
            "node-1 has applied log 0 up to LSN 3",
        ),
    ],
)
def test_it_is_refused_with_the_reason(losing: Start, changes: dict[str, Any], why: str) -> None:
    async def scenario(world: Losing, node: LogsNode, seal: Any) -> None:
        for name, value in changes.items():
            setattr(world, name, value)
        refused = await seal("--accept-loss", "--yes")
        assert (refused.code, "PD1015" in refused.err) == (1, True)
        assert why in refused.err
        assert world.given_up == []
        assert not (await node.get("/logs/0"))["sealed"]

    losing(scenario)


def test_another_segment_than_the_last_one_and_a_dry_run_of_nothing(losing: Start) -> None:
    async def scenario(world: Losing, node: LogsNode, seal: Any) -> None:
        wrong = await seal("--accept-loss", "--segment", "7", "--yes")
        assert (wrong.code, "PD0811" in wrong.err) == (1, True)
        assert (await seal("--dry-run")).code == 2
        plain = await node.ask("POST", "/logs/0/seal", {"dry_run": True})
        assert (plain.status, plain.body["code"]) == (400, "PD1003")
        assert world.given_up == []

    losing(scenario)


def test_a_log_that_cannot_tell_its_tail_is_shown_at_once(losing: Start) -> None:
    async def scenario(world: Losing, node: LogsNode, seal: Any) -> None:
        async def asked() -> None:
            raise AssertionError("nobody is to wait for servers that are known to be lost")

        log = await node.log()
        find_tail, log.find_tail = log.find_tail, asked  # type: ignore[method-assign, assignment]
        detail = await node.get("/logs/0")
        assert detail["error"].startswith("PD0821 segment 2 of log 0 is incomplete")
        assert detail["segments"][-1]["problems"] == ["x"]
        [row] = (await node.get("/logs"))["logs"]
        assert (row["health"], row["error"][:6]) == ("incomplete", "PD0821")
        log.find_tail = find_tail  # type: ignore[method-assign]
        # Once it is sealed as a whole, the chain says where it ends.
        assert (await seal("--accept-loss", "--yes")).code == 0
        assert (await node.get("/logs/0"))["error"] == ""

    losing(scenario)
