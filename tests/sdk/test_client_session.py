"""The client's session: what travels together, and what happens when the connection breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.core.clock import ManualClock
from perdure.core.errors import TransportError
from perdure.core.random import SeededRandom
from perdure.core.retry import RetryPolicy
from perdure.core.tasks import TaskScope
from perdure.proto.generated import ingress_pb2 as wire
from perdure.sdk.client_session import BREAKS_MAX, SessionRequests
from perdure.sdk.client_types import HttpError

from .fake_front_door import Door, Stream, error, value

AT_ONCE = RetryPolicy(initial_interval_ns=1, interval_max_ns=1, attempts_max=None)


@asynccontextmanager
async def session_with(
    door: Door, clock: ManualClock | None = None, open_seconds_max: float = 60
) -> AsyncIterator[SessionRequests]:
    """A session with a door; it waits for nothing before it connects again."""
    session = SessionRequests(
        door.open_stream,
        ["door:1"],
        clock=clock or ManualClock(),
        random=SeededRandom(1),
        retry=AT_ONCE,
        give_up_seconds=10,
        open_seconds_max=open_seconds_max,
    )
    async with TaskScope("test") as scope:
        scope.spawn(session.run(), name="session")
        try:
            yield session
        finally:
            scope.cancel()


def call(key: str = "k") -> wire.SessionRequest:
    """A request to tell from others."""
    invocation = wire.InvocationRequest(target=wire.Target(service="S", handler="h", key=key))
    return wire.SessionRequest(call=wire.CallRequest(invocation=invocation))


def key_of(request: wire.SessionRequest) -> str:
    """Which one it is."""
    return request.call.invocation.target.key


def echo(request: wire.SessionRequest) -> wire.SessionResponse:
    """The request's key as its result."""
    return value(request, key_of(request).encode())


def asking_scope() -> TaskScope:
    """Where requests run whose failures the test looks at itself."""
    return TaskScope("asking", on_failure=lambda _: None)


def asking(
    session: SessionRequests, scope: TaskScope, key: str, repeatable: bool = True
) -> "asyncio.Task[wire.SessionResponse]":
    """A request under way."""
    return scope.spawn(session.request(call(key), repeatable=repeatable), name=key)


def test_requests_of_one_turn_travel_together() -> None:
    """And each gets its own answer."""

    async def main() -> None:
        door = Door(echo)
        async with session_with(door) as session:
            answers = await asyncio.gather(
                *[session.request(call(str(n)), repeatable=True) for n in range(50)]
            )
        assert [each.call.value for each in answers] == [str(n).encode() for n in range(50)]
        assert [len(batch) for batch in door.batches] == [50]
        assert len({request.id for request in door.batches[0]}) == 50
        assert door.streams[0].closed

    asyncio.run(main())


def test_no_more_are_in_flight_than_the_door_allows() -> None:
    """The others wait for answers to make room."""

    async def main() -> None:
        door = Door(lambda request: None, in_flight_max=2)
        async with session_with(door) as session, asking_scope() as scope:
            tasks = [asking(session, scope, key) for key in "abc"]
            (first, second) = await door.received(2)
            assert sum(map(len, door.batches)) == 2
            door.streams[0].respond(echo(first))
            third = (await door.received(3))[2]
            door.streams[0].respond(echo(third), echo(second))
            assert [(await task).call.value for task in tasks] == [b"a", b"b", b"c"]

    asyncio.run(main())


def test_large_requests_travel_in_several_messages() -> None:
    """A message has a few megabytes, or one request."""

    async def main() -> None:
        door = Door(echo)
        async with session_with(door) as session:
            large = [call(str(n)) for n in range(3)]
            for request in large:
                request.call.invocation.body = bytes(3 * 1024 * 1024)
            await asyncio.gather(*[session.request(each, repeatable=True) for each in large])
        assert [len(batch) for batch in door.batches] == [1, 1, 1]

    asyncio.run(main())


def test_lost_requests_go_over_the_next_connection_as_they_were() -> None:
    """In their order, with their ids; those that may not be repeated fail, and say so."""

    async def main() -> None:
        door = Door(lambda request: None)
        async with session_with(door) as session, asking_scope() as scope:
            tasks = [asking(session, scope, key) for key in "ab"]
            once = asking(session, scope, "once", repeatable=False)
            await door.received(3)
            door.answer = echo
            door.streams[0].lose()
            assert [(await task).call.value for task in tasks] == [b"a", b"b"]
            with pytest.raises(HttpError, match=r"door:1: the wire was cut; whether .* not known"):
                await once
        assert [key_of(request) for request in door.batches[-1]] == ["a", "b"]
        assert [request.id for request in door.batches[-1]] == [1, 2]
        assert len(door.streams) == 2

    asyncio.run(main())


def test_requests_wait_until_a_door_is_there() -> None:
    """Also those that may be sent once only: they were not sent yet."""

    async def main() -> None:
        door = Door(echo)
        door.refusals = [TransportError("nobody there") for _ in range(3)]
        async with session_with(door) as session:
            answer = await session.request(call("a"), repeatable=False)
        assert answer.call.value == b"a"

    asyncio.run(main())


def test_requests_fail_when_no_door_is_there_for_too_long() -> None:
    """With the last reason."""

    async def main() -> None:
        clock = ManualClock()
        door = Door()

        async def nobody(_address: str) -> Any:
            clock.advance(4_000_000_000)
            raise TransportError("nobody there")

        door.open_stream = nobody  # type: ignore[method-assign]
        async with session_with(door, clock) as session:
            with pytest.raises(
                HttpError, match="nobody there; the request was not taken"
            ) as caught:
                await session.request(call(), repeatable=True)
        assert caught.value.status_code == 503

    asyncio.run(main())


@pytest.mark.parametrize(
    ("lasts_seconds", "fails"),
    [((0.0,), True), ((2.0,), True), ((11.0,), False), ((2.0,) * BREAKS_MAX + (11.0,), False)],
)
def test_a_request_that_breaks_each_session_fails_in_the_end(
    lasts_seconds: tuple[float, ...], fails: bool
) -> None:
    """One that merely waits through many restarts does not."""

    async def main() -> None:
        clock = ManualClock()
        sessions = 0

        def answer(request: wire.SessionRequest) -> wire.SessionResponse | None:
            nonlocal sessions
            clock.advance(int(lasts_seconds[sessions % len(lasts_seconds)] * 1e9))
            sessions += 1
            if sessions > 1000:
                return echo(request)
            door.streams[-1].lose()
            clock.advance(50_000_000)
            return None

        door = Door(answer)
        async with session_with(door, clock) as session:
            began_ns = clock.monotonic_ns()
            if fails:
                with pytest.raises(HttpError, match=r"the wire was cut; whether .* not known"):
                    await session.request(call(), repeatable=True)
                assert sessions > BREAKS_MAX
                lasted_seconds = (clock.monotonic_ns() - began_ns) / 1e9
                assert lasted_seconds <= (BREAKS_MAX + 2) * (lasts_seconds[0] + 0.05) + 10
            else:
                assert (await session.request(call(), repeatable=True)).call.value == b"k"

    asyncio.run(main())


def test_a_door_that_never_opens_counts_as_lost() -> None:
    """Such as the HTTP front door, which waits for the end of a request that has none."""

    async def main() -> None:
        door = Door(echo)
        opening = door.open_stream

        async def silent(_address: str) -> Stream:
            stream = await opening()
            if len(door.streams) == 1:
                stream.inbox.get_nowait()
            return stream

        door.open_stream = silent  # type: ignore[method-assign]
        async with session_with(door, open_seconds_max=0.01) as session:
            answer = await session.request(call("a"), repeatable=False)
        assert answer.call.value == b"a"
        assert len(door.streams) >= 2
        assert all(stream.closed for stream in door.streams)

    asyncio.run(main())


def test_a_silent_door_among_others_is_not_waited_for_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that is gone; a door that is slow everywhere gets more time in each round."""
    waits: list[tuple[str, float]] = []
    timeout = asyncio.timeout

    async def main() -> None:
        door = Door(echo)
        opening = door.open_stream
        asked = ""

        async def silent(address: str) -> Stream:
            nonlocal asked
            asked = address
            stream = await opening()
            if len(waits) < 5:
                stream.inbox.get_nowait()
            return stream

        def noting(seconds: float) -> asyncio.Timeout:
            if asked and len(door.streams) > len(waits):
                waits.append((asked, seconds))
                return timeout(0)
            return timeout(seconds)

        door.open_stream = silent  # type: ignore[method-assign]
        monkeypatch.setattr(asyncio, "timeout", noting)
        session = SessionRequests(
            door.open_stream,
            ["door:1", "door:2"],
            clock=ManualClock(),
            random=SeededRandom(1),
            retry=AT_ONCE,
        )
        async with TaskScope("test") as scope:
            scope.spawn(session.run(), name="session")
            answer = await session.request(call("a"), repeatable=False)
            scope.cancel()
        assert answer.call.value == b"a"

    asyncio.run(main())
    assert [seconds for _, seconds in waits[:5]] == [0.5, 0.5, 1.0, 1.0, 2.0]
    assert [address for address, _ in waits[:3]] == ["door:1", "door:2", "door:1"]


def test_requests_that_meet_no_leader_are_repeated() -> None:
    """Without disturbing the others; when it goes on for too long the refusal is the answer."""

    async def main() -> None:
        clock = ManualClock()
        refusals = 3

        def answer(request: wire.SessionRequest) -> wire.SessionResponse:
            nonlocal refusals
            if key_of(request) == "never" or refusals:
                refusals -= bool(refusals)
                clock.advance(1_000_000_000)
                return error(request, "UNAVAILABLE")  # type: ignore[no-any-return]
            return echo(request)

        door = Door(answer)
        async with session_with(door, clock) as session:
            assert (await session.request(call("a"), repeatable=True)).call.value == b"a"
            refused = await session.request(call("never"), repeatable=True)
            assert refused.error.status == "UNAVAILABLE"
            count = sum(map(len, door.batches))
            refused = await session.request(call("never"), repeatable=False)
            assert refused.error.status == "UNAVAILABLE"
            assert sum(map(len, door.batches)) == count + 1
        assert len(door.streams) == 1

    asyncio.run(main())


def test_a_door_that_takes_no_sessions_is_not_asked_again_and_again() -> None:
    """Its refusal is the answer."""

    async def main() -> None:
        door = Door(echo)
        door.refusals = [HttpError(501, "no sessions")]
        async with session_with(door) as session:
            with pytest.raises(HttpError, match="no sessions"):
                await session.request(call(), repeatable=True)
            assert (await session.request(call("b"), repeatable=True)).call.value == b"b"

    asyncio.run(main())


def test_cancelled_requests_are_forgotten() -> None:
    """One not sent yet is not sent; the answer to one that was finds nobody, and makes room."""

    async def main() -> None:
        door = Door(lambda request: None, in_flight_max=1)
        async with session_with(door) as session, asking_scope() as scope:
            sent = asking(session, scope, "sent")
            unsent = asking(session, scope, "unsent")
            (first,) = await door.received(1)
            sent.cancel()
            unsent.cancel()
            last = asking(session, scope, "last")
            door.answer = echo
            door.streams[0].respond(echo(first))
            assert (await last).call.value == b"last"
        assert [key_of(request) for batch in door.batches for request in batch] == ["sent", "last"]

    asyncio.run(main())


def test_closing_ends_what_waits() -> None:
    """And what comes later."""

    async def main() -> None:
        door = Door(lambda request: None)
        async with asking_scope() as scope:
            async with session_with(door) as session:
                waiting = asking(session, scope, "a")
                await door.received(1)
            for late in (waiting, session.request(call(), repeatable=True)):
                with pytest.raises(HttpError, match="the client of door:1 is closed"):
                    await late

    asyncio.run(main())
