"""The state of objects over admin REST and by ``perdure state``, on a real node."""

import asyncio
import base64
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.admin.cli.main import run
from perdure.core.protocol.messages import ENTRY_BYTES_MAX
from perdure.partition_processor.processor import NotLeadingError

from .logs_node import LogsNode
from .test_invocations_api import act, on_jobs, start, until
from .test_invocations_cli import OnNode, Perdure, on_node

__all__ = ["on_node"]
ANN = "service=Counter&key=ann"


async def change(node: LogsNode, *changes: object, key: str = "ann", **more: object) -> Any:
    """Ask for a change of a counter's state; the answer."""
    body = {"service": "Counter", "key": key, "changes": changes, **more}
    return await node.ask("POST", "/state", body)


def test_state_is_shown_and_changed_where_nobody_holds_the_object() -> None:
    async def scenario(node: LogsNode) -> None:
        empty = await node.get(f"/state?{ANN}")
        await node.node.call("Counter", "add", b"41", key="ann")
        before = await node.get(f"/state?{ANN}")
        done = await change(
            node,
            {"name": "value", "json": 9},
            {"name": "raw", "base64": base64.b64encode(b"\xff\x00").decode()},
            {"name": "nothing", "json": None},
        )
        after = await node.get(f"/state?{ANN}")
        one = await node.get(f"/state?{ANN}&name=value")
        answer = await node.node.call("Counter", "add", b"1", key="ann")

        assert (empty["entries"], empty["holder"]) == ([], None)
        assert before["entries"] == [{"name": "value", "value": {"bytes": 2, "json": 41}}]
        assert done.body == {"outcome": "done", "version": after["version"], "holder": None}
        assert after["entries"] == [
            {"name": "nothing", "value": {"bytes": 4, "json": None}},
            {"name": "raw", "value": {"bytes": 2, "base64": "/wA="}},
            {"name": "value", "value": {"bytes": 1, "json": 9}},
        ]
        assert [entry["name"] for entry in one["entries"]] == ["value"]
        assert answer.value == b"10"
        assert len({empty["version"], before["version"], after["version"]}) == 3

    on_jobs(scenario)


def test_replace_clears_what_is_not_named_and_clear_clears_one() -> None:
    async def scenario(node: LogsNode) -> None:
        await change(node, {"name": "a", "json": 1}, {"name": "b", "json": 2})
        await change(node, {"name": "a", "clear": True})
        cleared = await node.get(f"/state?{ANN}")
        await change(node, {"name": "c", "json": 3}, replace=True)
        replaced = await node.get(f"/state?{ANN}")

        assert [entry["name"] for entry in cleared["entries"]] == ["b"]
        assert [entry["name"] for entry in replaced["entries"]] == ["c"]

    on_jobs(scenario)


def test_a_change_for_another_version_is_refused_and_changes_nothing() -> None:
    async def scenario(node: LogsNode) -> None:
        old = (await node.get(f"/state?{ANN}"))["version"]
        first = await change(node, {"name": "a", "json": 1}, version=old)
        second = await change(node, {"name": "a", "json": 2}, version=old)
        state = await node.get(f"/state?{ANN}")

        assert first.status == 200
        assert (second.status, second.body["code"]) == (409, "PD1009")
        assert state["version"] in second.body["message"]
        assert state["entries"][0]["value"]["json"] == 1

    on_jobs(scenario)


def test_a_change_waits_for_its_turn_and_tells_what_it_came_to() -> None:
    async def scenario(node: LogsNode) -> None:
        holder = await start(node, "Counter", "hold", key="ann")
        await until(node, holder, "suspended")
        version = (await node.get(f"/state?{ANN}"))["version"]
        queued = await change(node, {"name": "a", "json": 1})
        timed_out = await change(node, {"name": "b", "json": 2}, wait_ms=20)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(change(node, {"name": "c", "json": 3}, wait_ms=300_000))
            too_late = group.create_task(
                change(node, {"name": "d", "json": 4}, wait_ms=300_000, version=version)
            )
            while len(node.node.engine.manager.processors[0].clients) < 2:
                await asyncio.sleep(0.005)
            await act(node, "kill", holder)
        state = await node.get(f"/state?{ANN}")

        assert queued.body["outcome"] == timed_out.body["outcome"] == "queued"
        assert queued.body["holder"]["id"] == holder
        assert waiting.result().body["outcome"] == "done"
        assert (too_late.result().status, too_late.result().body["code"]) == (409, "PD1009")
        assert [entry["name"] for entry in state["entries"]] == ["a", "b", "c"]
        assert state["holder"] is None
        assert len(node.node.engine.manager.processors[0].clients) == 0

    on_jobs(scenario)


def test_whoever_waits_for_a_turn_hears_that_the_node_stops() -> None:
    async def scenario(node: LogsNode) -> None:
        holder = await start(node, "Counter", "hold", key="ann")
        await until(node, holder, "suspended")
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(change(node, {"name": "a", "json": 1}, wait_ms=300_000))
            processor = node.node.engine.manager.processors[0]
            while len(processor.clients) < 1:
                await asyncio.sleep(0.005)
            processor.clients.fail(NotLeadingError("stopped"))

        assert (waiting.result().status, waiting.result().body["code"]) == (503, "PD0906")

    on_jobs(scenario)


def test_what_is_not_understood_is_refused() -> None:
    async def scenario(node: LogsNode) -> None:
        value = {"name": "a", "json": 1}
        for changes, more, words in [
            ([], {}, "1 to 1000"),
            ([value] * 2, {}, "twice"),
            ([{"name": "a"}], {}, "one of json"),
            ([{"name": "a", "json": 1, "clear": True}], {}, "one of json"),
            ([{"name": "a", "base64": "?"}], {}, "not base64"),
            ([value], {"version": "12"}, "32 hexadecimal"),
            ([value], {"wait_ms": -1}, "0 to"),
            ([value], {"service": "Jobs"}, "plain service"),
            ([value], {"key": "k" * 3000}, "2048 bytes"),
        ]:
            answer = await node.ask(
                "POST", "/state", {"service": "Counter", "key": "a", "changes": changes, **more}
            )
            assert (answer.status, answer.body["code"]) == (400, "PD1003"), answer
            assert words in answer.body["message"]
        unknown = await node.ask("GET", "/state?service=Nobody&key=a")
        half = await node.ask("GET", "/state?service=Counter")
        assert unknown.status == 404
        assert "Counter, SignUp" in unknown.body["message"]
        assert half.status == 400

    on_jobs(scenario)


def test_values_are_taken_and_shown_up_to_the_limit_of_an_entry() -> None:
    async def scenario(node: LogsNode) -> None:
        large = base64.b64encode(bytes(1024 * 1024)).decode()
        done = await change(node, {"name": "a", "base64": large})
        whole = await node.get(f"/state?{ANN}")
        one = await node.get(f"/state?{ANN}&name=a")
        body = b"x" * (2 * ENTRY_BYTES_MAX)
        huge = await node.ask("POST", "/state", body)

        assert done.status == 200
        assert whole["entries"][0]["value"] == {"bytes": 1024 * 1024, "too_long": True}
        assert one["entries"][0]["value"]["base64"] == large
        assert (huge.status, huge.body["code"]) == (413, "PD1005")

    on_jobs(scenario)


def test_state_is_read_and_written_by_command(on_node: OnNode, tmp_path: Path) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        photo, whole = tmp_path / "photo", tmp_path / "state.json"
        photo.write_bytes(b"\xff\xd8")
        whole.write_text('{"a": [1], "b": "text"}')
        ann = ("Counter", "ann")
        done = await perdure("state", "set", *ann, "value", "42")
        await perdure("state", "set", *ann, "photo", "--file", str(photo))
        shown = await perdure("state", "get", *ann)
        one = await perdure("state", "get", *ann, "value")
        none = await perdure("state", "get", *ann, "nothing")
        await perdure("state", "clear", *ann, "photo")
        await perdure("state", "set", *ann, "--file", str(whole), "--replace")
        as_json = json.loads((await perdure("state", "get", *ann, "-o", "json")).out)
        stale = await perdure("state", "set", *ann, "a", "1", "--version", "0" * 32)
        unasked = await perdure("state", "clear", *ann)
        await perdure("state", "clear", *ann, "--yes")
        empty = await node.get(f"/state?{ANN}")

        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("done; the state has version ")
        assert "(no JSON)" in shown.out
        assert one.out == "42\n"
        assert (none.code, none.out) == (1, "")
        assert "no entry 'nothing'" in none.err
        assert {entry["name"]: entry["value"]["json"] for entry in as_json["entries"]} == {
            "a": [1],
            "b": "text",
        }
        assert (stale.code, stale.out) == (1, "")
        assert stale.err.startswith("error PD1009")
        assert unasked.code == 2
        assert empty["entries"] == []

    on_node(scenario)


def test_command_says_that_a_change_is_queued(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        holder = await start(node, "Counter", "hold", key="ann")
        await until(node, holder, "suspended")
        line = ("state", "set", "Counter", "ann", "value", "1")
        at_once = await perdure(*line, "--no-wait")
        in_vain = await perdure(*line, "--timeout", "0.05")

        assert (at_once.code, at_once.err) == (0, "")
        assert at_once.out.startswith(f"queued behind {holder}")
        assert in_vain.code == 1
        assert f"held by {holder}" in in_vain.err
        assert "the change stays queued" in in_vain.err

    on_node(scenario)


def test_command_prints_bytes_as_they_are(on_node: OnNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        await change(node, {"name": "raw", "base64": "/wA="})
        out = io.BytesIO()
        stdout = SimpleNamespace(buffer=out, flush=lambda: None, isatty=lambda: False)
        monkeypatch.setattr(sys, "stdout", stdout)
        url = f"http://{node.address}"
        code = await asyncio.to_thread(
            run, ["state", "get", "Counter", "ann", "raw", "--admin", url]
        )
        monkeypatch.undo()

        assert (code, out.getvalue()) == (0, b"\xff\x00")

    on_node(scenario)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["set", "Counter", "a", "b"], "NAME and JSON, or --file"),
        (["set", "Counter", "a", "b", "1", "--file", __file__], "NAME and JSON, or --file"),
        (["set", "Counter", "a", "b", "one"], "not JSON"),
        (["set", "Counter", "a", "--file", __file__], "no JSON object"),
        (["set", "Counter", "a", "b", "--file", __file__, "--replace"], "without NAME"),
        (["set", "Counter", "a", "--file", "/nowhere"], "/nowhere"),
        (["get", "Counter"], "KEY"),
    ],
)
def test_wrong_usage_exits_2(
    line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["state", *line])
    captured = capsys.readouterr()

    assert (code, captured.out) == (2, "")
    assert words in captured.err
