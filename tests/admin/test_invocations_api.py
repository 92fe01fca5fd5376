"""Invocations over admin REST, on a real node: finding them, looking into one, acting on them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from perdure.admin.api import invocation_pages, pacing
from perdure.admin.api.invocation_pages import InvocationsQuery, read_led_page
from perdure.core.ids import InvocationId, invocation_id_text
from perdure.partition_processor.tables.invocations import encode_invocation

from .jobs import JOBS
from .logs_node import LogsNode, on_logs_node

_Result = TypeVar("_Result")
NOBODY = invocation_id_text(InvocationId(bytes(24)))


def on_jobs(scenario: Callable[[LogsNode], Awaitable[_Result]], *options: str) -> _Result:
    """Run a scenario on a node that runs the jobs; what fails waits for an hour of its clock."""
    return on_logs_node(
        scenario, "retry.initial_interval=1h", "retry.max_interval=1h", *options, offered=JOBS
    )


async def start(node: LogsNode, service: str, handler: str, body: bytes = b"", **more: Any) -> str:
    """Start an invocation; its id."""
    accepted = await node.node.send(service, handler, body, **more)
    return invocation_id_text(accepted.invocation_id)


async def until(node: LogsNode, invocation: str, status: str) -> Any:
    """Wait until an invocation has a status; its detail."""
    async with asyncio.timeout(60):
        while True:
            answer = await node.ask("GET", f"/invocations/{invocation}")
            if answer.status == 200 and answer.body["invocation"]["status"] == status:
                return answer.body
            await asyncio.sleep(0.01)


async def act(node: LogsNode, operation: str, *ids: str, **more: object) -> list[Any]:
    """Do something to invocations; the results."""
    answer = await node.post(f"/invocations/{operation}", {"ids": ids, **more})
    return list(answer["results"])


def test_invocations_are_found_by_each_filter() -> None:
    async def scenario(node: LogsNode) -> None:
        napping = await start(node, "Jobs", "nap")
        holding = await start(node, "Counter", "hold", key="ann")
        waiting = await start(node, "Counter", "add", b"1", key="ann")
        failing = await start(node, "Jobs", "fail")
        done = (await node.node.call("Counter", "add", b"1", key="bob")).invocation_id
        done = invocation_id_text(done)
        await until(node, napping, "suspended")
        await until(node, holding, "suspended")
        await until(node, failing, "backing-off")

        async def ids(query: str) -> set[str]:
            page = await node.get(f"/invocations?{query}")
            assert page["next"] is None
            return {row["id"] for row in page["invocations"]}

        assert await ids("") == {napping, holding, waiting, failing}
        assert await ids("status=all") == {napping, holding, waiting, failing, done}
        assert await ids("status=pending,suspended") == {napping, holding, waiting}
        assert await ids("status=backing-off") == {failing}
        assert await ids("status=running,ready") == set()
        assert await ids("service=Counter") == {holding, waiting}
        assert await ids("key=ann") == {holding, waiting}
        assert await ids("key=bob&status=completed") == {done}
        assert await ids("service=Jobs&handler=nap") == {napping}
        pinned = (await node.get(f"/invocations/{napping}"))["invocation"]["deployment"]
        assert napping in await ids(f"deployment={pinned}")
        assert await ids("deployment=none") == set()

    on_jobs(scenario)


def test_an_idempotency_key_is_found_directly_and_by_itself() -> None:
    async def scenario(node: LogsNode) -> None:
        call = node.node.call
        plain = await call("Jobs", "steps", b"1", idempotency_key="i")
        keyed = await call("Counter", "add", b"1", key="ann", idempotency_key="i")

        async def found(query: str) -> tuple[set[str], int]:
            page = await node.get(f"/invocations?status=all&idempotency_key=i{query}")
            return {row["id"] for row in page["invocations"]}, page["looked_at"]

        one = invocation_id_text(plain.invocation_id)
        two = invocation_id_text(keyed.invocation_id)
        assert await found("") == ({one, two}, 2)
        assert await found("&service=Jobs&handler=steps") == ({one}, 1)
        assert await found("&service=Counter&handler=add&key=ann") == ({two}, 1)
        assert (await found("&service=Counter&handler=add"))[0] == {two}

    on_jobs(scenario)


def test_pages_follow_one_another_until_all_were_seen() -> None:
    async def scenario(node: LogsNode) -> None:
        started = []
        for _ in range(7):
            node.clock.advance(10**9)
            started.append(await start(node, "Jobs", "nap"))

        async def walk(order: str) -> list[str]:
            seen: list[str] = []
            after = ""
            while True:
                page = await node.get(f"/invocations?order={order}&limit=3{after}")
                assert len(page["invocations"]) <= 3
                seen += [row["id"] for row in page["invocations"]]
                if page["next"] is None:
                    return seen
                after = f"&after={page['next']}"

        assert await walk("oldest") == started
        assert sorted(await walk("stored")) == sorted(started)

    on_jobs(scenario, "partitions.count=1")


def test_pages_span_all_partitions() -> None:
    async def scenario(node: LogsNode) -> None:
        started = {await start(node, "Jobs", "nap") for _ in range(40)}
        started |= {await start(node, "Counter", "hold", key=str(n)) for n in range(10)}
        page = await node.get("/invocations")

        assert {row["id"] for row in page["invocations"]} == started

    on_jobs(scenario, "partitions.count=4")


def test_what_is_not_understood_is_refused() -> None:
    async def scenario(node: LogsNode) -> None:
        for query, words in [
            ("status=lost", "backing-off"),
            ("limit=0", "1 to 1000"),
            ("after=x", "an earlier page"),
            ("order=newest", "oldest"),
            ("who=me", "no parameter"),
        ]:
            answer = await node.ask("GET", f"/invocations?{query}")
            assert (answer.status, answer.body["code"]) == (400, "PD1003")
            assert words in answer.body["message"]
        wrong = await node.ask("GET", "/invocations/inv_1x")
        unknown = await node.ask("GET", f"/invocations/{NOBODY}")
        assert (wrong.status, unknown.status) == (400, 404)
        for body, words in [
            ({}, "ids"),
            ({"ids": []}, "1 to 1000"),
            ({"ids": [NOBODY] * 1001}, "1 to 1000"),
            ({"ids": [NOBODY], "deployment": "keep"}, "not for cancel"),
            ({"ids": [NOBODY], "from_entry": 1}, "not for cancel"),
            ({"ids": [NOBODY], "journal_only": True}, "not for cancel"),
            ({"ids": [NOBODY], "more": 1}, "more"),
        ]:
            answer = await node.ask("POST", "/invocations/cancel", body)
            assert (answer.status, answer.body["code"]) == (400, "PD1003"), answer
            assert words in answer.body["message"]
        assert (await node.ask("POST", "/invocations/wake", {"ids": [NOBODY]})).status == 404

    on_jobs(scenario)


def test_detail_shows_the_journal_with_results_and_durations() -> None:
    async def scenario(node: LogsNode) -> None:
        done = await node.node.call("Jobs", "steps", b"35", idempotency_key="i")
        detail = await node.get(f"/invocations/{invocation_id_text(done.invocation_id)}")
        row = detail["invocation"]
        shown = {entry["entry"]: entry for entry in detail["journal"]}

        assert (row["target"], row["status"], row["failure"]) == ("Jobs/steps", "completed", None)
        assert detail["output"] == {"bytes": 2, "json": 42}
        assert detail["started_by"] is None
        assert detail["waits_for"] == []
        assert (detail["entries"], detail["next_entry"]) == (len(detail["journal"]), None)
        assert shown["Input"]["fields"]["value"] == {"bytes": 2, "json": 35}
        assert (shown["Run"]["name"], shown["Run"]["result"]["value"]["json"]) == ("seven", 7)
        assert shown["Run"]["duration_ms"] == 0.0
        assert shown["RunCompletion"]["completes"] == shown["Run"]["index"]
        assert shown["Output"]["details"] == "42"
        assert shown["Output"]["result"]["value"]["json"] == 42

    on_jobs(scenario)


def test_journal_is_shown_in_parts() -> None:
    async def scenario(node: LogsNode) -> None:
        done = await node.node.call("Jobs", "steps", b"35")
        path = f"/invocations/{invocation_id_text(done.invocation_id)}"
        whole = (await node.get(path))["journal"]
        first = await node.get(f"{path}?limit=2")
        rest = await node.get(f"{path}?from_entry=2")

        assert len(whole) == 4
        assert (first["journal"], first["next_entry"]) == (whole[:2], 2)
        assert first["journal"][1]["result"] == {"value": {"bytes": 1, "json": 7}}
        assert (rest["journal"], rest["next_entry"]) == (whole[2:], None)

    on_jobs(scenario)


def test_detail_says_what_is_waited_for_and_by_whom() -> None:
    async def scenario(node: LogsNode) -> None:
        outer = await start(node, "Jobs", "outer")
        calling = await until(node, outer, "suspended")
        (wait,) = calling["waits_for"]
        inner = await until(node, wait["invocation"], "suspended")

        assert (wait["kind"], wait["text"]) == ("call", f"call to Jobs/nap ({wait['invocation']})")
        assert inner["waits_for"][0]["kind"] == "sleep"
        assert inner["waits_for"][0]["text"] == "sleep until 2023-11-14T23:13:20.000000000Z"
        link = {"id": outer, "how": "call", "target": "Jobs/outer", "status": "suspended"}
        assert inner["started_by"] == link
        assert inner["waiters"] == [link]

        holding = await until(node, await start(node, "Counter", "hold", key="a"), "suspended")
        assert holding["waits_for"][0]["kind"] == "awakeable"
        assert holding["waits_for"][0]["awakeable"].startswith("sign_1")
        running = await until(node, await start(node, "SignUp", "run", key="ann"), "suspended")
        assert running["waits_for"][0]["text"] == 'promise "clicked"'
        assert running["clients"] == 0

    on_jobs(scenario)


def test_pending_invocation_says_who_has_the_lock_and_how_many_come_first() -> None:
    async def scenario(node: LogsNode) -> None:
        holder = await start(node, "Counter", "hold", key="ann")
        await until(node, holder, "suspended")
        first = await start(node, "Counter", "add", b"1", key="ann")
        second = await start(node, "Counter", "add", b"1", key="ann")
        inbox = (await until(node, second, "pending"))["inbox"]

        assert (inbox["holder"]["id"], inbox["place"]) == (holder, 1)
        assert (await until(node, first, "pending"))["inbox"]["place"] == 0

    on_jobs(scenario)


def test_failures_are_kept_with_their_stack_and_command() -> None:
    async def scenario(node: LogsNode) -> None:
        detail = await until(node, await start(node, "Jobs", "fail"), "backing-off")
        (event,) = detail["events"]

        assert "printer is on fire" in detail["invocation"]["last_failure"]
        assert detail["invocation"]["next_retry"] is not None
        assert detail["invocation"]["failed_attempts"] == 1
        assert (event["kind"], event["attempt"]) == ("failed", 1)
        assert "printer is on fire" in event["message"]
        assert "jobs.py" in event["stacktrace"]
        assert event["next_retry"] == detail["invocation"]["next_retry"]

    on_jobs(scenario)


def test_cancel_reaches_what_waits_and_says_what_has_completed() -> None:
    async def scenario(node: LogsNode) -> None:
        napping = await start(node, "Jobs", "nap")
        await until(node, napping, "suspended")
        (asked,) = await act(node, "cancel", napping, napping)
        detail = await until(node, napping, "completed")
        again, wrong, unknown = await act(node, "cancel", napping, "inv_x", NOBODY)

        assert (asked["outcome"], asked["ok"]) == ("done", True)
        assert detail["invocation"]["failure"]["code"] == 409
        assert (again["outcome"], again["ok"]) == ("completed", False)
        assert "completed already" in again["message"]
        assert (wrong["outcome"], wrong["code"]) == ("malformed id", "PD0401")
        assert (unknown["outcome"], unknown["ok"]) == ("not found", False)

    on_jobs(scenario)


def test_kill_ends_those_that_were_called_too() -> None:
    async def scenario(node: LogsNode) -> None:
        outer = await start(node, "Jobs", "outer")
        called = (await until(node, outer, "suspended"))["waits_for"][0]["invocation"]
        (killed,) = await act(node, "kill", outer)

        assert killed["outcome"] == "done"
        assert (await until(node, outer, "completed"))["invocation"]["failure"]["message"]
        assert (await until(node, called, "completed"))["invocation"]["failure"]["code"] == 409

    on_jobs(scenario)


def test_pause_and_resume_say_what_they_did() -> None:
    async def scenario(node: LogsNode) -> None:
        failing = await start(node, "Jobs", "fail")
        await until(node, failing, "backing-off")
        (paused,) = await act(node, "pause", failing)
        detail = await until(node, failing, "paused")
        (again,) = await act(node, "pause", failing)
        (resumed,) = await act(node, "resume", failing)
        tried = await until(node, failing, "backing-off")

        assert (paused["outcome"], again["outcome"], resumed["outcome"]) == (
            "done",
            "unchanged",
            "done",
        )
        assert detail["events"][-1]["kind"] == "paused"
        assert tried["invocation"]["attempt"] == 2

    on_jobs(scenario)


def test_resume_on_a_deployment_that_cannot_run_it_is_refused() -> None:
    async def scenario(node: LogsNode) -> None:
        from perdure.sdk import Context, Service, app

        other = Service("Other")

        @other.handler()
        async def idle(ctx: Context) -> None:
            """Do nothing."""

        failing = await start(node, "Jobs", "fail")
        pinned = (await until(node, failing, "backing-off"))["invocation"]["deployment"]
        await node.node.add_worker(app([other]), name="other")
        listed = (await node.get("/deployments"))["deployments"]
        (foreign,) = (row["name"] for row in listed if row["services"] == ["Other"])
        (refused,) = await act(node, "resume", failing, deployment=foreign)
        unknown = await node.ask(
            "POST", "/invocations/resume", {"ids": [failing], "deployment": "dp-nowhere"}
        )
        (latest,) = await act(node, "resume", failing, deployment="latest")

        assert (refused["outcome"], refused["ok"], refused["code"]) == ("refused", False, "PD1008")
        assert "has no handler Jobs/fail" in refused["message"]
        assert (unknown.status, unknown.body["code"]) == (400, "PD1003")
        assert latest["outcome"] == "done"
        tried = await until(node, failing, "backing-off")
        assert tried["invocation"]["deployment"] == pinned

    on_jobs(scenario)


def test_restart_makes_a_new_invocation_from_an_entry_on() -> None:
    async def scenario(node: LogsNode) -> None:
        done = await node.node.call("Jobs", "steps", b"35")
        old = invocation_id_text(done.invocation_id)
        (restarted,) = await act(node, "restart", old, from_entry=2)
        detail = await until(node, restarted["new_id"], "completed")
        (far,) = await act(node, "restart", old, from_entry=9)
        napping = await start(node, "Jobs", "nap")
        await until(node, napping, "suspended")
        (early,) = await act(node, "restart", napping)

        assert restarted["outcome"] == "done"
        assert detail["restarted_from"]["id"] == old
        assert detail["output"] == {"bytes": 2, "json": 42}
        assert (far["ok"], far["code"]) == (False, "PD1003")
        assert "0 to 3" in far["message"]
        assert (early["outcome"], early["ok"]) == ("not completed", False)

    on_jobs(scenario)


def test_purge_forgets_the_journal_or_everything() -> None:
    async def scenario(node: LogsNode) -> None:
        done = await node.node.call("Jobs", "steps", b"35")
        old = invocation_id_text(done.invocation_id)
        (half,) = await act(node, "purge", old, journal_only=True)
        detail = await node.get(f"/invocations/{old}")
        (gone,) = await act(node, "restart", old)
        (whole,) = await act(node, "purge", old)

        assert (half["outcome"], whole["outcome"]) == ("done", "done")
        assert (detail["journal"], detail["output"]["json"]) == ([], 42)
        assert (gone["outcome"], gone["ok"]) == ("journal gone", False)
        assert (await node.ask("GET", f"/invocations/{old}")).status == 404

    on_jobs(scenario)


def test_many_invocations_are_scanned_without_holding_the_loop_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With no time at all for a slice, everybody has a turn after each read of 50 rows.
    monkeypatch.setattr(pacing, "SLICE_SECONDS", 0.0)

    async def scenario(node: LogsNode) -> None:
        manager = node.node.engine.manager
        done = await node.node.call("Jobs", "steps", b"35")
        row = manager.processors[0].transaction.invocation(done.invocation_id)
        assert row is not None
        value = encode_invocation(row)
        rows = [(b"i" + number.to_bytes(24, "big"), value) for number in range(20_000)]
        node.node.stores["store"].write(list(rows))
        loop = asyncio.get_running_loop()
        turns = 0

        def count() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(count)

        loop.call_soon(count)
        page = await read_led_page(manager, InvocationsQuery(limit=1000), [0])

        assert page.looked_at == 20_001
        assert turns >= 400

    on_jobs(scenario)


def test_a_page_looks_at_a_bounded_number_and_says_where_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invocation_pages, "SCANNED_MAX", 10)

    async def scenario(node: LogsNode) -> None:
        started = {await start(node, "Jobs", "nap") for _ in range(25)}
        seen: set[str] = set()
        looked_at = []
        after = ""
        while True:
            page = await node.get(f"/invocations?limit=1000{after}")
            seen |= {row["id"] for row in page["invocations"]}
            looked_at.append(page["looked_at"])
            if page["next"] is None:
                break
            after = f"&after={page['next']}"

        assert seen == started
        assert looked_at == [10, 10, 5]

    on_jobs(scenario)
