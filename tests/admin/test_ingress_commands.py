"""The commands that speak to the gRPC front door about invocations that exist, on a real node."""

import asyncio
import json
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from perdure.core.ids import InvocationId, invocation_id_text
from perdure.ingress.grpc import GrpcIngress

from ..ingress.front_doors import open_node
from .test_cli import Ended, Run, command

__all__ = ["command"]

UNKNOWN = invocation_id_text(InvocationId(bytes(range(24))))
Perdure = Callable[..., Ended]
"""Runs a command against the node."""


def on_node(command: Run, work: Callable[[Perdure], None]) -> None:
    """Run `work` in a thread beside a node with its gRPC front door."""

    async def serve() -> None:
        async with asyncio.timeout(60), open_node() as node:
            ingress = GrpcIngress(node.engine.dispatcher, stop_grace_seconds=0.2)
            address = await ingress.start("127.0.0.1:0")
            try:
                await asyncio.to_thread(
                    work, lambda *arguments: command(*arguments, "--ingress", address)
                )
            finally:
                await ingress.stop()

    # The node's log would come between what the commands print.
    with capture_logs():
        asyncio.run(serve())


def shown(ended: Ended) -> dict[str, object]:
    """What a command printed as JSON."""
    assert (ended.code, ended.err) == (0, ""), ended.err
    found: dict[str, object] = json.loads(ended.out)
    return found


def test_result_is_printed_by_id_by_key_and_by_workflow(command: Run) -> None:
    def work(perdure: Perdure) -> None:
        called = shown(
            perdure("call", "Greeter/greet", '"Ann"', "--idempotency-key", "k", "-o", "json")
        )
        identity = str(called["invocation_id"])
        by_key = ("--target", "Greeter/greet", "--idempotency-key", "k")
        for name in ("attach", "output"):
            assert perdure(name, identity).out == '"Hello Ann"\n'
            assert perdure(name, *by_key).out == '"Hello Ann"\n'
            assert shown(perdure(name, identity, "-o", "json")) == called

        perdure("send", "Trip/a/b/run", '"Rome"')
        early = perdure("output", "--workflow", "Trip/a/b")
        assert (early.code, early.out) == (1, "")
        assert early.err.startswith("error PD0510: ")
        assert "perdure attach" in early.err
        perdure("call", "Trip/a/b/book", '"two"')
        assert perdure("attach", "--workflow", "Trip/a/b").out == '"two to Rome"\n'
        unknown = perdure("attach", UNKNOWN)
        assert (unknown.code, unknown.err.split(":")[0]) == (1, "error PD0912")

    on_node(command, work)


def test_send_with_a_delay_prints_when_it_starts(command: Run) -> None:
    def work(perdure: Perdure) -> None:
        line = ("send", "Greeter/greet", '"Ann"', "--delay")
        table = perdure(*line, "1h30m")
        assert table.out.split()[:3] == ["INVOCATION", "STATUS", "STARTS"]
        sent = shown(perdure(*line, "1ms", "-o", "json"))
        assert set(sent) == {"invocation_id", "status", "execution_time"}
        assert perdure("attach", str(sent["invocation_id"])).out == '"Hello Ann"\n'
        assert "execution_time" not in shown(perdure(*line, "0", "-o", "json"))

    on_node(command, work)


def test_awakeable_is_resolved_and_rejected(command: Run) -> None:
    def awaited(perdure: Perdure, key: str) -> str:
        while (found := perdure("call", f"Box/{key}/awaited").out) == "null\n":
            pass
        return found.strip().strip('"')

    def work(perdure: Perdure) -> None:
        for key, line in (
            ("yes", ("resolve", '"fine"')),
            ("no", ("reject", "not today", "--code", "404")),
        ):
            sent = shown(perdure("send", f"Box/{key}/wait", "-o", "json"))
            verb, *rest = line
            awakeable_id = awaited(perdure, key)
            done = shown(perdure("awakeables", verb, awakeable_id, *rest, "-o", "json"))
            outcome = {"resolve": "resolved", "reject": "rejected"}[verb]
            assert done == {"awakeable_id": awakeable_id, "status": outcome}
            result = perdure("attach", str(sent["invocation_id"]))
            if verb == "resolve":
                assert result.out == '"fine"\n'
            else:
                assert (result.code, result.err) == (1, "failed: [404] not today\n")

    on_node(command, work)


def test_signal_is_sent_with_a_value_or_a_failure(command: Run) -> None:
    def work(perdure: Perdure) -> None:
        for line, code in (((('"now"'),), 0), (("--reject", "never"), 1)):
            sent = shown(perdure("send", "Greeter/wait_for_signal", "-o", "json"))
            identity = str(sent["invocation_id"])
            assert perdure("signal", identity, "go", *line).out.split() == [
                "INVOCATION",
                "STATUS",
                identity,
                "sent",
            ]
            result = perdure("attach", identity)
            assert result.code == code
            assert result.out == ('"now"\n' if code == 0 else "")
            assert result.err == ("" if code == 0 else "failed: [500] never\n")

    on_node(command, work)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["attach"], "say which invocation is meant"),
        (["attach", UNKNOWN, "--workflow", "A/b"], "say which invocation is meant"),
        (["output", "--target", "A/b"], "say which invocation is meant"),
        (["output", "--idempotency-key", "k"], "say which invocation is meant"),
        (["output", "--workflow", "Trip"], "NAME/KEY"),
        (["attach", "--target", "A", "--idempotency-key", "k"], "--target"),
        (["send", "Greeter/greet", "--delay", "soon"], "--delay"),
        (["send", "Greeter/greet", "--delay=-1s"], "--delay"),
        (["awakeables", "resolve", "sign_1x", "text"], "quotes of its own"),
        (["awakeables", "reject", "sign_1x"], "REASON"),
        (["awakeables", "reject", "sign_1x", "no", "--code", "0"], "--code"),
        (["signal", UNKNOWN, "n", "1", "--reject", "no"], "not both"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wanted(
    command: Run, arguments: list[str], words: str
) -> None:
    ended = command(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert words in " ".join(ended.err.split())


@pytest.mark.parametrize(
    "line", ["attach", "output", "signal", "awakeables resolve", "awakeables reject"]
)
def test_help_has_examples(command: Run, line: str) -> None:
    ended = command(*line.split(), "--help")

    assert ended.code == 0
    assert f"perdure {line} " in ended.out
