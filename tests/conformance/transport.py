"""The contract of Transport (`core/net/transport.py`) as tests.

A test file derives a class from `TransportSuite` and gives it a fixture ``harness``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from perdure.core.errors import AddressInUseError, MessageTooLargeError, TransportError
from perdure.core.net.transport import (
    MESSAGE_BYTES_MAX,
    Connection,
    ConnectionHandler,
    Listener,
    Transport,
)

PATIENCE_SECONDS = 60.0
"""No test waits longer for something that must happen; none waits this long when all is well."""


class TransportHarness(Protocol):
    """How the suite gets at one implementation."""

    nobodys_address: str
    """Nobody listens here."""

    @property
    def free_address(self) -> str:
        """An address that nobody has, or that asks for one."""
        ...

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario on a new event loop."""
        ...

    def transport(self) -> Transport:
        """A transport; those of one harness reach each other. Called on the loop."""
        ...


async def echo(connection: Connection) -> None:
    """Send everything back."""
    while (message := await connection.receive()) is not None:
        connection.send(message)


async def received(connection: Connection) -> list[bytes]:
    """Everything until the end."""
    messages: list[bytes] = []
    while (message := await connection.receive()) is not None:
        messages.append(message)
    return messages


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds that nobody announces."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


class Ends:
    """Both ends of connections to one service, and what must be closed."""

    def __init__(self, transport: Transport, listener: Listener) -> None:
        """Take the listener and a transport to reach it with."""
        self.transport = transport
        self.listener = listener
        self.opened: list[Connection] = []
        self.accepted: asyncio.Queue[Connection] = asyncio.Queue()

    async def connect(self, service: str = "test") -> Connection:
        """Open a connection."""
        connection = await self.transport.connect(self.listener.address, service)
        self.opened.append(connection)
        return connection

    async def pair(self) -> tuple[Connection, Connection]:
        """Open a connection and give both its ends; the service must be the harness's own."""
        near = await self.connect()
        return near, await self.accepted.get()


@asynccontextmanager
async def listening(
    harness: TransportHarness,
    handler: ConnectionHandler | dict[str, ConnectionHandler] | None = None,
) -> AsyncIterator[Ends]:
    """A listener with one service, ``test``, or several by name.

    Without a handler, the far ends are `Ends.accepted` and live until the test is over.
    """
    transport = harness.transport()
    done = asyncio.Event()

    async def hand_over(connection: Connection) -> None:
        ends.accepted.put_nowait(connection)
        await done.wait()

    services = handler if isinstance(handler, dict) else {"test": handler or hand_over}
    listener = await transport.listen(harness.free_address, services)
    ends = Ends(harness.transport(), listener)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield ends
    finally:
        done.set()
        for connection in ends.opened:
            await connection.close()
        await listener.close()


def with_ends(
    handler: ConnectionHandler | None = None,
) -> Callable[[Callable[[Any, Ends], Awaitable[None]]], Callable[[Any, TransportHarness], None]]:
    """Make a test of a coroutine that takes the ends of connections."""

    def decorate(
        scenario: Callable[[Any, Ends], Awaitable[None]],
    ) -> Callable[[Any, TransportHarness], None]:
        def test(self: Any, harness: TransportHarness) -> None:
            async def run() -> None:
                async with listening(harness, handler) as ends:
                    await scenario(self, ends)

            harness.run(run())

        test.__doc__ = scenario.__doc__
        return test

    return decorate


class TransportSuite:
    """Every sentence of the contract that does not need a second process."""

    @with_ends()
    async def test_messages_arrive_whole_and_in_order(self, ends: Ends) -> None:
        near, far = await ends.pair()
        sizes = [0, 1, 5 * 1024 * 1024, 0, 100, 65_535, 65_536, 1]
        messages = [bytes((number,)) * size for number, size in enumerate(sizes)]
        for message in messages:
            near.send(message)
            far.send(message[::-1])
        there = [await far.receive() for _ in messages]
        back = [await near.receive() for _ in messages]

        assert there == messages
        assert back == messages

    @with_ends()
    async def test_longest_message_arrives(self, ends: Ends) -> None:
        near, far = await ends.pair()
        longest = bytes(MESSAGE_BYTES_MAX)
        near.send(longest)

        assert await far.receive() == longest

    @with_ends()
    async def test_message_over_the_limit_is_refused_and_the_next_one_travels(
        self, ends: Ends
    ) -> None:
        near, far = await ends.pair()
        for end in (near, far):
            with pytest.raises(MessageTooLargeError):
                end.send(bytes(MESSAGE_BYTES_MAX + 1))
        near.send(b"next")
        far.send(b"too")

        assert await far.receive() == b"next"
        assert await near.receive() == b"too"

    @with_ends()
    async def test_many_messages_travel_both_ways_at_once(self, ends: Ends) -> None:
        near, far = await ends.pair()
        messages = [b"%d" % number for number in range(10_000)]

        async def talk(end: Connection) -> list[bytes | None]:
            for message in messages:
                end.send(message)
            return [await end.receive() for _ in messages]

        to_near, to_far = await asyncio.gather(talk(near), talk(far))

        assert to_near == messages
        assert to_far == messages
        await until(lambda: near.queued_bytes == far.queued_bytes == 0)

    @with_ends(echo)
    async def test_connections_do_not_mix(self, ends: Ends) -> None:
        connections = [await ends.connect() for _ in range(10)]
        for turn in range(10):
            for number, connection in enumerate(connections):
                connection.send(b"%d in turn %d" % (number, turn))
        answers = [[await each.receive() for _ in range(10)] for each in connections]

        assert answers == [
            [b"%d in turn %d" % (number, turn) for turn in range(10)] for number in range(10)
        ]

    @with_ends()
    async def test_close_of_the_connecting_end_delivers_what_was_queued(self, ends: Ends) -> None:
        near, far = await ends.pair()
        messages = [b"%d" % number for number in range(200)]
        for message in messages:
            near.send(message)
        await near.close()

        assert await received(far) == messages
        assert await far.receive() is None
        assert await near.receive() is None

    @with_ends()
    async def test_close_of_the_accepting_end_delivers_what_was_queued(self, ends: Ends) -> None:
        near, far = await ends.pair()
        messages = [b"%d" % number for number in range(200)]
        for message in messages:
            far.send(message)
        await far.close()

        assert await received(near) == messages
        assert await near.receive() is None
        assert await far.receive() is None

    @with_ends()
    async def test_close_from_both_ends_at_once(self, ends: Ends) -> None:
        near, far = await ends.pair()
        near.send(b"1")
        far.send(b"2")
        await asyncio.gather(near.close(), far.close())

        assert await near.receive() is None
        assert await far.receive() is None

    @with_ends()
    async def test_closed_connection_refuses_to_send(self, ends: Ends) -> None:
        near, far = await ends.pair()
        await near.close()
        await near.close()
        with pytest.raises(TransportError):
            near.send(b"late")
        assert await far.receive() is None
        with pytest.raises(TransportError):
            far.send(b"late")
        await far.close()
        await far.close()

        near, far = await ends.pair()
        await far.close()
        assert await near.receive() is None
        with pytest.raises(TransportError):
            near.send(b"late")

    @with_ends()
    async def test_close_lets_a_waiting_receiver_go(self, ends: Ends) -> None:
        near, far = await ends.pair()
        waiting = [asyncio.create_task(near.receive()), asyncio.create_task(far.receive())]
        await asyncio.sleep(0)
        await near.close()

        assert await asyncio.gather(*waiting) == [None, None]

    @with_ends()
    async def test_cancelled_receive_loses_nothing(self, ends: Ends) -> None:
        near, far = await ends.pair()
        messages = [b"%d" % number for number in range(300)]
        got: list[bytes | None] = []
        for number, message in enumerate(messages):
            receiving = asyncio.create_task(far.receive())
            near.send(message)
            # Cancel at different moments between sending and arriving.
            for _ in range(number % 7):
                await asyncio.sleep(0)
            receiving.cancel()
            await asyncio.wait([receiving])
            if not receiving.cancelled():
                got.append(receiving.result())
        near.send(b"end")
        while (message_or_end := await far.receive()) != b"end":
            got.append(message_or_end)

        assert got == messages

    @with_ends()
    async def test_queued_bytes_count_what_has_not_left(self, ends: Ends) -> None:
        near, far = await ends.pair()
        assert near.queued_bytes == 0
        near.send(b"12345")
        near.send(b"678")
        assert near.queued_bytes == 8
        assert await far.receive() == b"12345"
        assert await far.receive() == b"678"
        await until(lambda: near.queued_bytes == 0)

    @with_ends()
    async def test_ends_have_names(self, ends: Ends) -> None:
        near, far = await ends.pair()

        assert near.peer == ends.listener.address
        assert far.peer

    async def _answer_once(self, connection: Connection) -> None:
        message = await connection.receive()
        assert message is not None
        connection.send(message)

    def test_connection_closes_when_its_handler_returns(self, harness: TransportHarness) -> None:
        async def scenario() -> None:
            async with listening(harness, self._answer_once) as ends:
                near = await ends.connect()
                near.send(b"hello")

                assert await received(near) == [b"hello"]

        harness.run(scenario())

    def test_failing_handler_closes_its_connection_only(
        self, harness: TransportHarness, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario() -> None:
            async with listening(harness, fragile) as ends:
                bad, good = await ends.connect(), await ends.connect()
                bad.send(b"fail")
                good.send(b"hello")

                assert await received(bad) == []
                assert await good.receive() == b"hello"

        async def fragile(connection: Connection) -> None:
            while (message := await connection.receive()) is not None:
                if message == b"fail":
                    raise ValueError("this handler fails")
                connection.send(message)

        with caplog.at_level(logging.ERROR, logger="perdure"):
            harness.run(scenario())

        assert "this handler fails" in caplog.text

    def test_services_are_told_apart(self, harness: TransportHarness) -> None:
        async def name(what: bytes, connection: Connection) -> None:
            connection.send(what)

        async def scenario() -> None:
            services: dict[str, ConnectionHandler] = {
                "one": lambda end: name(b"one", end),
                "two": lambda end: name(b"two", end),
            }
            async with listening(harness, services) as ends:
                for service in ("two", "one"):
                    connection = await ends.connect(service)
                    assert await received(connection) == [service.encode()]
                with pytest.raises(TransportError, match="three"):
                    await ends.connect("three")

        harness.run(scenario())

    def test_taken_address_is_refused(self, harness: TransportHarness) -> None:
        async def scenario() -> None:
            async with listening(harness, echo) as ends:
                address = ends.listener.address
                with pytest.raises(AddressInUseError, match=address):
                    await harness.transport().listen(address, {"test": echo})
                # The one that has it goes on.
                connection = await ends.connect()
                connection.send(b"hello")
                assert await connection.receive() == b"hello"
            again = await harness.transport().listen(address, {"test": echo})
            await again.close()

        harness.run(scenario())

    def test_connecting_to_nobody_fails(self, harness: TransportHarness) -> None:
        async def scenario() -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                with pytest.raises(TransportError, match=harness.nobodys_address) as failed:
                    await harness.transport().connect(harness.nobodys_address, "test")
                assert failed.value.retryable

        harness.run(scenario())

    def test_closing_listener_takes_nobody_and_drops_connections(
        self, harness: TransportHarness
    ) -> None:
        ended: list[bool] = []

        async def handler(connection: Connection) -> None:
            await received(connection)
            ended.append(True)

        async def scenario() -> None:
            async with listening(harness, handler) as ends:
                connections = [await ends.connect() for _ in range(3)]
                await ends.listener.close(grace_seconds=0.01)
                for connection in connections:
                    assert await connection.receive() is None
                with pytest.raises(TransportError):
                    await ends.connect()

        harness.run(scenario())

        assert ended == [True] * 3

    def test_closing_listener_gives_connections_time(self, harness: TransportHarness) -> None:
        async def scenario() -> None:
            async with listening(harness, echo) as ends:
                near = await ends.connect()
                closing = asyncio.create_task(ends.listener.close(PATIENCE_SECONDS))
                await asyncio.sleep(0)
                near.send(b"still here")
                assert await near.receive() == b"still here"
                await near.close()
                await closing

        harness.run(scenario())

    def test_closing_listener_cancels_a_handler_that_does_not_end(
        self, harness: TransportHarness
    ) -> None:
        outcomes: list[str] = []

        async def stubborn(connection: Connection) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                outcomes.append("cancelled")
                raise

        async def scenario() -> None:
            async with listening(harness, stubborn) as ends:
                await ends.connect()
                await ends.listener.close(grace_seconds=0.0)

        harness.run(scenario())

        assert outcomes == ["cancelled"]
