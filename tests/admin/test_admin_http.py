"""Admin REST on a real socket."""

import asyncio
import http.client
import json

import pytest

from perdure import __version__
from perdure.admin.http import AdminServer
from perdure.core.errors import AddressInUseError
from perdure.core.metrics import CONTENT_TYPE, Metrics

from .fake_view import FakeView

Answer = tuple[int, dict[str, str], bytes]


def answers(*requests: tuple[str, str]) -> list[Answer]:
    """What admin REST answers to requests, one after the other on one connection."""

    def ask(address: str) -> list[Answer]:
        connection = http.client.HTTPConnection(address, timeout=60)
        found: list[Answer] = []
        for method, path in requests:
            connection.request(method, path)
            response = connection.getresponse()
            found.append((response.status, dict(response.getheaders()), response.read()))
        connection.close()
        return found

    async def run() -> list[Answer]:
        metrics = Metrics()
        view = FakeView()
        metrics.set_partition_source(view.partitions)
        server = AdminServer(view, metrics)
        address = await server.start("127.0.0.1:0")
        try:
            return await asyncio.to_thread(ask, address)
        finally:
            await server.stop()

    return asyncio.run(run())


def test_partitions_are_listed_and_shown_one_by_one() -> None:
    listed, one = answers(("GET", "/partitions"), ("GET", "/partitions/1/"))

    assert (listed[0], one[0]) == (200, 200)
    assert listed[1]["content-type"] == "application/json"
    first, second = json.loads(listed[2])["partitions"]
    assert first["partition"] == 0
    assert first["invocations"] == {"completed": 5, "running": 2}
    assert second["error"] == "PD0901: parked at 7"
    detail = json.loads(one[2])
    assert detail["status"] == second
    assert detail["digest"] == "ab12"


def test_node_tells_who_it_is() -> None:
    version, health = answers(("GET", "/version"), ("GET", "/health"))

    assert json.loads(version[2]) == {
        "version": __version__,
        "node": "node-1",
        "cluster": "perdure",
    }
    assert (health[0], json.loads(health[2])) == (200, {"status": "ok", "node": "node-1"})


def test_metrics_are_there_for_scrapers() -> None:
    [(status, headers, body)] = answers(("GET", "/metrics"))

    assert status == 200
    assert headers["content-type"] == CONTENT_TYPE
    assert b'perdure_partition_applied_lag{partition="1"} 3.0' in body


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "PD1001"),
        ("GET", "/nothing", 404, "PD1001"),
        ("GET", "/partitions/9", 404, "PD1001"),
        ("GET", "/partitions/x", 404, "PD1001"),
        ("GET", "/partitions/-1", 404, "PD1001"),
        ("GET", "/partitions/99999999999999999999", 404, "PD1001"),
        ("GET", "/partitions/1/x", 404, "PD1001"),
        ("POST", "/partitions", 405, "PD1002"),
    ],
)
def test_refusal_is_json(method: str, path: str, status: int, code: str) -> None:
    [(found, headers, body)] = answers((method, path))
    error = json.loads(body)

    assert (found, error["code"]) == (status, code)
    assert set(error) == {"code", "message"}
    assert error["message"]
    assert headers["content-type"] == "application/json"


def test_taken_port_is_named_with_its_option() -> None:
    async def run() -> str:
        first = AdminServer(FakeView(), Metrics())
        address = await first.start("127.0.0.1:0")
        try:
            with pytest.raises(AddressInUseError) as refused:
                await AdminServer(FakeView(), Metrics()).start(address)
        finally:
            await first.stop()
        return refused.value.message

    assert "listen.admin" in asyncio.run(run())
