"""What a metadata server does with connections: greetings, nonsense, batches."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from perdure.core.net.inproc import InProcConnection
from perdure.metadata.quorum import SERVICE
from perdure.metadata.quorum import messages as m
from perdure.metadata.quorum import server as server_module

from .hosts import FINGERPRINT, InProcessServers, ProvisioningStore


def run(scenario: Callable[[InProcessServers], Coroutine[Any, Any, None]], count: int = 1) -> None:
    """Run a scenario against servers of a cluster."""

    async def whole() -> None:
        servers = InProcessServers(count)
        await ProvisioningStore(servers).get("key")
        await scenario(servers)

    asyncio.run(whole())


async def greeted(servers: InProcessServers, hello: bytes) -> tuple[InProcConnection, m.Welcome]:
    """A connection to the first server, and how it answers a greeting."""
    connection = await servers.transport.connect(servers.addresses[0], SERVICE)
    connection.send(hello)
    message = await connection.receive()
    assert message is not None
    return connection, m.decode_welcome(message)


def hello(version: int = m.PROTOCOL_VERSION, fingerprint: str = "") -> bytes:
    """A greeting."""
    return m.encode_greeting(m.Hello(version, fingerprint, "n9:3"))


def test_a_server_says_who_it_is() -> None:
    async def scenario(servers: InProcessServers) -> None:
        _, welcome = await greeted(servers, hello(fingerprint=FINGERPRINT))

        assert welcome.refusal == ""
        assert welcome.fingerprint == FINGERPRINT
        assert welcome.name == "n1"
        assert servers.servers[0] is not None
        assert welcome.server_id == servers.servers[0].acceptor.server_id

    run(scenario)


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [(hello(version=9), "version"), (hello(fingerprint="strangers"), "another cluster")],
)
def test_a_stranger_is_refused_and_told_why(greeting: bytes, reason: str) -> None:
    async def scenario(servers: InProcessServers) -> None:
        connection, welcome = await greeted(servers, greeting)

        assert reason in welcome.refusal
        assert await connection.receive() is None

    run(scenario)


@pytest.mark.parametrize("nonsense", [b"", b"\xc1", m.encode_numbered(1, m.Status())])
def test_a_connection_that_begins_with_nonsense_ends(nonsense: bytes) -> None:
    async def scenario(servers: InProcessServers) -> None:
        connection = await servers.transport.connect(servers.addresses[0], SERVICE)
        connection.send(nonsense)

        assert await connection.receive() is None

    run(scenario)


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"1234567", b"12345678", b"12345678\xc1", m.encode_numbered(1, m.Done()), hello()],
)
def test_nonsense_ends_its_connection_alone(nonsense: bytes) -> None:
    async def scenario(servers: InProcessServers) -> None:
        connection, _ = await greeted(servers, hello())
        other, _ = await greeted(servers, hello())
        connection.send(nonsense)

        assert await connection.receive() is None
        other.send(m.encode_numbered(5, m.Status()))
        reply = await other.receive()
        assert reply is not None
        assert m.decode_reply(reply)[0] == 5

    run(scenario)


def test_who_does_not_greet_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GREETING_TIMEOUT_SECONDS", 0.01)

    async def scenario(servers: InProcessServers) -> None:
        connection = await servers.transport.connect(servers.addresses[0], SERVICE)

        assert await connection.receive() is None

    run(scenario)


def test_requests_of_one_turn_share_one_write_and_one_sync() -> None:
    async def scenario(servers: InProcessServers) -> None:
        ends = [(await greeted(servers, hello()))[0] for _ in range(3)]
        disk = servers.disks[0]
        writes, syncs = disk.writes, disk.syncs
        for number, end in enumerate(ends):
            for key in range(10):
                ballot = (1).to_bytes(8, "big") + bytes(16)
                end.send(m.encode_numbered(key, m.Prepare(1, b"u%d-%d" % (number, key), ballot)))
        for end in ends:
            for key in range(10):
                reply = await end.receive()
                assert reply is not None
                assert m.decode_reply(reply)[0] == key

        assert (disk.writes - writes, disk.syncs - syncs) == (1, 1)

    run(scenario)


def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "BATCH_REQUESTS_MAX", 4)

    async def scenario(servers: InProcessServers) -> None:
        end, _ = await greeted(servers, hello())
        disk = servers.disks[0]
        writes = disk.writes
        for key in range(10):
            ballot = (1).to_bytes(8, "big") + bytes(16)
            end.send(m.encode_numbered(key, m.Prepare(1, b"u%d" % key, ballot)))
        replies = [await end.receive() for _ in range(10)]

        assert [m.decode_reply(reply or b"")[0] for reply in replies] == list(range(10))
        assert disk.writes - writes == 3

    run(scenario)
