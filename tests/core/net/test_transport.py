"""Every Transport keeps the contract, and what only one of them does."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from perdure.core.errors import AddressInUseError, NobodyListensError, TransportError
from perdure.core.net import grpc as grpc_transport
from perdure.core.net import tcp_connection
from perdure.core.net.grpc import GrpcTransport
from perdure.core.net.inbox import Inbox
from perdure.core.net.inproc import InProcConnection, InProcNetwork, InProcTransport
from perdure.core.net.shortcut import ShortcutTransport
from perdure.core.net.tcp import TcpTransport
from perdure.core.net.transport import Connection, Transport

from ...conformance.transport import PATIENCE_SECONDS, TransportSuite, echo, listening, received
from ...ports import HOST, free_port

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


A_SECOND = grpc_transport.CLOSE_TIMEOUT_SECONDS


def patient_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing takes its second only where a test is about it: a busy machine pauses for longer."""
    for module in (grpc_transport, tcp_connection):
        monkeypatch.setattr(module, "CLOSE_TIMEOUT_SECONDS", PATIENCE_SECONDS)


_patient_close = pytest.fixture(autouse=True)(patient_close)


class GrpcHarness:
    """Real sockets on the loopback interface."""

    # Port 1 needs privileges that nobody's test service has.
    nobodys_address = "127.0.0.1:1"

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """Take the kind of loop."""
        self.new_loop = new_loop

    @property
    def free_address(self) -> str:
        """Another one each time."""
        return f"{HOST}:{free_port()}"

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario on a new event loop."""
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            runner.run(scenario)

    def transport(self) -> Transport:
        """A transport."""
        return GrpcTransport()


class TcpHarness(GrpcHarness):
    """Real sockets, too."""

    def transport(self) -> Transport:
        """A transport."""
        return TcpTransport()


class InProcHarness:
    """One network within the process."""

    free_address = "node-1:0"
    nobodys_address = "nobody:1"

    def __init__(self) -> None:
        """Make the network."""
        self.network = InProcNetwork()

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario on a new event loop."""
        asyncio.run(scenario)

    def transport(self) -> Transport:
        """A transport."""
        return InProcTransport(self.network)


class ShortcutHarness(TcpHarness):
    """A process that reaches itself; others by TCP."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop], *, itself: bool) -> None:
        """Take whether both ends are in one process."""
        super().__init__(new_loop)
        self._shared = ShortcutTransport(TcpTransport()) if itself else None

    def transport(self) -> Transport:
        """A transport."""
        return self._shared or ShortcutTransport(TcpTransport())


class TestGrpcTransport(TransportSuite):
    """Over gRPC, on both kinds of loop."""

    @pytest.fixture(params=LOOPS)
    def harness(self, request: pytest.FixtureRequest) -> GrpcHarness:
        """A harness per kind of loop."""
        return GrpcHarness(LOOPS[request.param])


class TestTcpTransport(TransportSuite):
    """Over TCP, on both kinds of loop."""

    @pytest.fixture(params=LOOPS)
    def harness(self, request: pytest.FixtureRequest) -> TcpHarness:
        """A harness per kind of loop."""
        return TcpHarness(LOOPS[request.param])


class TestShortcutToItself(TransportSuite):
    """Within the process, behind a port that others can reach."""

    @pytest.fixture
    def harness(self) -> ShortcutHarness:
        """A transport for both ends."""
        return ShortcutHarness(uvloop.new_event_loop, itself=True)


class TestShortcutToOthers(TransportSuite):
    """Over TCP, as if there were no shortcut."""

    @pytest.fixture
    def harness(self) -> ShortcutHarness:
        """A transport for each end."""
        return ShortcutHarness(uvloop.new_event_loop, itself=False)


class TestInProcTransport(TransportSuite):
    """Within the process."""

    @pytest.fixture
    def harness(self) -> InProcHarness:
        """A network of its own."""
        return InProcHarness()


def test_a_process_connects_to_itself_without_a_socket_and_is_found_by_others() -> None:
    harness = ShortcutHarness(uvloop.new_event_loop, itself=True)

    async def scenario() -> None:
        own = harness.transport()
        listener = await own.listen(harness.free_address, {"echo": echo})
        connection = await own.connect(listener.address, "echo")
        assert isinstance(connection, InProcConnection)
        other = await TcpTransport().connect(listener.address, "echo")
        for each in (connection, other):
            each.send(b"hello")
            assert await each.receive() == b"hello"
            await each.close()
        await listener.close()
        with pytest.raises(NobodyListensError):
            await own.connect(listener.address, "echo")

    harness.run(scenario())


def test_cut_in_process_connection_is_lost_with_what_was_not_received() -> None:
    harness = InProcHarness()

    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            other, _ = await ends.pair()
            near.send(b"received")
            assert await far.receive() == b"received"
            near.send(b"lost")
            harness.network.cut(ends.listener.address)

            assert await far.receive() is None
            assert await near.receive() is None
            assert await other.receive() is None
            with pytest.raises(TransportError):
                near.send(b"late")
            # The listener goes on.
            near, far = await ends.pair()
            near.send(b"again")
            assert await far.receive() == b"again"

    asyncio.run(scenario())


PEER = """
import asyncio, sys
from perdure.core.net.grpc import GrpcTransport

async def blast(connection):
    for number in range(100):
        connection.send(b"%d" % number)
    await connection.receive()

async def main():
    listener = await GrpcTransport().listen(sys.argv[1], {"test": blast})
    print(listener.address, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_killed_listening_process_ends_the_connection(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario(address: str, peer: subprocess.Popen[str]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            connection = await GrpcTransport().connect(address, "test")
            for number in range(100):
                assert await connection.receive() == b"%d" % number
            receiving = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            peer.send_signal(signal.SIGKILL)
            assert await receiving is None
            with pytest.raises(TransportError):
                connection.send(b"late")
            await connection.close()
            with pytest.raises(TransportError):
                await GrpcTransport().connect(address, "test")

    # Not a port that the kernel chooses: it would give it to others as soon as it is free.
    command = [sys.executable, "-c", PEER, f"{HOST}:{free_port()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
        try:
            assert peer.stdout is not None
            GrpcHarness(new_loop).run(scenario(peer.stdout.readline().strip(), peer))
        finally:
            peer.kill()


CLIENT = """
import asyncio, sys
from perdure.core.net.grpc import GrpcTransport

async def main():
    connection = await GrpcTransport().connect(sys.argv[1], "test")
    connection.send(b"hello")
    await connection.receive()

asyncio.run(main())
"""


def test_killed_connecting_process_ends_the_connection_and_not_its_handler() -> None:
    async def scenario() -> None:
        outcome: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        arrived = asyncio.Event()

        async def handler(connection: Connection) -> None:
            first = await connection.receive()
            assert first is not None
            arrived.set()
            # A handler that were cancelled by the loss would not get to its end.
            outcome.set_result([first, *await received(connection)])

        async with asyncio.timeout(PATIENCE_SECONDS):
            listener = await GrpcTransport().listen("127.0.0.1:0", {"test": handler})
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLIENT, listener.address
            )
            await arrived.wait()
            client.kill()
            assert await outcome == [b"hello"]
            await client.wait()
            await listener.close()

    asyncio.run(scenario())


def test_listener_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.core.net.grpc.CONNECT_TIMEOUT_SECONDS", 0.1)

    async def scenario() -> None:
        # The system takes the connection; nobody ever answers on it.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(TransportError, match="nobody answered"):
                await GrpcTransport().connect(address, "test")

    asyncio.run(scenario())


def test_empty_messages_fill_an_inbox_too() -> None:
    async def scenario() -> None:
        inbox = Inbox(bytes_max=1024)
        while not inbox.is_full:
            inbox.deliver(b"")
        waiting = asyncio.create_task(inbox.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await inbox.receive() == b""
        await waiting

        assert not inbox.is_full

    asyncio.run(scenario())


def test_slow_receiver_slows_the_sender_down() -> None:
    async def scenario() -> None:
        async with listening(GrpcHarness(asyncio.new_event_loop)) as ends:
            near, far = await ends.pair()
            message = bytes(1024 * 1024)
            for _ in range(64):
                near.send(message)
            # Far more than sockets and flow control can hold: most of it stays queued here.
            assert await far.receive() == message
            before = None
            while before != near.queued_bytes:
                before = near.queued_bytes
                await asyncio.sleep(0.05)
            assert near.queued_bytes > 32 * 1024 * 1024
            for _ in range(63):
                assert await far.receive() == message

    asyncio.run(scenario())


def test_close_waits_at_most_a_second_for_a_peer_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grpc_transport, "CLOSE_TIMEOUT_SECONDS", A_SECOND)

    async def scenario() -> None:
        async with listening(GrpcHarness(asyncio.new_event_loop)) as ends:
            near, far = await ends.pair()
            message = bytes(1024 * 1024)
            for _ in range(64):
                near.send(message)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await near.close()
            arrived = await received(far)

            assert len(arrived) < 64
            assert set(arrived) <= {message}

    asyncio.run(scenario())


def test_other_services_share_the_server() -> None:
    async def shout(request: bytes, context: Any) -> bytes:
        return request.upper()

    def add_services(server: Any) -> None:
        method = grpc.unary_unary_rpc_method_handler(shout)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("shouting.Service", {"Shout": method}),)
        )

    async def scenario() -> None:
        listener = await GrpcTransport().listen(
            "127.0.0.1:0", {"test": echo}, add_services=add_services
        )
        async with grpc.aio.insecure_channel(listener.address) as channel:
            assert await channel.unary_unary("/shouting.Service/Shout")(b"hello") == b"HELLO"
        connection = await GrpcTransport().connect(listener.address, "test")
        connection.send(b"hello")
        assert await connection.receive() == b"hello"
        await connection.close()
        await listener.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1:65536", "127.0.0.1", ":80", "127.0.0.1:http"])
def test_wrong_addresses_are_refused(address: str) -> None:
    with pytest.raises(TransportError, match="host:port"):
        asyncio.run(_listen(address))


async def _listen(address: str) -> None:
    await (await GrpcTransport().listen(address, {})).close()


def test_addresses_of_other_machines_are_refused() -> None:
    # 192.0.2.0/24 is reserved for documentation.
    with pytest.raises(TransportError, match=r"192\.0\.2\.1"):
        asyncio.run(_listen("192.0.2.1:80"))


def test_port_taken_by_something_else_is_refused() -> None:
    async def scenario() -> None:
        other = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(AddressInUseError, match="use another port"):
            await _listen(f"127.0.0.1:{port}")
        other.close()
        await other.wait_closed()

    asyncio.run(scenario())


LIFE = """
import asyncio, sys
from perdure.core.net.grpc import GrpcTransport

async def echo(connection):
    while (message := await connection.receive()) is not None:
        connection.send(message)

async def main():
    transport = GrpcTransport()
    for _ in range(3):
        listener = await transport.listen("127.0.0.1:0", {"test": echo})
        closed = await transport.connect(listener.address, "test")
        dropped = await transport.connect(listener.address, "test")
        for connection in (closed, dropped):
            connection.send(b"hello")
            assert await connection.receive() == b"hello"
        await closed.close()
        dropped.send(b"on its way")
        await listener.close(grace_seconds=0)
        assert await dropped.receive() in (None, b"on its way")
        await dropped.close()

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main(), debug=True)
else:
    asyncio.run(main(), debug=True)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_whole_life_makes_no_noise(loop: str) -> None:
    life = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", LIFE, loop],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
    )

    # A slow callback on a busy machine is no noise of ours.
    noise = [line for line in life.stderr.splitlines() if not line.startswith("Executing <")]
    assert (life.returncode, noise) == (0, [])
