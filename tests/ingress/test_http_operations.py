"""The HTTP front door of a real node: delays, attach, output, lookup, awakeables and signals."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from perdure.core.ids import InvocationId, awakeable_id_text, invocation_id_text
from perdure.ingress.errors import NotLeaderError

from .front_doors import Answer, Door, open_door

UNKNOWN = invocation_id_text(InvocationId(bytes(range(24))))
JSON = "application/json"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def behind(scenario: Callable[[Door], Awaitable[None]], *options: str) -> None:
    """Run a scenario against a node."""

    async def run() -> None:
        async with asyncio.timeout(60), open_door(*options) as door:
            await scenario(door)

    asyncio.run(run())


def check_error(answer: Answer, status: int, code: str | None, source: str = "ingress") -> str:
    """Whether an answer is this error; gives its message."""
    error = answer.json()
    assert answer.status == status, answer
    assert answer.headers["content-type"] == JSON
    assert answer.headers["x-restate-error-source"] == error["source"] == source
    assert error["code"] == status
    assert error.get("error") == code
    assert isinstance(error["message"], str)
    return error["message"]


async def awakeable_of(door: Door, key: str) -> str:
    """The awakeable that the box under a key waits for, once it does."""
    while True:
        answer = await door.ask("GET", f"/Box/{key}/awaited")
        if answer.json() is not None:
            found: str = answer.json()
            return found


def test_result_is_answered_with_what_the_handler_says_of_it() -> None:
    async def scenario(door: Door) -> None:
        greeting = await door.post_json("/Greeter/greet", "Ann")
        assert (greeting.status, greeting.body) == (200, b'"Hello Ann"')
        assert greeting.headers["content-type"] == JSON
        assert greeting.headers["x-restate-id"].startswith("inv_1")
        assert "idempotency-expires" not in greeting.headers
        octets = await door.ask(
            "POST", "/Greeter/raw", b"abc", content_type="application/octet-stream"
        )
        assert (octets.status, octets.body) == (200, b"cba")
        assert octets.headers["content-type"] == "application/octet-stream"
        nothing = await door.ask("GET", "/Greeter/nothing")
        assert (nothing.status, nothing.body) == (200, b"")
        assert "content-type" not in nothing.headers

    behind(scenario)


def test_stored_result_says_when_it_expires_and_a_new_one_does_not() -> None:
    async def scenario(door: Door) -> None:
        answers = [
            await door.post_json("/Greeter/greet", "Ann", idempotency_key="k") for _ in range(2)
        ]
        first, second = answers

        assert first.body == second.body == b'"Hello Ann"'
        assert first.headers["x-restate-id"] == second.headers["x-restate-id"]
        assert "idempotency-expires" not in first.headers
        text = second.headers["idempotency-expires"]
        assert text.endswith("+00:00")
        left = datetime.fromisoformat(text) - datetime.now().astimezone()
        assert 23 * 3600 < left.total_seconds() < 25 * 3600

    behind(scenario)


def test_input_that_the_handler_does_not_take_is_refused() -> None:
    refused = [
        ("/Greeter/greet", b"1", "text/plain", ["'application/json'", "'text/plain'"]),
        ("/Greeter/greet/send", b"1", "text/plain", ["'application/json'", "'text/plain'"]),
        ("/Greeter/greet", b"", JSON, ["needs a body", "'application/json'"]),
        ("/Greeter/greet", b"", "", ["needs a body", "'application/json'", "'none'"]),
        ("/Greeter/text", b"1", JSON, ["'text/*'", "'application/json'"]),
        ("/Greeter/nothing", b"1", JSON, ["takes no input", "'application/json'"]),
        ("/Greeter/nothing", b"1", "", ["takes no input", "'none'"]),
    ]

    async def scenario(door: Door) -> None:
        for path, body, content_type, words in refused:
            headers = {"content_type": content_type} if content_type else {}
            message = check_error(await door.ask("POST", path, body, **headers), 400, "PD0512")
            assert all(word in message for word in words), message

    behind(scenario)


def test_input_that_the_handler_takes_is_not_looked_into() -> None:
    taken = [
        ("/Greeter/greet", b'"Ann"', ""),
        ("/Greeter/greet", b'"Ann"', "Application/JSON; charset=utf-8"),
        ("/Greeter/text", b"1", "text/csv"),
        ("/Greeter/nothing", b"", JSON),
    ]

    async def scenario(door: Door) -> None:
        for path, body, content_type in taken:
            headers = {"content_type": content_type} if content_type else {}
            answer = await door.ask("POST", path, body, **headers)
            assert answer.status == 200, answer
        malformed = await door.ask("POST", "/Greeter/greet", b"{", content_type=JSON)
        assert malformed.json()["source"] == "invocation"

    behind(scenario)


def test_private_handlers_and_misplaced_keys_are_refused() -> None:
    async def scenario(door: Door) -> None:
        for path in ("/Greeter/secret", "/Greeter/secret/send", "/Hidden/inside"):
            assert "private" in check_error(await door.ask("POST", path), 400, "PD0511")
        refused = await door.post_json("/Trip/one/run", "Rome", idempotency_key="k")
        assert "runs once per workflow key" in check_error(refused, 400, "PD0506")
        refused = await door.post_json("/Trip/run", "Rome")
        assert "is a workflow and needs a key" in check_error(refused, 400, "PD0503")

    behind(scenario)


def test_delayed_send_tells_when_it_starts_and_keeps_to_the_first_time() -> None:
    async def scenario(door: Door) -> None:
        path = "/Greeter/greet/send?delay="
        first = await door.post_json(path + "1h", "Ann", idempotency_key="k")
        again = await door.post_json(path + "2%20days", "Ann", idempotency_key="k")
        soon = await door.post_json(path + "5", "Bob")
        now = await door.post_json(path + "PT0S", "Eve")

        assert [answer.status for answer in (first, again, soon, now)] == [202] * 4
        assert first.json()["status"] == "Accepted"
        assert TIME.fullmatch(first.json()["executionTime"])
        left = datetime.fromisoformat(first.json()["executionTime"]) - datetime.now().astimezone()
        assert 3500 < left.total_seconds() <= 3600
        assert again.json() == first.json() | {"status": "PreviouslyAccepted"}
        assert set(now.json()) == {"invocationId", "status"}
        attached = await door.ask("GET", f"/restate/attach/{soon.json()['invocationId']}")
        assert attached.body == b'"Hello Bob"'

    behind(scenario)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/Greeter/greet?delay=1s", "taken by /send only"),
        ("/restate/call/Greeter/greet?delay=1s", "taken by /send only"),
        ("/Greeter/greet/send?delay=", "is not understood"),
        ("/Greeter/greet/send?delay=soon", "is not understood"),
        ("/Greeter/greet/send?delay=-1s", "is not understood"),
        ("/Greeter/greet/send?delay=40000%20days", "longer than 100 years"),
        ("/Greeter/greet/send?limit-key=a", "scopes are not supported"),
        ("/restate/scope/a/send/Greeter/greet", "scopes are not supported"),
    ],
)
def test_delay_or_scope_that_cannot_be_is_refused(path: str, message: str) -> None:
    async def scenario(door: Door) -> None:
        assert message in check_error(await door.post_json(path, "Ann"), 400, "PD0506")

    behind(scenario)


def test_workflow_runs_once_and_is_attached_to_by_its_key() -> None:
    async def scenario(door: Door) -> None:
        sent = await door.post_json("/Trip/a%2Fb/run/send", "Rome")
        assert (sent.status, sent.json()["status"]) == (202, "Accepted")
        again = await door.post_json("/Trip/a%2Fb/run/send", "Oslo")
        assert again.json() == sent.json() | {"status": "PreviouslyAccepted"}
        refused = await door.post_json("/Trip/a%2Fb/run", "Oslo")
        check_error(refused, 409, "PD0910")
        assert refused.headers["x-restate-id"] == sent.json()["invocationId"]
        output = await door.ask("GET", "/restate/workflow/Trip/a%2Fb/output")
        check_error(output, 470, "PD0510")

        waiting = asyncio.ensure_future(door.ask("GET", "/restate/workflow/Trip/a%2Fb/attach"))
        booked = await door.post_json("/Trip/a%2Fb/book", "two tickets")
        assert booked.status == 200, booked
        attached = await waiting
        assert (attached.status, attached.body) == (200, b'"two tickets to Rome"')
        assert attached.headers["x-restate-id"] == sent.json()["invocationId"]
        by_body = {"target": "workflow", "workflowName": "Trip", "workflowKey": "a/b"}
        for answer in (
            await door.ask("GET", "/restate/workflow/Trip/a%2Fb/output"),
            await door.post_json("/restate/output", by_body),
            await door.post_json("/restate/attach", by_body),
        ):
            assert (answer.status, answer.body) == (200, b'"two tickets to Rome"')
            assert "idempotency-expires" in answer.headers
        found = await door.post_json("/restate/lookup", by_body)
        assert found.json() == {"invocationId": sent.json()["invocationId"]}

    behind(scenario)


def test_invocation_is_found_by_id_and_by_idempotency_key_in_every_form() -> None:
    async def scenario(door: Door) -> None:
        plain = await door.post_json("/Greeter/greet", "Ann", idempotency_key="a b/c")
        keyed = await door.ask("GET", "/Box/x/awaited", idempotency_key="i")
        failed = await door.post_json("/Greeter/fail", "Ann", idempotency_key="f")
        assert keyed.status == 200, keyed
        for answer, paths, reference in (
            (
                plain,
                ["invocation/Greeter/greet/a%20b%2Fc"],
                {"service": "Greeter", "handler": "greet", "idempotencyKey": "a b/c"},
            ),
            (
                keyed,
                ["invocation/Box/x/awaited/i"],
                {"service": "Box", "key": "x", "handler": "awaited", "idempotencyKey": "i"},
            ),
            (
                failed,
                ["invocation/Greeter/fail/f"],
                {"service": "Greeter", "handler": "fail", "idempotencyKey": "f"},
            ),
        ):
            identity = answer.headers["x-restate-id"]
            body = {"target": "idempotentInvocation"} | reference
            by_id = {"target": "invocation", "invocationId": identity}
            for verb in ("attach", "output"):
                got = [
                    await door.ask("GET", f"/restate/{path}/{verb}")
                    for path in [*paths, f"invocation/{identity}"]
                ]
                got.append(await door.ask("GET", f"/restate/{verb}/{identity}"))
                got.append(await door.post_json(f"/restate/{verb}", body))
                got.append(await door.post_json(f"/restate/{verb}", by_id))
                for each in got:
                    assert (each.status, each.body) == (answer.status, answer.body), each
                    assert each.headers["x-restate-id"] == identity
            found = await door.post_json("/restate/lookup", body)
            assert found.json() == {"invocationId": identity}
        assert failed.status == 418

    behind(scenario)


@pytest.mark.parametrize(
    ("verb", "source", "code"), [("attach", "invocation", None), ("output", "ingress", "PD0912")]
)
def test_unknown_invocation_is_not_found(verb: str, source: str, code: str | None) -> None:
    async def scenario(door: Door) -> None:
        for answer in (
            await door.ask("GET", f"/restate/invocation/{UNKNOWN}/{verb}"),
            await door.ask("GET", f"/restate/{verb}/{UNKNOWN}"),
            await door.ask("GET", f"/restate/workflow/Trip/nobody/{verb}"),
            await door.post_json(
                f"/restate/{verb}", {"target": "invocation", "invocationId": UNKNOWN}
            ),
        ):
            assert check_error(answer, 404, code, source) == "not found"
            assert ("x-restate-id" in answer.headers) == (verb == "attach")

    behind(scenario)


def test_lookup_needs_no_invocation() -> None:
    async def scenario(door: Door) -> None:
        reference = {
            "target": "idempotentInvocation",
            "service": "Greeter",
            "handler": "greet",
            "idempotencyKey": "q",
        }
        found = await door.post_json("/restate/lookup", reference)
        assert (found.status, found.headers["content-type"]) == (200, JSON)
        assert found.json() == {"invocationId": "inv_10sLWuuprruE3ZMAqa6Wvld3EMezlzWMyL"}

    behind(scenario)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/restate/attach/inv_1x", None, 400, "PD0401"),
        ("GET", "/restate/invocation/nothing/output", None, 400, "PD0401"),
        ("GET", "/restate/invocation/Nobody/h/i/attach", None, 404, "PD0501"),
        ("GET", "/restate/invocation/Box/h/i/attach", None, 400, "PD0506"),
        ("GET", "/restate/invocation/Greeter/greet//output", None, 400, "PD0506"),
        ("POST", f"/restate/attach/{UNKNOWN}", b"", 405, "PD0507"),
        ("GET", "/restate/attach", None, 405, "PD0507"),
        ("GET", "/restate/lookup", None, 405, "PD0507"),
        ("POST", "/restate/attach", b"", 400, "PD0506"),
        ("POST", "/restate/attach", b"{", 400, "PD0506"),
        ("POST", "/restate/attach", b"\xff", 400, "PD0506"),
        ("POST", "/restate/attach", b"[" * 200_000, 400, "PD0506"),
        ("POST", "/restate/attach", b'{"target":"job"}', 400, "PD0506"),
        ("POST", "/restate/output", b'{"target":"invocation"}', 400, "PD0506"),
        ("POST", "/restate/lookup", b'{"target":"invocation","invocationId":"x"}', 400, "PD0401"),
        (
            "POST",
            "/restate/lookup",
            b'{"target":"workflow","workflowName":"W","workflowKey":""}',
            400,
            "PD0506",
        ),
        (
            "POST",
            "/restate/lookup",
            b'{"target":"workflow","workflowName":"W","workflowKey":"k","scope":"s"}',
            400,
            "PD0506",
        ),
        ("GET", "/restate/awakeables/sign_1x/resolve", None, 405, "PD0507"),
        ("POST", "/restate/awakeables/sign_1x/resolve", b"1", 400, "PD0401"),
        (
            "POST",
            f"/restate/a/{awakeable_id_text(InvocationId(bytes(24)), 1)}/resolve",
            b"1",
            400,
            "PD0401",
        ),
        ("POST", "/restate/signal/inv_1x/n/resolve", b"1", 400, "PD0401"),
        ("POST", f"/restate/signal/{UNKNOWN}/n/reject", b"\xff", 400, "PD0506"),
        ("POST", f"/restate/signal/{UNKNOWN}/{'n' * 2049}/resolve", b"1", 400, "PD0506"),
        ("GET", "/openapi", None, 404, "PD0501"),
        ("GET", "/openapi/x", None, 404, "PD0501"),
    ],
)
def test_operation_that_is_malformed_is_refused(
    method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    async def scenario(door: Door) -> None:
        answer = await door.ask(method, path, body)
        check_error(answer, status, code)
        allowed = answer.headers.get("allow")
        assert allowed == ({"GET": "POST", "POST": "GET"}[method] if status == 405 else None)

    behind(scenario)


@pytest.mark.parametrize("prefix", ["/restate/awakeables/", "/restate/a/"])
@pytest.mark.parametrize(
    ("verb", "body", "status", "result"),
    [("resolve", b'"yes"', 200, "yes"), ("reject", b"no \xc3\xa9", 500, "no é")],
)
def test_awakeable_is_completed(
    prefix: str, verb: str, body: bytes, status: int, result: str
) -> None:
    async def scenario(door: Door) -> None:
        sent = await door.ask("POST", "/Box/b/wait/send")
        path = f"{prefix}{await awakeable_of(door, 'b')}/{verb}"
        completed = await door.ask("POST", path, body)
        assert (completed.status, completed.body) == (202, b"")
        answer = await door.ask("GET", f"/restate/attach/{sent.json()['invocationId']}")
        assert answer.status == status
        assert (answer.json() if status == 200 else answer.json()["message"]) == result
        # Nobody waits any more, and that is no fault of whoever completes it.
        assert (await door.ask("POST", path, body)).status == 202

    behind(scenario)


def test_awakeable_and_signal_of_an_unknown_invocation_are_acknowledged() -> None:
    async def scenario(door: Door) -> None:
        awakeable = awakeable_id_text(InvocationId(bytes(range(24))), 17)
        for path in (
            f"/restate/awakeables/{awakeable}/resolve",
            f"/restate/signal/{UNKNOWN}/n/reject",
        ):
            answer = await door.ask("POST", path, b"1")
            assert (answer.status, answer.body) == (202, b"")

    behind(scenario)


@pytest.mark.parametrize(("verb", "status"), [("resolve", 200), ("reject", 500)])
def test_signal_reaches_the_handler(verb: str, status: int) -> None:
    async def scenario(door: Door) -> None:
        sent = await door.ask("POST", "/Greeter/wait_for_signal/send")
        identity = sent.json()["invocationId"]
        signalled = await door.ask("POST", f"/restate/signal/{identity}/go/{verb}", b'"now"')
        assert (signalled.status, signalled.body) == (202, b"")
        answer = await door.ask("GET", f"/restate/attach/{identity}")
        assert answer.status == status
        assert answer.json() == "now" if status == 200 else answer.json()["message"] == '"now"'

    behind(scenario)


def test_attached_and_other_operations_count_as_in_flight() -> None:
    async def scenario(door: Door) -> None:
        sent = await door.ask("POST", "/Box/b/wait/send")
        identity = sent.json()["invocationId"]
        await awakeable_of(door, "b")
        waiting = asyncio.ensure_future(door.ask("GET", f"/restate/attach/{identity}"))
        clients = [processor.clients for processor in door.node.engine.manager.processors]
        while sum(map(len, clients)) == 0:
            await asyncio.sleep(0.005)
        for method, path in (
            ("GET", f"/restate/attach/{identity}"),
            ("GET", f"/restate/output/{identity}"),
            ("POST", f"/restate/signal/{identity}/n/resolve"),
            ("POST", "/Box/b/wait"),
        ):
            answer = await door.ask(method, path)
            check_error(answer, 429, "PD0508")
            assert answer.headers["retry-after"] == "1"
        for each in clients:
            each.fail(NotLeaderError("over"))
        assert (await waiting).status == 503

    behind(scenario, "limits.in_flight_max_per_partition=1")
