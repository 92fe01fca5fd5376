"""Requests that cannot be served: each has a status, a code, and a sentence that names the fix."""

import json
from collections.abc import Iterator

import grpc
import pytest

from perdure.proto.generated import ingress_pb2 as wire

from .cluster import ANSWER_SECONDS_MAX, Cluster
from .processes import run_perdure

BODY_BYTES_MAX = 32 * 1024 * 1024

REFUSED = [
    ("/Nobody/greet", 404, "PD0501", "start a worker that offers it"),
    ("/Greeter/shout", 404, "PD0502", "it has greet"),
    ("/Counter/add", 400, "PD0503", "call Counter/KEY/add"),
    ("/Greeter/ann/greet", 400, "PD0504", "call Greeter/greet"),
]
"""Path, HTTP status, code, part of the sentence that says what to do."""

GRPC_CODES = {
    "PD0501": grpc.StatusCode.NOT_FOUND,
    "PD0502": grpc.StatusCode.NOT_FOUND,
    "PD0503": grpc.StatusCode.INVALID_ARGUMENT,
    "PD0504": grpc.StatusCode.INVALID_ARGUMENT,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node with a worker, common to all tests of this file."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.start()
        yield running
        assert running.node is not None
        assert running.node.stop() == 0
        assert running.workers["worker"].stop() == 0
        assert "Traceback" not in running.node.stderr
        assert "Traceback" not in running.workers["worker"].stderr


def target_of(path: str) -> wire.Target:
    """The target that an HTTP path names."""
    parts = path.strip("/").split("/")
    key = parts[1] if len(parts) == 3 else None
    return wire.Target(service=parts[0], handler=parts[-1], key=key)


def still_serves(cluster: Cluster) -> bool:
    """Whether a good call gets its answer."""
    with cluster.http() as client:
        return client.post("/Greeter/greet", "Ann").body == b'"Hello Ann"'


@pytest.mark.parametrize(("path", "status", "code", "fix"), REFUSED)
def test_over_http(cluster: Cluster, path: str, status: int, code: str, fix: str) -> None:
    """Status, code and sentence as JSON; with ``/send`` the same."""
    with cluster.http() as client:
        for suffix in ("", "/send") if path.count("/") > 2 or code == "PD0501" else ("",):
            answer = client.post(path + suffix, 1)
            assert answer.status == status, answer
            assert answer.headers["content-type"] == "application/json"
            content = answer.json()
            assert (content["error"], content["code"]) == (code, status)
            assert fix in content["message"], content
    assert still_serves(cluster)


@pytest.mark.parametrize(("path", "status", "code", "fix"), REFUSED)
def test_over_grpc(cluster: Cluster, path: str, status: int, code: str, fix: str) -> None:
    """Status, code in the trailing metadata and sentence, for Call and for Send."""
    invocation = wire.InvocationRequest(target=target_of(path), body=b"1")
    with cluster.grpc() as stub:
        for ask, request in (
            (stub.Call, wire.CallRequest(invocation=invocation)),
            (stub.Send, wire.SendRequest(invocation=invocation)),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                ask(request, timeout=ANSWER_SECONDS_MAX)
            error = raised.value
            assert error.code() is GRPC_CODES[code]
            assert ("perdure-error", code) in tuple(error.trailing_metadata())
            assert fix in error.details()


@pytest.mark.parametrize(("path", "status", "code", "fix"), REFUSED)
def test_on_the_command_line(cluster: Cluster, path: str, status: int, code: str, fix: str) -> None:
    """Exit status 1, nothing on stdout, code and fix on stderr."""
    for command in ("call", "send"):
        ended = run_perdure(
            command, path.strip("/"), "1", "--ingress", cluster.address("ingress-grpc")
        )
        assert ended.status == 1, ended
        assert ended.stdout == ""
        assert ended.stderr.startswith(f"error {code}: "), ended
        assert fix in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("body", [b"{", b'"five"', b"\xff\xfe", b"1 2", b"[1]"])
def test_malformed_json_for_a_typed_handler(cluster: Cluster, body: bytes) -> None:
    """A terminal failure of the invocation, 400, that says what was expected; never retried."""
    with cluster.http() as client:
        answer = client.request("POST", "/Counter/bad/add", body, content_type="application/json")
        assert answer.status == 400, answer
        content = answer.json()
        assert content["code"] == 400
        assert "malformed input for Counter/add" in content["message"], content
        # The object is free again at once.
        assert client.request("GET", "/Counter/bad/get").status == 200
    response = cluster.call("Counter", "add", "five", key="bad")
    assert response.failure.code == 400
    assert "malformed input for Counter/add" in response.failure.message
    assert cluster.counter("bad") == 0


def test_no_body_where_one_is_needed(cluster: Cluster) -> None:
    """Refused by the node: the handler says that it needs one."""
    with cluster.http() as client:
        answer = client.request("POST", "/Counter/bad/add", b"", content_type="application/json")
        assert answer.status == 400, answer
        content = answer.json()
        assert (content["error"], content["source"]) == ("PD0512", "ingress")
        assert "needs a body of content type 'application/json'" in content["message"]
    assert cluster.counter("bad") == 0


def test_malformed_json_on_the_command_line(cluster: Cluster) -> None:
    """What is no JSON is wrong usage; JSON of another type fails in the handler."""
    ingress = ("--ingress", cluster.address("ingress-grpc"))
    ended = run_perdure("call", "Greeter/greet", "Ann", *ingress)
    assert ended.status == 2
    assert "a text needs quotes of its own" in " ".join(ended.stderr.split())
    ended = run_perdure("call", "Counter/bad/add", '"five"', *ingress)
    assert ended.status == 1
    assert ended.stdout == ""
    assert "[400]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_body_over_32_mib(cluster: Cluster) -> None:
    """Refused over both protocols, with and without a declared length; the limit itself fits."""
    largest = json.dumps("x" * (BODY_BYTES_MAX - 2)).encode()
    assert len(largest) == BODY_BYTES_MAX
    with cluster.http() as client:
        answer = client.request("POST", "/Greeter/greet", largest + b" ")
        assert answer.status == 413, answer
        content = answer.json()
        assert content["error"] == "PD0505"
        assert "limits.body_bytes_max" in content["message"]
    with cluster.grpc() as stub:
        request = wire.CallRequest(
            invocation=wire.InvocationRequest(
                target=wire.Target(service="Greeter", handler="greet"), body=largest + b" "
            )
        )
        with pytest.raises(grpc.RpcError) as raised:
            stub.Call(request, timeout=ANSWER_SECONDS_MAX)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("perdure-error", "PD0505") in tuple(raised.value.trailing_metadata())
    assert still_serves(cluster)


def test_the_largest_body_fits(cluster: Cluster) -> None:
    """Exactly the limit is taken, run and acknowledged; its answer is over the limit of answers."""
    largest = json.dumps("x" * (BODY_BYTES_MAX - 2)).encode()
    with cluster.http() as client:
        sent = client.request("POST", "/Greeter/measure", largest)
        assert (sent.status, sent.body) == (200, str(BODY_BYTES_MAX - 2).encode()), sent.body[:300]
    assert still_serves(cluster)
