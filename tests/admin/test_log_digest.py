"""``perdure logs digest``: what is asked of whom, what is printed, and when it fails."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from perdure.admin.cli.main import run
from perdure.log.chain import Segment
from perdure.log.replicated.holdings import SegmentHoldings, ServerHolding, Verdict

from .logs_node import LogsNode, on_logs_node
from .test_cli import Ended

Digest = Callable[..., Awaitable[Ended]]
Scenario = Callable[[LogsNode, Digest], Awaitable[None]]


def on_node(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    async def both(node: LogsNode) -> None:
        async def digest(*arguments: str) -> Ended:
            line = ["logs", "digest", "0", *arguments, "--admin", f"http://{node.address}"]
            capsys.readouterr()
            code = await asyncio.to_thread(run, line)
            captured = capsys.readouterr()
            return Ended(code, captured.out, captured.err)

        await node.add("ada")
        await node.post("/logs/0/reconfigure", {})
        await node.add("ada")
        await scenario(node, digest)

    on_logs_node(both)


def test_a_log_of_one_node_has_nothing_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(node: LogsNode, digest: Digest) -> None:
        ended = await digest()
        assert ended.code == 0
        assert "segment 2 is kept on one node" in ended.out
        wrong = await node.ask("GET", "/logs/0/digest?from=5&to=4")
        assert (wrong.status, wrong.body["code"]) == (400, "PD1003")

    on_node(scenario, capsys)


@pytest.mark.parametrize(
    ("verdict", "code", "line"),
    [
        ("whole", 0, "segment 3 is whole: each record is on 1 servers or more"),
        ("thin", 1, "segment 3: records are on 1 of the servers that answered, and are to be on 2"),
        ("missing", 1, "segment 3: records are on none"),
        ("conflict", 1, "which must never be: report it"),
        ("unknown", 1, "segment 3: no server answers"),
    ],
)
def test_what_servers_hold_is_told_in_lsns(
    verdict: Verdict, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(node: LogsNode, digest: Digest) -> None:
        asked: list[tuple[int, int, int, int]] = []

        async def held(
            segment: Segment, first_offset: int, end_offset: int, known_tail: int
        ) -> SegmentHoldings:
            asked.append((segment.index, first_offset, min(end_offset, 99), known_tail))
            servers = (
                ServerHolding("n1", "ok", "", 3, 3, 1, True, 3, 1, ((1, 1), (2, 2)), "ab" * 16),
                ServerHolding("n2", "no answer", "refused"),
                ServerHolding("n3", "ok", tail=2, known_tail=2),
            )
            return SegmentHoldings(verdict, 1, 3, 2, 1, verdict != "thin", servers)

        node.view.segment_holdings = held  # type: ignore[method-assign, assignment]
        ended = await digest()
        # The first segment has the LSNs 1 to 3; the second one, from 4 on, is open.
        assert asked == [(2, 1, 99, 4), (3, 1, 99, 1)]
        assert ended.code == code
        assert line in ended.out
        rows = [row.split() for row in ended.out.splitlines() if row.startswith("3 ")]
        told = ["3", "open", "4", "5", "n1", "ok", "6", "4", "at", "6", "1"]
        assert rows[0] == [*told, "abababababababab", "4-4,5-5"]
        assert rows[1][:8] == ["3", "open", "4", "5", "n2", "no", "answer:", "refused"]
        assert rows[2][4:9] == ["n3", "ok", "5", "-", "no"]
        assert ("there is more: --from 6" in ended.err) is (verdict == "thin")

        asked.clear()
        shown = json.loads((await digest("--from", "5", "--to", "6", "-o", "json")).out)
        assert asked == [(3, 2, 4, 1)]
        assert [segment["index"] for segment in shown["segments"]] == [3]
        asked.clear()
        await digest("--to", "3")
        assert asked == [(2, 1, 4, 4)]

    on_node(scenario, capsys)
