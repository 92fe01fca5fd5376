"""What only TcpTransport does: its greeting, its bounds, how it opens and how it closes."""

import asyncio
import contextlib
import logging
import socket
import struct

import pytest

from perdure.core.errors import AddressInUseError, TransportError
from perdure.core.net import tcp, tcp_connection
from perdure.core.net.tcp import ACCEPTED, MAGIC, UNKNOWN_SERVICE, UNKNOWN_VERSION, TcpTransport
from perdure.core.net.tcp_connection import TcpConnection
from perdure.core.net.transport import MESSAGE_BYTES_MAX, Connection

from ...conformance.transport import PATIENCE_SECONDS, Ends, echo, listening, received, until
from ...ports import free_port
from .test_transport import LOOPS, TcpHarness, patient_close

GREETING = MAGIC + bytes((1, 4)) + b"test"
ANSWER = MAGIC + bytes((1, ACCEPTED, 0, 0))
MEBIBYTE = bytes(1024 * 1024)
A_SECOND = tcp_connection.CLOSE_TIMEOUT_SECONDS
_patient_close = pytest.fixture(autouse=True)(patient_close)


@pytest.fixture(params=LOOPS)
def harness(request: pytest.FixtureRequest) -> TcpHarness:
    """A harness per kind of loop."""
    return TcpHarness(LOOPS[request.param])


@pytest.fixture(autouse=True)
def _patient_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is dropped before the tests lose patience was dropped for what he said."""
    monkeypatch.setattr(tcp, "GREETING_TIMEOUT_SECONDS", 10 * PATIENCE_SECONDS)


async def dial(ends: Ends) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the listener as something that is not Perdure."""
    host, _, port = ends.listener.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def end(writer: asyncio.StreamWriter) -> None:
    """Close it and wait until it is closed."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def answer_to(ends: Ends, said: bytes) -> bytes:
    """Say something to the listener and read until it closes; see `_patient_greeting`."""
    reader, writer = await dial(ends)
    async with asyncio.timeout(PATIENCE_SECONDS):
        writer.write(said)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                answer += data
    await end(writer)
    return answer


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512),
        b"PRDX",
        b"\n",
        bytes(300_000),
    ],
    ids=["http", "grpc", "tls", "nearly", "newline", "zeros"],
)
def test_strangers_are_dropped_quietly(
    harness: TcpHarness, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with listening(harness, echo) as ends:
            assert await answer_to(ends, said) == b""
            # The listener goes on.
            connection = await ends.connect()
            connection.send(b"hello")
            assert await connection.receive() == b"hello"

    with caplog.at_level(logging.DEBUG):
        harness.run(scenario())

    assert "does not speak Perdure's protocol" in caplog.text
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_version_and_service_are_refused_with_a_reason(harness: TcpHarness) -> None:
    async def scenario() -> None:
        async with listening(harness, echo) as ends:
            # Of another version, no more than the front need look as it does in ours.
            for said, status, words in (
                (MAGIC + b"\x07", UNKNOWN_VERSION, "version 1 of the transport, not 7"),
                (MAGIC + b"\x01\x05other", UNKNOWN_SERVICE, "the service 'other'"),
                (MAGIC + b"\x01\x02\xff\xfe", UNKNOWN_SERVICE, "does not offer"),
            ):
                answer = await answer_to(ends, said)
                magic, version, told, length = struct.unpack_from("!4sBBH", answer)
                assert (magic, version, told) == (MAGIC, 1, status)
                assert len(answer) == 8 + length
                assert words in answer[8:].decode()

    harness.run(scenario())


def test_client_of_another_version_is_told(
    harness: TcpHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with listening(harness, echo) as ends:
            monkeypatch.setattr(tcp, "_GREETING", _OtherVersion())
            with pytest.raises(TransportError, match="use the same release on both sides"):
                await ends.connect()

    harness.run(scenario())


class _OtherVersion:
    """A greeting's layout that says another version."""

    size = 6

    def pack(self, magic: bytes, _version: int, length: int) -> bytes:
        """The greeting."""
        return struct.pack("!4sBB", magic, 9, length)


def test_greeting_may_come_in_crumbs_and_with_messages(harness: TcpHarness) -> None:
    async def scenario() -> None:
        async with listening(harness, echo) as ends:
            reader, writer = await dial(ends)
            said = GREETING + b"\x00\x00\x00\x03abc" + b"\x00\x00\x00\x00" + b"\x00\x00\x00\x01d"
            for byte in said:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.001)
            assert await reader.readexactly(8) == ANSWER
            assert await reader.readexactly(16) == said[len(GREETING) :]
            await end(writer)
            reader, writer = await dial(ends)
            writer.write(said)
            assert await reader.readexactly(24) == ANSWER + said[len(GREETING) :]
            await end(writer)

    harness.run(scenario())


def test_message_in_many_pieces_is_one(
    harness: TcpHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_connection, "_PARTS_MAX", 3)
    message = bytes(range(256)) * 4

    async def scenario() -> None:
        async with listening(harness) as ends:
            _, writer = await dial(ends)
            writer.write(GREETING)
            far = await ends.accepted.get()
            said = struct.pack("!I", len(message)) + message + b"\x00\x00\x00\x02ok"
            for start in range(0, len(said), 50):
                writer.write(said[start : start + 50])
                await asyncio.sleep(0.001)
            assert await far.receive() == message
            assert await far.receive() == b"ok"
            writer.write(said[:-1])
            await end(writer)
            # The second message was not whole.
            assert await received(far) == [message]

    harness.run(scenario())


@pytest.mark.parametrize("said", [b"", MAGIC, GREETING[:-1]], ids=["nothing", "magic", "most"])
def test_greeting_must_come_in_time(
    harness: TcpHarness, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[asyncio.TimerHandle] = []
    made = tcp._AcceptedConnection.connection_made

    def connection_made(self: tcp._AcceptedConnection, transport: asyncio.Transport) -> None:
        made(self, transport)
        assert self._timer is not None
        timers.append(self._timer)

    monkeypatch.setattr(tcp._AcceptedConnection, "connection_made", connection_made)

    async def scenario() -> None:
        async with listening(harness, echo) as ends:
            with monkeypatch.context() as impatient:
                impatient.setattr(tcp, "GREETING_TIMEOUT_SECONDS", 0.1)
                assert await answer_to(ends, said) == b""
            # One that is through is not touched.
            connection = await ends.connect()
            connection.send(b"hello")
            assert await connection.receive() == b"hello"
            assert len(timers) == 2
            assert timers[1].cancelled()

    harness.run(scenario())


def test_too_long_a_message_ends_the_connection(harness: TcpHarness) -> None:
    async def scenario() -> None:
        async with listening(harness) as ends:
            for size in (MESSAGE_BYTES_MAX + 1, 0xFFFF_FFFF):
                reader, writer = await dial(ends)
                writer.write(GREETING + b"\x00\x00\x00\x02ok" + struct.pack("!I", size) + b"xyz")
                far = await ends.accepted.get()
                assert await received(far) == [b"ok"]
                assert await reader.read(8) == ANSWER
                with pytest.raises(TransportError):
                    far.send(b"late")
                await end(writer)

    harness.run(scenario())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not as a Perdure listener"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "not as a Perdure listener"),
        (b"PR", "closed the connection without an answer"),
        (MAGIC + b"\x02\x00\x00\x00", "speaks version 2"),
        (None, "nobody answered"),
    ],
    ids=["http", "grpc", "part", "version", "silent"],
)
def test_what_is_no_listener_is_not_connected_to(
    harness: TcpHarness, said: bytes | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said is None:
        monkeypatch.setattr(tcp, "CONNECT_TIMEOUT_SECONDS", 0.1)

    answered = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        if said is not None:
            writer.write(said)
        else:
            await reader.read()
        await end(writer)
        answered.set()

    async def scenario() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(TransportError, match=words) as failed:
            await TcpTransport().connect(address, "test")
        assert address in str(failed.value)
        await answered.wait()
        server.close()
        await server.wait_closed()

    harness.run(scenario())


def test_cancelled_connect_leaves_nothing(harness: TcpHarness) -> None:
    async def scenario() -> None:
        async with listening(harness, echo) as ends:
            for turns in range(12):
                connecting = asyncio.create_task(
                    TcpTransport().connect(ends.listener.address, "test")
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                connecting.cancel()
                await asyncio.wait([connecting])
                if not connecting.cancelled():
                    await connecting.result().close()
            listener = ends.listener
            assert isinstance(listener, tcp.TcpListener)
            await until(lambda: not listener._connections)

    harness.run(scenario())


def test_slow_receiver_stops_the_reading_and_starts_it_again(harness: TcpHarness) -> None:
    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            assert isinstance(far, TcpConnection)
            # More than both ends of the kernel take, which grow to tens of MiB when it likes.
            count = 160
            for _ in range(count):
                near.send(MEBIBYTE)
            await until(lambda: far._paused)
            before = None
            while before != near.queued_bytes:
                before = near.queued_bytes
                await asyncio.sleep(0.05)
            # Bounded there, and what neither it nor the kernels hold is counted here.
            assert far._waiting_bytes < tcp_connection.RECEIVED_BYTES_MAX + 2 * len(MEBIBYTE)
            assert near.queued_bytes > 16 * len(MEBIBYTE)
            # The other direction is open all the while.
            far.send(b"slow")
            assert await near.receive() == b"slow"
            for _ in range(count):
                assert await far.receive() == MEBIBYTE
            assert near.queued_bytes == 0
            assert not far._paused

    harness.run(scenario())


def test_empty_messages_stop_the_reading_too(
    harness: TcpHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_connection, "RECEIVED_BYTES_MAX", 64 * 1000)

    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            assert isinstance(far, TcpConnection)
            for _ in range(300_000):
                near.send(b"")
            await until(lambda: far._paused)
            assert len(far._messages) < 200_000
            for _ in range(300_000):
                assert await far.receive() == b""

    harness.run(scenario())


def test_close_waits_at_most_a_second_for_a_peer_that_does_not_read(
    harness: TcpHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_connection, "CLOSE_TIMEOUT_SECONDS", A_SECOND)

    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            for _ in range(64):
                near.send(MEBIBYTE)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await near.close()
            arrived = await received(far)

            assert len(arrived) < 64
            assert set(arrived) <= {MEBIBYTE}

    harness.run(scenario())


def test_what_was_queued_arrives_though_the_closing_end_has_not_received_all(
    harness: TcpHarness,
) -> None:
    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            # More than is read ahead, so that bytes wait in the kernel of the end that closes.
            for _ in range(40):
                far.send(MEBIBYTE)
            assert isinstance(near, TcpConnection)
            await until(lambda: near._paused)
            near.send(MEBIBYTE)
            near.send(b"last words")
            closing = asyncio.create_task(near.close())
            assert await received(far) == [MEBIBYTE, b"last words"]
            await closing

    harness.run(scenario())


def test_cancelled_close_drops_the_connection(harness: TcpHarness) -> None:
    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            for _ in range(64):
                near.send(MEBIBYTE)
            closing = asyncio.create_task(near.close())
            await asyncio.sleep(0.05)
            closing.cancel()
            await asyncio.wait([closing])
            assert closing.cancelled()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await received(far)
            assert near.queued_bytes == 0

    harness.run(scenario())


def test_cancelled_close_of_a_listener_ends_its_handlers(harness: TcpHarness) -> None:
    ended: list[str] = []

    async def stubborn(connection: Connection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(connection.peer)

    async def scenario() -> None:
        listener = await TcpTransport().listen("127.0.0.1:0", {"test": stubborn})
        near = await TcpTransport().connect(listener.address, "test")
        near.send(b"hello")
        closing = asyncio.create_task(listener.close(PATIENCE_SECONDS))
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert len(ended) == 1
        assert await near.receive() is None
        await near.close()

    harness.run(scenario())


def test_handler_of_a_lost_connection_has_not_failed(
    harness: TcpHarness, caplog: pytest.LogCaptureFixture
) -> None:
    async def late(connection: Connection) -> None:
        await received(connection)
        connection.send(b"nobody is there")

    async def scenario() -> None:
        async with listening(harness, late) as ends:
            await (await ends.connect()).close()

    with caplog.at_level(logging.DEBUG, logger="perdure"):
        harness.run(scenario())

    assert "is closed: connect again" in caplog.text
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_other_hosts_than_v4(harness: TcpHarness, host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def scenario() -> None:
        listener = await TcpTransport().listen(f"{host}:{free_port()}", {"test": echo})
        assert listener.address.startswith(f"{host}:")
        connection = await TcpTransport().connect(listener.address, "test")
        connection.send(b"hello")
        assert await connection.receive() == b"hello"
        with pytest.raises(AddressInUseError, match="use another port"):
            await TcpTransport().listen(listener.address, {})
        await connection.close()
        await listener.close()

    harness.run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1:65536", "127.0.0.1", ":80", "::1:80", "h:http"])
def test_wrong_addresses_are_refused(harness: TcpHarness, address: str) -> None:
    async def scenario() -> None:
        with pytest.raises(TransportError, match=r"host:port|not between 0 and 65535"):
            await TcpTransport().listen(address, {})
        with pytest.raises(TransportError, match=r"host:port|not between 0 and 65535"):
            await TcpTransport().connect(address, "test")

    harness.run(scenario())


def test_addresses_of_other_machines_are_refused(harness: TcpHarness) -> None:
    async def scenario() -> None:
        # 192.0.2.0/24 is reserved for documentation.
        with pytest.raises(TransportError, match=r"192\.0\.2\.1.*use an address of this machine"):
            await TcpTransport().listen("192.0.2.1:80", {})

    harness.run(scenario())
