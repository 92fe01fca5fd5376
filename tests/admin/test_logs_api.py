"""The logs over admin REST: what is shown, every filter, paging and the long poll."""

import asyncio
from typing import Any

import pytest

from perdure.admin.api import record_pages
from perdure.admin.api.log_answers import RecordView
from perdure.admin.api.record_view import FRAMES_SHOWN, is_about, view_record
from perdure.admin.api.times import parse_time_ns, time_text
from perdure.admin.http import AdminServer
from perdure.core.ids import LogId, parse_invocation_id
from perdure.core.metrics import Metrics
from perdure.core.protocol import messages
from perdure.log.types import Record
from perdure.partition_processor.records import (
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    attempt_key,
    encode_command,
    object_key,
)

from .logs_node import SECOND_NS, START_NS, LogsNode, on_logs_node

INVOCATION = parse_invocation_id("inv_115oNPF1D1aq4qk744j5nlVq0Y3yU9JmqR")


def lsns(page: Any) -> list[int]:
    """The positions of a page's records."""
    return [record["lsn"] for record in page["records"]]


def test_log_is_listed_with_tail_and_last_segment() -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        [row] = (await node.get("/logs"))["logs"]

        assert (row["log"], row["trim_point"], row["tail_lsn"], row["records"]) == (0, 0, 4, 3)
        assert (row["sealed"], row["kind"], row["sequencer"]) == (False, "local", "node-1")
        assert (row["segments"], row["epoch"], row["error"]) == (1, 1, "")

    on_logs_node(scenario)


def test_log_that_cannot_be_looked_at_does_not_hide_the_others() -> None:
    async def scenario(node: LogsNode) -> None:
        healthy = await node.log()
        lost = await node.view.logs.open(LogId(7), create=True)
        [segment] = lost.chain.segments
        # Nothing here knows how to open its loglet.
        lost._providers = {}
        first, second = (await node.get("/logs"))["logs"]

        assert (first["log"], first["error"]) == (healthy.log, "")
        assert second["log"] == 7
        assert second["error"].startswith("PD0814 ")
        assert second["loglet"] == segment.params.loglet

    on_logs_node(scenario)


def test_describe_shows_every_segment() -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        await node.post("/logs/0/reconfigure", {"provider": "local"})
        await node.add("ada")
        await node.until_durable(5)
        detail = await node.get("/logs/0")
        first, second = detail["segments"]

        assert (detail["tail_lsn"], detail["sealed"], detail["records"]) == (6, False, 5)
        assert detail["durable_lsn"] == 5
        assert (first["state"], first["base_lsn"], first["tail_lsn"]) == ("sealed", 1, 4)
        assert (second["state"], second["base_lsn"], second["tail_lsn"]) == ("open", 4, 6)
        assert second["index"] == first["index"] + 1
        assert (first["since"], second["since"]) == (None, time_text(START_NS + SECOND_NS))
        assert (first["trim_point"], first["records"], second["records"]) == (None, 3, 2)

    on_logs_node(scenario, "log.trim_interval=10ms")


def test_records_are_decoded() -> None:
    async def scenario(node: LogsNode) -> None:
        invocation = await node.add("ada")
        text = (await node.page())["records"][1]["invocation"]
        announced, invoked, chunk = (await node.page())["records"]

        assert (announced["kind"], announced["keys"], announced["leader"]) == (
            "AnnounceLeader",
            "all",
            "node-1",
        )
        assert invoked["kind"] == "Invoke"
        assert parse_invocation_id(text) == invocation
        assert [invoked[name] for name in ("service", "object_key", "handler")] == [
            "Counter",
            "ada",
            "add",
        ]
        attempt = attempt_key(invocation).hex()
        assert object_key("Counter", "ada").hex() in invoked["keys"]
        assert attempt in chunk["keys"]
        assert chunk["frames"] == [
            "GetEagerStateCommand",
            "SetStateCommand",
            "OutputCommand",
            "End",
        ]
        assert (chunk["attempt"], chunk["epoch"], chunk["sequence"]) == (1, 1, 3)
        assert chunk["conditions"] == [{"key": attempt, "lsn": 2}]
        assert chunk["time"] == "2023-11-14T22:13:21.000000000Z"
        assert chunk["time_ns"] == START_NS + SECOND_NS
        assert chunk["body_bytes"] > 24
        assert "producer" in chunk
        assert "failure" not in chunk

    on_logs_node(scenario)


def view(kind: int, body: bytes, **fields: Any) -> RecordView:
    """A lone record as it is shown."""
    given: dict[str, Any] = {"keys": (), "epoch": 2, "producer": None, "sequence": 9} | fields
    return view_record(5, 1, START_NS, Record(kind, body, **given))


def test_record_of_a_producer_names_it() -> None:
    shown = view(
        ATTEMPT_STARTED,
        encode_command(AttemptStarted(INVOCATION, 2)),
        producer=b"p" * 16,
        producer_epoch=3,
    )

    assert shown.producer is not None
    assert (shown.producer.id, shown.producer.epoch, shown.producer.sequence) == (
        (b"p" * 16).hex(),
        3,
        9,
    )


def test_record_that_failed_tells_why_and_long_ones_are_cut() -> None:
    failed = view(
        ATTEMPT_FAILED, encode_command(AttemptFailed(INVOCATION, 1, 500, "x" * 9000, None, True))
    )
    frames = messages.frame(messages.RUN_COMMAND, b"") * (FRAMES_SHOWN + 1)
    chunk = view(ATTEMPT_CHUNK, encode_command(AttemptChunk(INVOCATION, 1, "d", frames)))

    assert failed.failure is not None
    assert failed.failure.startswith("500 xxx")
    assert len(failed.failure) <= 500
    assert chunk.frames is not None
    assert (chunk.frames[0], chunk.frames[-1]) == ("RunCommand", "…")
    assert len(chunk.frames) == FRAMES_SHOWN + 1


@pytest.mark.parametrize(
    ("kind", "body", "name", "words"),
    [
        (999, b"", "kind 999", "does not know the kind"),
        (ATTEMPT_CHUNK, b"\xff", "AttemptChunk", "does not decode"),
        (
            ATTEMPT_CHUNK,
            encode_command(AttemptChunk(INVOCATION, 1, "d", b"\x04\x11")),
            "AttemptChunk",
            "frames do not parse",
        ),
    ],
)
def test_record_that_cannot_be_read_says_so(kind: int, body: bytes, name: str, words: str) -> None:
    shown = view(kind, body)

    assert shown.kind == name
    assert words in (shown.problem or "")


def test_record_about_another_invocation_may_hold_the_id() -> None:
    other = type(INVOCATION)(bytes(24))
    inside = encode_command(AttemptChunk(other, 1, "d", INVOCATION))
    about = encode_command(AttemptStarted(INVOCATION, 1))

    assert is_about(Record(ATTEMPT_STARTED, about, (), 1, None, 1), INVOCATION)
    assert not is_about(Record(ATTEMPT_CHUNK, inside, (), 1, None, 1), INVOCATION)
    assert is_about(Record(ATTEMPT_CHUNK, b"\xff" + INVOCATION, (), 1, None, 1), INVOCATION)


def test_every_filter() -> None:
    async def scenario(node: LogsNode) -> None:
        first = await node.add("ada")  # 2, 3
        await node.add("bob")  # 4, 5
        await node.add("ada")  # 6, 7
        key = object_key("Counter", "ada").hex()
        [text] = {record["invocation"] for record in (await node.page(from_=2, to=3))["records"]}
        second = time_text(START_NS + 2 * SECOND_NS)

        assert parse_invocation_id(text) == first
        # The announcement touches every key.
        assert lsns(await node.page(key=key)) == [1, 2, 3, 6, 7]
        attempt = attempt_key(first).hex()
        touching = [
            item["lsn"]
            for item in (await node.page())["records"]
            if item["keys"] == "all" or attempt in item["keys"]
        ]
        assert {1, 3} <= set(touching) <= {1, 2, 3}
        assert lsns(await node.page(key=attempt)) == touching
        assert lsns(await node.page(invocation=text)) == [2, 3]
        assert lsns(await node.page(kind="Invoke")) == [2, 4, 6]
        assert lsns(await node.page(kind="invoke", key=key)) == [2, 6]
        assert lsns(await node.page(since=second)) == [4, 5, 6, 7]
        assert lsns(await node.page(until=second)) == [1, 2, 3, 4, 5]
        assert lsns(await node.page(since=second, until=second)) == [4, 5]
        assert lsns(await node.page(since="2030-01-01")) == []
        assert lsns(await node.page(until="1999-01-01")) == []
        assert lsns(await node.page(from_=3, to=5)) == [3, 4, 5]
        assert lsns(await node.page(from_=6, since=second)) == [6, 7]
        assert lsns(await node.page(since=second, kind="Invoke", limit=1)) == [4]

    on_logs_node(scenario)


def test_pages_go_on_where_the_last_one_ended() -> None:
    async def scenario(node: LogsNode) -> None:
        for _ in range(4):
            await node.add("ada")
        await node.post("/logs/0/reconfigure", {})
        await node.add("ada")
        found: list[int] = []
        next_lsn, complete, pages = 1, False, 0
        while not complete:
            page = await node.page(from_=next_lsn, limit=3, to=10)
            found += lsns(page)
            next_lsn, complete = page["next_lsn"], page["complete"]
            pages += 1

        assert found == list(range(1, 11))
        assert (next_lsn, pages) == (11, 4)
        last = await node.page(from_=10)
        assert lsns(last) == [10, 11]
        assert (last["next_lsn"], last["tail_lsn"], last["complete"]) == (12, 12, False)
        segments = {record["segment"] for record in last["records"]}
        assert len(segments) == 2 - (await node.log()).chain.position_of(10)

    on_logs_node(scenario)


def test_page_looks_at_so_many_records_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_pages, "SCANNED_MAX", 4)

    async def scenario(node: LogsNode) -> None:
        for _ in range(3):
            await node.add("ada")
        key = object_key("Counter", "nobody").hex()
        first = await node.page(from_=2, key=key)
        second = await node.page(from_=first["next_lsn"], key=key)

        assert (first["records"], first["next_lsn"], first["tail_lsn"]) == ([], 6, 8)
        assert (second["records"], second["next_lsn"]) == ([], 8)

    on_logs_node(scenario)


def test_trimmed_records_are_one_gap() -> None:
    async def scenario(node: LogsNode) -> None:
        for _ in range(3):
            await node.add("ada")
        await node.until_durable(7)
        await node.post("/logs/0/trim", {"lsn": 3})
        page = await node.page()

        assert page["records"][0] == {"trim_gap": [1, 3]}
        assert lsns({"records": page["records"][1:]}) == [4, 5, 6, 7]
        within = await node.page(from_=2, to=2)
        assert within["records"] == [{"trim_gap": [2, 2]}]
        assert (within["next_lsn"], within["complete"]) == (3, True)
        # What is gone was older than this for certain.
        later = await node.page(since=time_text(START_NS + 3 * SECOND_NS))
        assert lsns(later) == [6, 7]
        # It may have been as young as this.
        earlier = await node.page(since=time_text(START_NS))
        assert earlier["records"][0] == {"trim_gap": [1, 3]}

    on_logs_node(scenario, "log.trim_interval=10ms")


def test_since_finds_its_place_across_batches_and_segments() -> None:
    async def scenario(node: LogsNode) -> None:
        for number in range(12):
            await node.add(f"key-{number}")
            if number % 5 == 4:
                await node.post("/logs/0/reconfigure", {})
        everything = (await node.page(limit=1000))["records"]
        for second in range(14):
            since_ns = START_NS + second * SECOND_NS
            wanted = [item["lsn"] for item in everything if item["time_ns"] >= since_ns]
            assert lsns(await node.page(since=time_text(since_ns))) == wanted
            assert lsns(await node.page(since=time_text(since_ns - 1))) == wanted

    on_logs_node(scenario)


def test_long_poll_gives_what_is_written_meanwhile() -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        key = object_key("Counter", "bob").hex()
        waiting = asyncio.ensure_future(node.page(from_=4, key=key, wait_ms=10_000))
        await node.add("ada")
        assert not waiting.done()
        await node.add("bob")
        page = await waiting

        assert lsns(page)[0] == 6
        assert page["next_lsn"] > 6

    on_logs_node(scenario)


def test_long_poll_ends_without_records() -> None:
    async def scenario(node: LogsNode) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        page = await node.page(from_=2, wait_ms=50)

        assert loop.time() - started >= 0.05
        assert (page["records"], page["next_lsn"]) == ([], 2)

    on_logs_node(scenario)


def test_stopping_server_answers_who_waits() -> None:
    async def scenario(node: LogsNode) -> None:
        server = AdminServer(node.view, Metrics())
        node.address = await server.start("127.0.0.1:0")
        log = await node.log()
        entered = asyncio.Event()
        wait_for_tail = log.wait_for_tail

        async def told(above: int) -> None:
            entered.set()
            await wait_for_tail(above)

        log.wait_for_tail = told  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(node.page(from_=2, wait_ms=10_000))
        await entered.wait()
        started = loop.time()
        await server.stop()
        page = await waiting

        assert (page["records"], page["next_lsn"]) == ([], 2)
        assert loop.time() - started < 5

    on_logs_node(scenario)


def test_nobody_waits_once_the_server_stops() -> None:
    async def scenario(node: LogsNode) -> None:
        waits = record_pages.TailWaits()
        waits.close()
        loop = asyncio.get_running_loop()

        assert not await waits.wait(await node.log(), 2, loop.time() + 600)

    on_logs_node(scenario)


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01 00:01", 60 * 10**9),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("2023-11-14T22:13:20.5", START_NS + 10**9 // 2),
    ],
)
def test_instants_are_read_to_the_nanosecond(text: str, time_ns: int) -> None:
    assert parse_time_ns(text) == time_ns
    assert parse_time_ns(time_text(time_ns)) == time_ns


@pytest.mark.parametrize(
    "text", ["", "now", "2023-13-01", "2023-11-14T25:00", "12:00", "2023-11-14T22:13:20.1234567890"]
)
def test_other_texts_are_no_instants(text: str) -> None:
    with pytest.raises(ValueError, match="UTC unless"):
        parse_time_ns(text)
