"""``perdure logs``: what it prints where, its questions, exit codes, and how it follows a log."""

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from perdure.admin.api.log_answers import RecordsPage, RecordView
from perdure.admin.cli.logs import record_feed
from perdure.admin.cli.logs.record_lines import printable, record_line
from perdure.admin.cli.main import run
from perdure.admin.cli.output import RemoteError
from perdure.core.errors import TransportError
from perdure.core.ids import LogId
from perdure.partition_processor.records import attempt_key

from .logs_node import LogsNode, on_logs_node
from .test_cli import Ended

Logs = Callable[..., Awaitable[Ended]]


@pytest.fixture
def on_node(
    capsys: pytest.CaptureFixture[str],
) -> Callable[[Callable[[LogsNode, Logs], Awaitable[None]]], None]:
    """Runs a scenario with a node and with what runs ``perdure logs …`` against it."""

    def start(scenario: Callable[[LogsNode, Logs], Awaitable[None]]) -> None:
        async def both(node: LogsNode) -> None:
            async def logs(*arguments: str) -> Ended:
                line = ["logs", *arguments, "--admin", f"http://{node.address}"]
                capsys.readouterr()
                code = await asyncio.to_thread(run, line)
                captured = capsys.readouterr()
                return Ended(code, captured.out, captured.err)

            await scenario(node, logs)

        on_logs_node(both, "log.trim_interval=10ms")

    return start


OnNode = Callable[[Callable[[LogsNode, Logs], Awaitable[None]]], None]


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return line.split()


def test_list_describe_and_tail_in_both_formats(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        await node.add("ada")
        await node.post("/logs/0/reconfigure", {})
        await node.until_durable(3)
        listed, described, tail = (
            await logs("list"),
            await logs("describe", "0"),
            await logs("find-tail", "0"),
        )

        heading, row = listed.out.splitlines()
        assert cells(heading)[:5] == ["LOG", "STATE", "TRIMMED", "TAIL", "RECORDS"]
        assert cells(row)[:7] == ["0", "open", "0", "4", "3", "2", "local"]
        lines = described.out.splitlines()
        assert cells(lines[1]) == ["0", "open", "0", "3", "-", "4", "3"]
        assert cells(lines[4])[:6] == ["2", "sealed", "1", "4", "-", "3"]
        assert cells(lines[5])[:6] == ["3", "open", "4", "4", "-", "0"]
        assert cells(tail.out.splitlines()[1]) == ["0", "3", "open", "4"]
        for command, path in (
            (("list",), ""),
            (("describe", "0"), "/0"),
            (("find-tail", "0"), "/0/tail"),
        ):
            shown = await logs(*command, "-o", "json")
            assert (shown.code, shown.err) == (0, "")
            assert json.loads(shown.out) == await node.get(f"/logs{path}")

    on_node(scenario)


def test_read_prints_a_line_for_each_record(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        await node.add("ada")
        table = await logs("read", "0")
        lines = await logs("read", "0", "-o", "json")
        heading, announced, invoked, chunk = table.out.splitlines()
        page = await node.page()

        assert (table.code, table.err) == (0, "")
        assert cells(heading) == ["LSN", "TIME", "KIND", "INVOCATION", "ATTEMPT", "BYTES", "DETAIL"]
        assert announced.endswith("node-1 leads under epoch 1")
        assert cells(invoked)[1:4] == [
            "2023-11-14T22:13:21.000000Z",
            "Invoke",
            page["records"][1]["invocation"],
        ]
        assert invoked.endswith("Counter/ada/add")
        assert chunk.endswith("GetEagerStateCommand SetStateCommand OutputCommand End")
        assert [json.loads(line) for line in lines.out.splitlines()] == page["records"]

    on_node(scenario)


def test_read_filters(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        first = await node.add("ada")
        await node.add("bob")
        text = (await node.page(from_=2, to=2))["records"][0]["invocation"]

        async def found(*filters: str) -> list[int]:
            ended = await logs("read", "0", *filters, "-o", "json")
            assert ended.code == 0, ended.err
            return [json.loads(line)["lsn"] for line in ended.out.splitlines()]

        assert await found("--from", "2", "--to", "3") == [2, 3]
        assert await found("--object", "Counter/bob") == [1, 4, 5]
        assert {1, 3} <= set(await found("--key", attempt_key(first).hex())) <= {1, 2, 3}
        assert await found("--invocation", text) == [2, 3]
        assert await found("--kind", "Invoke", "-n", "1") == [2]
        assert await found("--since", "2023-11-14T22:13:22Z") == [4, 5]
        assert await found("--until", "2023-11-14T22:13:20Z") == [1]
        # The node's clock stands in 2023, ours does not.
        assert await found("--since", "10m") == []
        assert await found("--until", "10m") == [1, 2, 3, 4, 5]
        assert await found("--since", "99999d") == [1, 2, 3, 4, 5]

    on_node(scenario)


def test_read_stops_at_its_limit_and_says_how_to_go_on(
    on_node: OnNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_feed, "PAGE_RECORDS", 2)

    async def scenario(node: LogsNode, logs: Logs) -> None:
        for _ in range(3):
            await node.add("ada")
        some = await logs("read", "0", "-n", "5", "-o", "json")
        rest = await logs("read", "0", "--from", "6", "-o", "json")

        assert [json.loads(line)["lsn"] for line in some.out.splitlines()] == [1, 2, 3, 4, 5]
        assert some.err == "there is more: --from 6\n"
        assert [json.loads(line)["lsn"] for line in rest.out.splitlines()] == [6, 7]
        assert rest.err == ""

    on_node(scenario)


def test_read_shows_what_was_trimmed(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        await node.add("ada")
        await node.until_durable(3)
        trimmed = await logs("trim", "0", "2", "--yes")
        assert trimmed.out == (
            "log 0: 2 LSNs were removed; everything up to LSN 2 is gone (asked for 2)\n"
        )
        table = await logs("read", "0")
        line = await logs("read", "0", "-o", "json", "-n", "1")

        assert cells(table.out.splitlines()[1]) == cells("1 up to LSN 2 was trimmed")
        gap, record = line.out.splitlines()
        assert gap == '{"trim_gap":[1,2]}'
        assert json.loads(record)["lsn"] == 3
        again = await logs("trim", "0", "1", "-y", "-o", "json")
        assert json.loads(again.out)["trim_point"] == 2
        assert "nothing was removed" in (await logs("trim", "0", "1", "-y")).out

    on_node(scenario)


def test_seal_and_reconfigure_say_what_happened(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        sealed = await logs("seal", "0", "--segment", "2", "--yes")
        again = await logs("seal", "0", "--yes")
        as_json = await logs("seal", "0", "--yes", "-o", "json")
        opened = await logs("reconfigure", "0", "--provider", "local", "--yes")

        assert sealed.out == (
            "log 0 is sealed: segment 2, tail 2; open it again with: perdure logs reconfigure 0\n"
        )
        assert "was sealed already" in again.out
        assert json.loads(as_json.out)["already_sealed"] is True
        first, _, old, new = opened.out.splitlines()
        assert first == "log 0 is open again in segment 3; segment 2 is sealed, its tail is 2"
        assert cells(old)[:3] == ["old", "2", "local"]
        assert cells(new)[:3] == ["new", "3", "local"]
        moved = await logs(
            "reconfigure", "0", "--provider", "memory", "--accept-loss", "-y", "-o", "json"
        )
        assert json.loads(moved.out)["new"]["kind"] == "memory"
        assert all(ended.err == "" for ended in (sealed, again, as_json, opened, moved))

    on_node(scenario)


CHANGES = (("seal", "0"), ("reconfigure", "0"), ("trim", "0", "1"))


@pytest.mark.parametrize("change", CHANGES)
def test_change_without_terminal_and_yes_is_refused(
    on_node: OnNode, change: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

    async def scenario(node: LogsNode, logs: Logs) -> None:
        await node.until_durable(1)
        before = await node.get("/logs/0")
        ended = await logs(*change)

        assert (ended.code, ended.out) == (2, "")
        assert "--yes" in ended.err
        assert await node.get("/logs/0") == before

    on_node(scenario)


@pytest.mark.parametrize("change", CHANGES)
def test_change_asks_on_a_terminal(
    on_node: OnNode, change: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        await node.until_durable(1)
        before = await node.get("/logs/0")
        monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
        refused = await logs(*change)
        assert (refused.code, refused.out) == (1, "")
        assert "log 0" in refused.err
        assert "nothing was changed" in refused.err
        assert await node.get("/logs/0") == before

        monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
        taken = await logs(*change)
        assert taken.code == 0
        assert taken.out.startswith("log 0")
        assert await node.get("/logs/0") != before

    on_node(scenario)


def test_refusal_of_the_node_is_one_line_and_a_next_step(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        expected = {
            ("describe", "7"): ("PD0813", "perdure logs list"),
            ("read", "0", "--from", "99"): ("PD0807", "perdure logs find-tail"),
            ("read", "0", "--kind", "No"): ("PD1003", "kind is one of Invoke"),
            ("read", "0", "--key", "12"): ("PD1003", "32 hexadecimal digits"),
            ("seal", "0", "--segment", "9", "-y"): ("PD0811", "perdure logs describe"),
            ("reconfigure", "0", "--provider", "tape", "-y"): ("PD0814", "local, memory"),
            ("reconfigure", "0", "--provider", "memory", "-y"): ("PD1007", "--accept-loss"),
            ("trim", "0", "99", "-y"): ("PD1004", "perdure logs describe"),
        }
        for command, (code, words) in expected.items():
            ended = await logs(*command)
            assert (ended.code, ended.out) == (1, ""), command
            assert ended.err.startswith(f"error {code}: "), ended.err
            assert words in ended.err, ended.err
            assert len(ended.err.splitlines()) <= 2

    on_node(scenario)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["describe", "x"], "'LOG'"),
        (["describe", "-1"], "-1"),
        (["read", "0", "--from", "0"], "--from"),
        (["read", "0", "-n", "0"], "-n"),
        (["read", "0", "--since", "yesterday"], "10s"),
        (["read", "0", "--until", "12:30"], "2026-01-31"),
        (["read", "0", "--object", "Counter"], "SERVICE/KEY"),
        (["read", "0", "--object", "C/a", "--key", "00"], "give one of"),
        (["read", "0", "-f", "--until", "10m"], "--until and -f"),
        (["trim", "0", "0", "--yes"], "LSN"),
        (["trim", "0"], "LSN"),
        (["list", "--admin", "nowhere"], "is not a URL"),
    ],
)
def test_wrong_usage_exits_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code = run(["logs", *arguments])
    captured = capsys.readouterr()

    assert (code, captured.out) == (2, "")
    assert words in captured.err


@pytest.mark.parametrize(
    "name", ["", "list", "describe", "read", "find-tail", "seal", "reconfigure", "trim"]
)
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code = run(["logs", *([name] if name else []), "--help"])
    shown = capsys.readouterr().out

    assert code == 0
    assert f"perdure logs {name or 'list'}" in shown


def test_help_of_read_says_what_json_looks_like(capsys: pytest.CaptureFixture[str]) -> None:
    run(["logs", "read", "--help"])
    shown = " ".join(capsys.readouterr().out.split())

    assert "With -o json each line is one JSON object" in shown


def test_follow_shows_what_is_written_from_the_tail_on(on_node: OnNode) -> None:
    async def scenario(node: LogsNode, logs: Logs) -> None:
        await node.add("ada")
        log = await node.view.logs.open(LogId(0))
        waited = asyncio.Event()
        wait_for_tail = log.wait_for_tail

        async def told(above: int) -> None:
            waited.set()
            await wait_for_tail(above)

        log.wait_for_tail = told  # type: ignore[method-assign]
        following = asyncio.ensure_future(logs("read", "0", "-f", "-n", "2", "-o", "json"))
        await waited.wait()
        await node.add("bob")
        ended = await following

        assert (ended.code, ended.err) == (0, "")
        assert [json.loads(line)["lsn"] for line in ended.out.splitlines()] == [4, 5]

    on_node(scenario)


class Node:
    """Answers the command line by a list: a page, or what to raise."""

    def __init__(self, *answers: RecordsPage | BaseException) -> None:
        """Take the answers in order."""
        self.answers = list(answers)
        self.queries: list[dict[str, str]] = []

    def get(self, admin: str, path: str, kind: object, **options: Any) -> RecordsPage:
        """Stands in for `admin_client.get`."""
        self.queries.append(options["query"])
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def page_of(*lsns: int) -> RecordsPage:
    """A page up to the tail."""
    record = {
        "segment": 1, "time": "2023-11-14T22:13:21.000000000Z", "time_ns": 0, "kind": "Invoke",
        "keys": [], "conditions": [], "epoch": 1, "sequence": 1, "producer": None, "attempt": 0,
        "body_bytes": 0,
    }  # fmt: skip
    items = [msgspec.Raw(msgspec.json.encode({"lsn": lsn, **record})) for lsn in lsns]
    return RecordsPage(items, lsns[-1] + 1, lsns[-1] + 1, False)


def followed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], node: Node
) -> tuple[Ended, list[float]]:
    """Follow a log from LSN 1 on a node that is played."""
    pauses: list[float] = []
    monkeypatch.setattr(record_feed, "get", node.get)
    monkeypatch.setattr(record_feed, "pause", pauses.append)
    code = run(["logs", "read", "0", "--from", "1", "-f", "-o", "json"])
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err), pauses


def test_follow_goes_on_when_the_node_is_back_and_ends_with_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = TransportError("no node answers at here")
    closed = RemoteError("PD0802", "the log takes no more records")
    node = Node(page_of(1, 2), closed, away, away, page_of(3), KeyboardInterrupt())
    ended, pauses = followed(monkeypatch, capsys, node)

    assert ended.code == 130
    assert [json.loads(line)["lsn"] for line in ended.out.splitlines()] == [1, 2, 3]
    assert ended.err.splitlines() == [
        "notice: the log takes no more records; asking again",
        "notice: the node answers again",
    ]
    assert [query["from"] for query in node.queries] == ["1", "3", "3", "3", "3", "4"]
    assert [query.get("wait_ms") for query in node.queries] == [None, *["10000"] * 5]
    assert pauses == [record_feed.RETRY_SECONDS] * 3


def test_follow_of_a_node_that_never_answered_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, pauses = followed(monkeypatch, capsys, Node(TransportError("no node answers at here")))

    assert (ended.code, ended.out, pauses) == (1, "", [])
    assert ended.err.startswith("error PD0201: no node answers at here")


def test_follow_ends_when_the_node_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Node(page_of(1), RemoteError("PD0807", "position 2 is not written yet"))
    ended, pauses = followed(monkeypatch, capsys, node)

    assert (ended.code, pauses) == (1, [])
    assert ended.err.startswith("error PD0807: ")


def test_text_from_outside_does_not_reach_the_terminal_raw() -> None:
    record = RecordView(
        lsn=1, segment=1, time="2023-11-14T22:13:21.000000000Z", time_ns=0, kind="Invoke", keys=[],
        conditions=[], epoch=1, sequence=1, producer=None, attempt=0, body_bytes=0,
        detail="Counter/a\x1b[2J/add",
    )  # fmt: skip

    assert record_line(record).endswith("Counter/a\\x1b[2J/add")
    assert printable("a\x1b[2Jb\n\x9b") == "a\\x1b[2Jb\\n\\x9b"
    assert printable("Zoë/日本") == "Zoë/日本"
