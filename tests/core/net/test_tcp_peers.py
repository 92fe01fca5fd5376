"""How TcpTransport notices that a peer is gone, and that one which is busy is not."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

import pytest

from perdure.core.errors import TransportError
from perdure.core.net import tcp_connection, tcp_socket
from perdure.core.net.tcp import TcpTransport
from perdure.core.net.tcp_connection import TcpConnection
from perdure.core.net.transport import Connection

from ...conformance.transport import PATIENCE_SECONDS, listening, received, until
from ...ports import HOST, free_port
from .test_transport import CLIENT, LIFE, LOOPS, PEER, TcpHarness

MEBIBYTE = bytes(1024 * 1024)


@pytest.fixture(params=LOOPS)
def harness(request: pytest.FixtureRequest) -> TcpHarness:
    """A harness per kind of loop."""
    return TcpHarness(LOOPS[request.param])


def of_tcp(program: str) -> str:
    """The same program over TCP."""
    return program.replace("core.net.grpc", "core.net.tcp").replace("GrpcT", "TcpT")


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_killed_listening_process_ends_the_connection_and_its_port_is_free(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario(address: str, peer: subprocess.Popen[str]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            connection = await TcpTransport().connect(address, "test")
            for number in range(100):
                assert await connection.receive() == b"%d" % number
            receiving = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            peer.send_signal(signal.SIGKILL)
            assert await receiving is None
            with pytest.raises(TransportError):
                connection.send(b"late")
            await connection.close()
            peer.wait()
            with pytest.raises(TransportError, match="refused"):
                await TcpTransport().connect(address, "test")
            again = await TcpTransport().listen(address, {})
            await again.close()

    # Not a port that the kernel chooses: it would give it to others as soon as it is free.
    command = [sys.executable, "-c", of_tcp(PEER), f"{HOST}:{free_port()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
        try:
            assert peer.stdout is not None
            TcpHarness(new_loop).run(scenario(peer.stdout.readline().strip(), peer))
        finally:
            peer.kill()


def test_killed_connecting_process_ends_the_connection_and_not_its_handler() -> None:
    async def scenario() -> None:
        outcome: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        arrived = asyncio.Event()

        async def handler(connection: Connection) -> None:
            first = await connection.receive()
            assert first is not None
            arrived.set()
            outcome.set_result([first, *await received(connection)])

        async with asyncio.timeout(PATIENCE_SECONDS):
            listener = await TcpTransport().listen("127.0.0.1:0", {"test": handler})
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-c", of_tcp(CLIENT), listener.address
            )
            await arrived.wait()
            client.kill()
            assert await outcome == [b"hello"]
            await client.wait()
            await listener.close()

    asyncio.run(scenario())


def test_kernels_watch_the_connection(harness: TcpHarness) -> None:
    async def scenario() -> None:
        async with listening(harness) as ends:
            for end in await ends.pair():
                assert isinstance(end, TcpConnection)
                sock = end._transport.get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                if sys.platform == "linux":
                    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                    values = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options]
                    assert values == [10, 2, 3]

    harness.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_peer_without_room_is_not_silent(
    harness: TcpHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_connection, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(tcp_socket, "SILENCE_SECONDS_MAX", 0.1)

    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            assert isinstance(far, TcpConnection)
            for _ in range(40):
                near.send(MEBIBYTE)
            await until(lambda: far._paused)
            # Long enough for several questions for room, each answered by the kernel.
            await asyncio.sleep(1.5)
            for _ in range(40):
                assert await far.receive() == MEBIBYTE

    harness.run(scenario())


@pytest.mark.parametrize(
    ("repetitions", "probes", "heard_ms_ago", "silent"),
    [
        (0, 0, 60_000, False),
        (1, 0, 60_000, False),
        (0, 1, 60_000, False),
        (7, 0, 14_999, False),
        (7, 0, 15_000, True),
        (0, 3, 15_000, True),
    ],
)
def test_silence_is_repetitions_without_answer(
    repetitions: int, probes: int, heard_ms_ago: int, silent: bool
) -> None:
    info = struct.pack("=2xBB4x48xI", repetitions, probes, heard_ms_ago)

    assert tcp_socket._says_silence(info) is silent
    assert tcp_socket._says_silence(info[:-1]) is False


def test_silent_peer_is_dropped(harness: TcpHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_connection, "WATCH_SECONDS", 0.05)
    silent: list[bool] = []
    monkeypatch.setattr(tcp_socket, "is_silent", lambda _: bool(silent))

    async def scenario() -> None:
        async with listening(harness) as ends:
            near, far = await ends.pair()
            await asyncio.sleep(0.2)
            near.send(b"hello")
            assert await far.receive() == b"hello"
            silent.append(True)
            assert await near.receive() is None
            with pytest.raises(TransportError):
                near.send(b"late")

    harness.run(scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_whole_life_makes_no_noise(loop: str) -> None:
    life = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", of_tcp(LIFE), loop],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
    )

    # A slow callback on a busy machine is no noise of ours.
    noise = [line for line in life.stderr.splitlines() if not line.startswith("Executing <")]
    assert (life.returncode, noise) == (0, [])
