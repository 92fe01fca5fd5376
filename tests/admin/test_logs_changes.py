"""Sealing, reconfiguring and trimming over admin REST, and everything it refuses."""

import pytest

from perdure.admin.api.routes import BODY_BYTES_MAX
from perdure.ingress.errors import NotLeaderError
from perdure.log.answers import Committed
from perdure.log.types import Record

from .logs_node import LogsNode, on_logs_node

TRIMS = "log.trim_interval=10ms"


def test_sealed_log_takes_no_calls_until_it_is_reconfigured() -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        sealed = await node.post("/logs/0/seal", {})
        with pytest.raises(NotLeaderError, match="perdure logs reconfigure 0"):
            await node.add("ada")
        again = await node.post("/logs/0/seal", {"segment": sealed["segment"]})
        tail = await node.get("/logs/0/tail")
        opened = await node.post("/logs/0/reconfigure", {})
        await node.add("ada")

        assert (sealed["tail_lsn"], sealed["already_sealed"]) == (4, False)
        assert (again["tail_lsn"], again["already_sealed"]) == (4, True)
        assert tail == {"log": 0, "segment": sealed["segment"], "state": "sealed", "tail_lsn": 4}
        assert (opened["sealed_segment"], opened["tail_lsn"]) == (sealed["segment"], 4)
        assert opened["was_sealed"] is True
        assert opened["new"]["segment"] == opened["old"]["segment"] + 1
        assert (await node.get("/logs/0/tail"))["state"] == "open"

    on_logs_node(scenario)


def test_only_the_last_segment_is_sealed() -> None:
    async def scenario(node: LogsNode) -> None:
        refused = await node.ask("POST", "/logs/0/seal", {"segment": 99})

        assert (refused.status, refused.body["code"]) == (409, "PD0811")
        assert "99" in refused.body["message"]
        assert (await node.get("/logs/0/tail"))["state"] == "open"
        await node.add("ada")

    on_logs_node(scenario)


def test_log_moves_to_another_provider_and_back() -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        refused = await node.ask("POST", "/logs/0/reconfigure", {"provider": "memory"})
        assert (refused.status, refused.body["code"]) == (409, "PD1007")
        assert "--accept-loss" in refused.body["message"]
        assert (await node.get("/logs"))["logs"][0]["kind"] == "local"

        body = {"provider": "memory", "accept_loss": True}
        there = await node.post("/logs/0/reconfigure", body)
        await node.add("ada")
        # It is in memory already: nothing more is lost.
        again = await node.post("/logs/0/reconfigure", {"provider": "memory"})
        await node.add("ada")
        back = await node.post("/logs/0/reconfigure", {"provider": "local"})

        kinds = [(answer["old"]["kind"], answer["new"]["kind"]) for answer in (there, again, back)]
        assert kinds == [("local", "memory"), ("memory", "memory"), ("memory", "local")]
        assert [answer["was_sealed"] for answer in (there, again, back)] == [False] * 3
        assert len((await node.page())["records"]) == 7

    on_logs_node(scenario)


def test_trim_removes_what_is_durable_and_no_more() -> None:
    async def scenario(node: LogsNode) -> None:
        for _ in range(3):
            await node.add("ada")
        await node.until_durable(7)
        beyond = await node.ask("POST", "/logs/0/trim", {"lsn": 8})
        assert (beyond.status, beyond.body["code"]) == (409, "PD1004")
        assert "up to LSN 7, not 8" in beyond.body["message"]
        assert (await node.get("/logs"))["logs"][0]["trim_point"] == 0

        trimmed = await node.post("/logs/0/trim", {"lsn": 5})
        again = await node.post("/logs/0/trim", {"lsn": 2})
        assert trimmed == {"log": 0, "requested": 5, "trim_point_before": 0, "trim_point": 5}
        assert again == {"log": 0, "requested": 2, "trim_point_before": 5, "trim_point": 5}
        [row] = (await node.get("/logs"))["logs"]
        assert (row["trim_point"], row["records"]) == (5, 2)
        [segment] = (await node.get("/logs/0"))["segments"]
        assert (segment["trim_point"], segment["records"]) == (5, 2)
        await node.add("ada")

    on_logs_node(scenario, TRIMS)


def test_trim_beyond_the_snapshots_is_refused() -> None:
    async def scenario(node: LogsNode) -> None:
        await node.add("ada")
        await node.until_durable(3)
        node.view.archived_lsn = lambda log: 2  # type: ignore[method-assign]
        refused = await node.ask("POST", "/logs/0/trim", {"lsn": 3})
        assert (refused.status, refused.body["code"]) == (409, "PD1004")
        assert "up to LSN 2, not 3: no snapshot that node node-1" in refused.body["message"]
        assert refused.body["message"].endswith("(perdure snapshots create --partition 0)")
        assert (await node.get("/logs"))["logs"][0]["trim_point"] == 0
        assert (await node.post("/logs/0/trim", {"lsn": 2}))["trim_point"] == 2

    on_logs_node(scenario, TRIMS)


def test_page_may_begin_and_end_within_a_batch() -> None:
    async def scenario(node: LogsNode) -> None:
        await append_batch(node)
        page = await node.page(from_=3, limit=1)

        assert [record["lsn"] for record in page["records"]] == [3]
        assert [record["sequence"] for record in page["records"]] == [2]
        assert [record["sequence"] for record in (await node.page(from_=4))["records"]] == [3]

    on_logs_node(scenario)


async def append_batch(node: LogsNode) -> int:
    """Append three records as one batch, LSNs 2 to 4; the last LSN."""
    # An epoch below the leader's has no effect when it is applied.
    records = [Record(999, b"", (), 0, None, number) for number in (1, 2, 3)]
    answer = await (await node.log()).append(records)
    assert isinstance(answer, Committed)
    return answer.last_lsn


def test_trim_tells_where_it_stopped_within_a_batch() -> None:
    async def scenario(node: LogsNode) -> None:
        last_lsn = await append_batch(node)
        await node.until_durable(last_lsn)
        trimmed = await node.post("/logs/0/trim", {"lsn": last_lsn - 1})

        assert (trimmed["requested"], trimmed["trim_point"]) == (3, 1)

    on_logs_node(scenario, TRIMS)


def test_who_does_not_lead_may_look_but_not_reconfigure() -> None:
    async def scenario(node: LogsNode) -> None:
        log = await node.log()
        log._sequencer = None
        refused = await node.ask("POST", "/logs/0/reconfigure", {})

        assert (refused.status, refused.body["code"]) == (503, "PD0817")
        assert (await node.get("/logs/0"))["tail_lsn"] == 2

    on_logs_node(scenario)


BAD_QUERIES = {
    "from=0": "from is a whole number from 1",
    "from=-1": "from is a whole number",
    "from=x": "from='x' is not taken",
    "from=": "from='' is not taken",
    "from=18446744073709551616": "from is a whole number from 1 to 18446744073709551615",
    "to=x": "to is a whole number",
    "limit=0": "limit is a whole number from 1 to 1000",
    "limit=1001": "limit is a whole number from 1 to 1000",
    "wait_ms=10001": "wait_ms is a whole number from 0 to 10000",
    "key=12": "key is 32 hexadecimal digits",
    "key=zz": "key is 32 hexadecimal digits",
    "invocation=inv_2": "invocation is the id of an invocation",
    "since=yesterday": "since is an instant such as",
    "until=12:30": "until is an instant such as",
    "kind=Nothing": "kind is one of Invoke, AttemptChunk",
    "from=5&to=4": "from comes first",
    "since=2026-01-02&until=2026-01-01": "since comes first",
    "form=1": "'form' is no parameter here; there are from, to, limit",
    "from=1&from=2": "given twice",
}


def test_query_that_is_not_understood_is_refused() -> None:
    async def scenario(node: LogsNode) -> None:
        for query, words in BAD_QUERIES.items():
            answer = await node.ask("GET", f"/logs/0/records?{query}")
            assert (answer.status, answer.body["code"]) == (400, "PD1003"), query
            assert words in answer.body["message"], answer
        for path in ("/logs?x=1", "/logs/0?x=1", "/logs/0/tail?x=1"):
            answer = await node.ask("GET", path)
            assert (answer.status, answer.body["code"]) == (400, "PD1003"), path

    on_logs_node(scenario)


BAD_BODIES: dict[tuple[str, bytes], tuple[int, str, str]] = {
    ("seal", b"{"): (400, "PD1003", "the body is not taken"),
    ("seal", b"[]"): (400, "PD1003", "index of the last segment"),
    ("seal", b"\xff"): (400, "PD1003", "the body is not taken"),
    ("seal", b'{"segment": "1"}'): (400, "PD1003", "$.segment"),
    ("seal", b'{"segmnet": 1}'): (400, "PD1003", "segmnet"),
    ("reconfigure", b'{"provider": 1}'): (400, "PD1003", "one of local, memory"),
    ("reconfigure", b'{"provider": "tape"}'): (400, "PD0814", "none of local, memory"),
    ("trim", b"{}"): (400, "PD1003", "the last LSN to go"),
    ("trim", b'{"lsn": 1.5}'): (400, "PD1003", "$.lsn"),
    ("trim", b'{"lsn": 0}'): (400, "PD1003", "LSNs count from 1"),
    ("trim", b'{"lsn": -7}'): (400, "PD1003", "LSNs count from 1"),
    ("trim", b'{"lsn": 99999999999999999999}'): (400, "PD1003", "lsn"),
    ("trim", b'{"lsn": 1000}'): (409, "PD1004", "not 1000"),
    ("seal", b" " * (BODY_BYTES_MAX + 1)): (413, "PD1005", f"{BODY_BYTES_MAX} bytes"),
}


def test_body_that_is_not_understood_changes_nothing() -> None:
    async def scenario(node: LogsNode) -> None:
        before = (await node.log()).chain
        for (action, body), (status, code, words) in BAD_BODIES.items():
            answer = await node.ask("POST", f"/logs/0/{action}", body)
            assert (answer.status, answer.body["code"]) == (status, code), (action, body[:40])
            assert words in answer.body["message"], answer
        assert (await node.log()).chain == before

    on_logs_node(scenario)


def test_log_that_is_not_there_is_refused() -> None:
    async def scenario(node: LogsNode) -> None:
        for path in ("", "/tail", "/records"):
            absent = await node.ask("GET", f"/logs/8{path}")
            huge = await node.ask("GET", f"/logs/18446744073709551615{path}")
            text = await node.ask("GET", f"/logs/x{path}")
            assert (absent.status, absent.body["code"]) == (404, "PD0813")
            assert (huge.status, huge.body["code"]) == (404, "PD0813")
            assert (text.status, text.body["code"]) == (400, "PD1003")
            assert "no number of a log" in text.body["message"]
        for action, body in (("seal", {}), ("reconfigure", {}), ("trim", {"lsn": 1})):
            absent = await node.ask("POST", f"/logs/8/{action}", body)
            assert (absent.status, absent.body["code"]) == (404, "PD0813")
        ahead = await node.ask("GET", "/logs/0/records?from=100")
        assert (ahead.status, ahead.body["code"]) == (416, "PD0807")
        nothing = await node.ask("GET", "/logs/0/nothing")
        assert (nothing.status, nothing.body["code"]) == (404, "PD1001")
        assert "/logs/{log}/records" in nothing.body["message"]

    on_logs_node(scenario)


def test_method_and_content_type_are_checked() -> None:
    async def scenario(node: LogsNode) -> None:
        wrong = {
            "/logs": ("POST", "GET"),
            "/logs/0": ("DELETE", "GET"),
            "/logs/0/records": ("POST", "GET"),
            "/logs/0/trim": ("GET", "POST"),
            "/logs/0/seal": ("PUT", "POST"),
        }
        for path, (method, allowed) in wrong.items():
            answer = await node.ask(method, path)
            assert (answer.status, answer.body["code"]) == (405, "PD1002"), path
            assert answer.headers["allow"] == allowed
            assert f"use {allowed}" in answer.body["message"]
        # A page in a browser can send such bodies to another origin without asking.
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = await node.ask("POST", "/logs/0/seal", b"{}", content_type=kind)
            assert (answer.status, answer.body["code"]) == (415, "PD1006"), kind
        with_charset = "application/json; charset=utf-8"
        taken = await node.ask("POST", "/logs/0/reconfigure", b"", content_type=with_charset)
        assert taken.status == 200
        assert (await node.get("/logs/0/tail"))["state"] == "open"

    on_logs_node(scenario)


def test_log_of_a_failed_disk_says_that_it_is_closed() -> None:
    async def scenario(node: LogsNode) -> None:
        (await node.log()).fail(OSError("the disk is gone"))
        refused = await node.ask("POST", "/logs/0/reconfigure", {})

        assert (refused.status, refused.body["code"]) == (503, "PD0802")
        assert "the disk is gone" in refused.body["message"]

    on_logs_node(scenario)
