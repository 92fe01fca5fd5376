"""``perdure invocations|services|deployments``: what they print where, questions, exit codes."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from perdure.admin.cli.invocations import actions, filters
from perdure.admin.cli.main import run
from perdure.core.ids import invocation_id_text

from .logs_node import LogsNode
from .test_cli import Ended
from .test_invocations_api import NOBODY, on_jobs, start, until

Perdure = Callable[..., Awaitable[Ended]]
OnNode = Callable[[Callable[[LogsNode, Perdure], Awaitable[None]]], None]


@pytest.fixture
def on_node(capsys: pytest.CaptureFixture[str]) -> OnNode:
    """Runs a scenario with a node and with what runs ``perdure …`` against it."""

    def begin(scenario: Callable[[LogsNode, Perdure], Awaitable[None]]) -> None:
        async def both(node: LogsNode) -> None:
            async def perdure(*arguments: str) -> Ended:
                capsys.readouterr()
                line = [*arguments, "--admin", f"http://{node.address}"]
                code = await asyncio.to_thread(run, line)
                captured = capsys.readouterr()
                return Ended(code, captured.out, captured.err)

            await scenario(node, perdure)

        on_jobs(both)

    return begin


def test_list_shows_a_line_for_each_and_what_there_is_to_say(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        failing = await start(node, "Jobs", "fail")
        await until(node, failing, "backing-off")
        done = await node.node.call("Counter", "add", b"1", key="ann")
        listed = await perdure("invocations", "list")
        everything = await perdure("invocations", "list", "--all", "--oldest-first")
        as_json = await perdure("invocations", "list", "--status", "completed", "-o", "json")
        heading, line = listed.out.splitlines()
        (row,) = json.loads(as_json.out)["invocations"]

        assert heading.split()[:3] == ["INVOCATION", "TARGET", "STATUS"]
        assert line.split()[:3] == [failing, "Jobs/fail", "backing-off"]
        assert "next attempt" in line
        assert "printer is on fire" in line
        assert "Counter/ann/add" in everything.out
        assert "succeeded" in everything.out
        assert row["id"] == invocation_id_text(done.invocation_id)
        assert {listed.code, everything.code, as_json.code} == {0}

    on_node(scenario)


def test_list_goes_on_from_page_to_page_up_to_its_limit(
    on_node: OnNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "PAGE_MAX", 2)

    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        for _ in range(7):
            await start(node, "Jobs", "nap")
        some = await perdure("invocations", "list", "-n", "5", "-o", "json")
        every = await perdure("invocations", "list", "--oldest-first", "-o", "json")
        cut = await perdure("invocations", "list", "-n", "5")

        assert len(json.loads(some.out)["invocations"]) == 5
        assert json.loads(some.out)["more"] is True
        assert len({row["id"] for row in json.loads(every.out)["invocations"]}) == 7
        assert "--limit 10" in cut.err

    on_node(scenario)


def test_describe_shows_waits_journal_and_failures(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        outer = await start(node, "Jobs", "outer")
        await until(node, outer, "suspended")
        failing = await start(node, "Jobs", "fail")
        await until(node, failing, "backing-off")
        shown = await perdure("invocations", "describe", outer)
        failed = await perdure("invocations", "describe", failing)
        as_json = await perdure("invocations", "describe", failing, "-o", "json")
        unknown = await perdure("invocations", "describe", NOBODY)

        assert "call to Jobs/nap (inv_1" in shown.out
        assert "Jobs/nap as inv_1" in shown.out
        assert "a client" in shown.out
        assert "RuntimeError" in failed.out
        assert "jobs.py" in failed.out
        assert "ATTEMPT" in failed.out
        assert json.loads(as_json.out)["events"][0]["stacktrace"]
        assert (unknown.code, unknown.out) == (1, "")
        assert unknown.err.startswith("error PD1001: no invocation")

    on_node(scenario)


def test_describe_puts_a_long_journal_together(
    on_node: OnNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.admin.api.journal_pass.PAGE_BYTES_MAX", 1)

    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        done = await node.node.call("Jobs", "steps", b"35")
        text = invocation_id_text(done.invocation_id)
        detail = json.loads((await perdure("invocations", "describe", text, "-o", "json")).out)

        assert [entry["index"] for entry in detail["journal"]] == [0, 1, 2, 3]
        assert (detail["entries"], detail["next_entry"]) == (4, None)

    on_node(scenario)


def test_one_is_cancelled_without_a_question(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        napping = await start(node, "Jobs", "nap")
        await until(node, napping, "suspended")
        cancelled = await perdure("invocations", "cancel", napping)
        await until(node, napping, "completed")
        again = await perdure("invocations", "cancel", napping)
        as_json = await perdure("invocations", "cancel", napping, "-o", "json")

        assert (cancelled.code, cancelled.err) == (0, "")
        assert cancelled.out.startswith(f"{napping}  done  ")
        assert (again.code, again.err) == (1, "")
        assert "completed already" in again.out
        assert json.loads(as_json.out)["results"][0]["outcome"] == "completed"
        assert as_json.code == 1

    on_node(scenario)


def test_many_are_shown_first_and_asked_for(
    on_node: OnNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "BATCH", 2)

    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        napping = [await start(node, "Jobs", "nap") for _ in range(5)]
        for invocation in napping:
            await until(node, invocation, "suspended")
        line = ("invocations", "kill", "--service", "Jobs")
        dry = await perdure(*line, "--dry-run")
        unasked = await perdure(*line)
        still = await perdure("invocations", "list", "-o", "json")
        killed = await perdure(*line, "--yes", "--limit", "4")
        rest = await perdure(*line, "--yes")
        none = await perdure(*line, "--yes")

        assert dry.code == 0
        assert all(invocation in dry.out for invocation in napping)
        assert "5 would be touched; nothing was changed" in dry.err
        assert (unasked.code, unasked.out) == (2, "")
        assert "--yes" in unasked.err
        assert len(json.loads(still.out)["invocations"]) == 5
        assert killed.code == 0
        assert len(killed.out.splitlines()) == 4
        assert "4 of 4" in killed.err
        assert "more than 4" in killed.err
        assert len(rest.out.splitlines()) == 1
        assert (none.code, none.out) == (0, "")
        assert "no invocation passes" in none.err

    on_node(scenario)


def test_each_other_verb_does_what_it_says(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        failing = await start(node, "Jobs", "fail")
        await until(node, failing, "backing-off")
        done = await node.node.call("Jobs", "steps", b"1")
        old = invocation_id_text(done.invocation_id)

        paused = await perdure("invocations", "pause", "--service", "Jobs", "--yes")
        await until(node, failing, "paused")
        described = await perdure("invocations", "describe", failing)
        resumed = await perdure("invocations", "resume", failing, "--deployment", "latest")
        await until(node, failing, "backing-off")
        nowhere = await perdure("invocations", "resume", failing, "--deployment", "dp-nowhere")
        restarted = await perdure("invocations", "restart", old, "--from", "2")
        half = await perdure("invocations", "purge", old, "--journal-only")
        whole = await perdure("invocations", "purge", old)

        assert f"{failing}  done  paused" in paused.out.splitlines()
        assert f"perdure invocations resume {failing}" in described.out
        # The node in this process writes to the same stdout.
        assert f"{failing}  done  it goes on" in resumed.out.splitlines()
        assert (nowhere.code, nowhere.out) == (1, "")
        assert nowhere.err.startswith("error PD1003: deployment='dp-nowhere' is not known")
        assert "restarted as a new invocation inv_1" in restarted.out
        assert {half.code, whole.code} == {0}
        assert (await node.ask("GET", f"/invocations/{old}")).status == 404

    on_node(scenario)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["cancel"], "say which invocations"),
        (["cancel", "--oldest-first"], "say which invocations"),
        (["kill", "inv_1", "--service", "Jobs"], "ids or filters"),
        (["list", "--all", "--status", "paused"], "not both"),
        (["restart", "inv_1", "--from", "-1"], "--from"),
        (["describe"], "ID"),
    ],
)
def test_wrong_usage_exits_2(
    line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["invocations", *line])
    captured = capsys.readouterr()

    assert (code, captured.out) == (2, "")
    assert words in captured.err


def test_services_and_deployments_are_shown(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, perdure: Perdure) -> None:
        listed = await perdure("services", "list")
        described = await perdure("services", "describe", "Hidden")
        service = json.loads((await perdure("services", "describe", "Hidden", "-o", "json")).out)
        unknown = await perdure("services", "describe", "No/body")
        deployments = await perdure("deployments", "list")
        name = json.loads((await perdure("deployments", "list", "-o", "json")).out)["deployments"][
            0
        ]["name"]
        deployment = await perdure("deployments", "describe", name)

        assert listed.out.splitlines()[1].split()[:4] == ["Counter", "virtual", "object", "public"]
        assert "private" in described.out
        assert "1h30m" in described.out
        assert service["handlers"][0]["options"]["journal_retention"] == "1h30m"
        assert unknown.code == 1
        assert "PD1001" in unknown.err
        assert deployments.out.splitlines()[1].split()[:4] == [name, "active", "1", "0"]
        assert "connected" in deployment.out
        assert {listed.code, described.code, deployments.code, deployment.code} == {0}

    on_node(scenario)


def test_help_of_every_command_has_an_example_and_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for verb in ("list", "describe", "cancel", "kill", "pause", "resume", "restart", "purge"):
        assert run(["invocations", verb, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"perdure invocations {verb}" in shown
        assert verb in ("list", "describe") or "Exit code 1" in shown
