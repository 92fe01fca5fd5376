"""A session by itself: batches, its limits, and clients that misbehave or go away."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio
import pytest

from perdure.core.errors import PerdureError
from perdure.core.ids import invocation_id_text
from perdure.ingress.errors import BadRequestError
from perdure.ingress.grpc import FrontDoors
from perdure.ingress.grpc import session as session_module
from perdure.ingress.grpc.session import Session
from perdure.ingress.requests import Completed, Rejected
from perdure.proto.generated import ingress_pb2 as wire

from .fake_dispatcher import INVOCATION_ID, FakeDispatcher

ID_TEXT = invocation_id_text(INVOCATION_ID)


class FakeStream:
    """A client's end: `say` sends to the session, `heard` is what it answered."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[object] = asyncio.Queue()
        self.heard: list[wire.SessionResponses] = []
        self.reads = True
        self._reads_again = asyncio.Event()

    def say(self, *requests: wire.SessionRequest) -> None:
        self._said.put_nowait(wire.SessionRequests(requests=requests))

    def end(self) -> None:
        self._said.put_nowait(grpc.aio.EOF)

    def read_again(self) -> None:
        self.reads = True
        self._reads_again.set()

    async def read(self) -> object:
        return await self._said.get()

    async def write(self, message: wire.SessionResponses) -> None:
        if not self.reads:
            await self._reads_again.wait()
        self.heard.append(message)

    def answers(self) -> dict[int, wire.SessionResponse]:
        return {item.id: item for message in self.heard for item in message.responses}


Scenario = Callable[[FakeStream, FakeDispatcher, "asyncio.Task[None]"], Awaitable[None]]


def serve(
    scenario: Scenario,
    *,
    in_flight_max: int = 100,
    front_doors: Callable[[], wire.FrontDoors | None] = lambda: None,
) -> FakeDispatcher:
    """Run a scenario against a session; its end is the scenario's to bring about."""
    dispatcher = FakeDispatcher()

    async def run() -> None:
        stream = FakeStream()
        session = Session(dispatcher, stream, in_flight_max=in_flight_max, front_doors=front_doors)
        serving = asyncio.ensure_future(session.run())
        dispatcher.session = session  # type: ignore[attr-defined]
        try:
            async with asyncio.timeout(60):
                await scenario(stream, dispatcher, serving)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks outlive the session"

    asyncio.run(run())
    return dispatcher


def call(number: int, handler: str = "echo", body: bytes = b"1") -> wire.SessionRequest:
    """A call of the fake's plain service."""
    target = wire.Target(service="Greeter", handler=handler)
    invocation = wire.InvocationRequest(target=target, body=body)
    return wire.SessionRequest(id=number, call=wire.CallRequest(invocation=invocation))


async def turns(count: int = 20) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_limit_comes_first_and_answers_of_one_turn_come_in_one_message() -> None:
    async def scenario(
        stream: FakeStream, _dispatcher: FakeDispatcher, serving: "asyncio.Task[None]"
    ) -> None:
        stream.say(*(call(number, body=b"%d" % number) for number in range(1, 51)))
        stream.end()
        await serving

        opened, answers = stream.heard
        assert opened.opened.in_flight_max == 100
        assert not answers.HasField("opened")
        assert [item.id for item in answers.responses] == list(range(1, 51))
        assert all(item.call.value == b"%d" % item.id for item in answers.responses)
        assert all(item.call.invocation_id == ID_TEXT for item in answers.responses)

    serve(scenario)


def test_no_task_is_made_per_request() -> None:
    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, _serving: "asyncio.Task[None]"
    ) -> None:
        await turns()
        before = len(asyncio.all_tasks())
        stream.say(*(call(number, "wait") for number in range(1, 51)))
        await turns()
        assert len(dispatcher.waiting) == 50
        assert len(asyncio.all_tasks()) == before

    assert len(serve(scenario).forgotten) == 50


def test_one_request_over_the_limit_is_refused_until_an_answer_makes_room() -> None:
    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, _serving: "asyncio.Task[None]"
    ) -> None:
        stream.say(call(1, "wait"), call(2, "wait"), call(3))
        await turns()
        refused = stream.answers()[3].error
        assert (refused.status, refused.code) == ("RESOURCE_EXHAUSTED", "PD0508")
        assert refused.retryable
        assert "2 requests in flight" in refused.message
        dispatcher.waiting[0](Completed(INVOCATION_ID, b"late"))
        await turns()
        stream.say(call(4))
        await turns()
        assert stream.answers()[1].call.value == b"late"
        assert stream.answers()[4].call.value == b"1"

    serve(scenario, in_flight_max=2)


def test_every_refusal_is_an_answer_of_its_request_alone() -> None:
    async def scenario(
        stream: FakeStream, _dispatcher: FakeDispatcher, _serving: "asyncio.Task[None]"
    ) -> None:
        stream.say(
            call(1, "teapot"),
            call(2, "busy"),
            call(3, "late_elsewhere"),
            call(4, "nothing"),
            wire.SessionRequest(id=5),
            call(6),
        )
        await turns()
        answers = stream.answers()

        failure = answers[1].call.failure
        assert (failure.code, failure.message) == (418, "short and stout")
        assert dict(failure.metadata) == {"spout": "1"}
        errors = {
            number: (item.error.status, item.error.code, item.error.retryable)
            for number, item in answers.items()
            if item.HasField("error")
        }
        assert errors == {
            2: ("RESOURCE_EXHAUSTED", "PD0508", True),
            3: ("UNAVAILABLE", "PD0509", True),
            4: ("NOT_FOUND", "PD0502", False),
            5: ("INVALID_ARGUMENT", "PD0506", False),
        }
        assert answers[6].call.value == b"1"

    serve(scenario)


def test_id_of_an_unanswered_request_ends_the_session() -> None:
    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, serving: "asyncio.Task[None]"
    ) -> None:
        stream.say(call(1, "wait"), call(1))
        await asyncio.wait([serving])

        assert isinstance(serving.exception(), BadRequestError)
        assert len(dispatcher.requests) == 1

    assert len(serve(scenario).forgotten) == 1


def test_client_that_goes_away_forgets_its_waits_and_late_answers_do_no_harm() -> None:
    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, serving: "asyncio.Task[None]"
    ) -> None:
        stream.say(call(1, "wait"), call(2, "wait"), call(3))
        await turns()
        serving.cancel()
        await asyncio.wait([serving])
        assert len(dispatcher.forgotten) == 2
        heard = len(stream.heard)
        dispatcher.waiting[0](Completed(INVOCATION_ID, b"late"))
        dispatcher.waiting[1](Rejected(INVOCATION_ID, PerdureError("late")))
        await turns()
        assert len(stream.heard) == heard

    serve(scenario)


def test_client_that_asks_no_more_gets_what_is_under_way() -> None:
    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, serving: "asyncio.Task[None]"
    ) -> None:
        stream.say(call(1, "wait"))
        stream.end()
        await turns()
        assert not serving.done()
        dispatcher.waiting[0](Completed(INVOCATION_ID, b"late"))
        await serving
        assert stream.answers()[1].call.value == b"late"

    serve(scenario)


def test_stopping_session_refuses_what_is_new_and_ends_when_all_is_answered() -> None:
    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, serving: "asyncio.Task[None]"
    ) -> None:
        stream.say(call(1, "wait"))
        await turns()
        dispatcher.session.stop()  # type: ignore[attr-defined]
        stream.say(call(2))
        await turns()
        assert stream.answers()[2].error.status == "UNAVAILABLE"
        assert not serving.done()
        dispatcher.waiting[0](Completed(INVOCATION_ID, b"late"))
        await serving
        assert stream.answers()[1].call.value == b"late"

    serve(scenario)


def test_client_that_does_not_read_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "QUEUED_BYTES_MAX", 10_000)

    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, _serving: "asyncio.Task[None]"
    ) -> None:
        await turns()
        stream.reads = False
        for number in range(1, 100):
            stream.say(call(number, body=b"x" * 1000))
            await turns(5)
        taken = len(dispatcher.requests)
        assert 8 <= taken <= 20
        stream.read_again()
        await turns(1000)
        assert len(stream.answers()) == 99

    serve(scenario)


def test_flood_of_refused_requests_in_one_message_is_bounded_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "QUEUED_BYTES_MAX", 10_000)

    async def scenario(
        stream: FakeStream, _dispatcher: FakeDispatcher, _serving: "asyncio.Task[None]"
    ) -> None:
        await turns()
        stream.say(*(wire.SessionRequest(id=number) for number in range(10_000)))
        await turns(5_000)
        assert len(stream.answers()) == 10_000
        assert max(message.ByteSize() for message in stream.heard) < 40_000

    serve(scenario)


def test_large_answers_travel_in_messages_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MESSAGE_BYTES_TARGET", 5_000)

    async def scenario(
        stream: FakeStream, _dispatcher: FakeDispatcher, serving: "asyncio.Task[None]"
    ) -> None:
        sizes = [10, 20_000, 10, 3_000, 3_000, 10]
        stream.say(*(call(number, body=b"x" * size) for number, size in enumerate(sizes)))
        stream.end()
        await serving

        messages = [
            [len(item.call.value) for item in message.responses] for message in stream.heard[1:]
        ]
        assert messages == [[10], [20_000], [10, 3_000], [3_000, 10]]

    serve(scenario)


def test_other_front_doors_are_told_first_and_again_when_they_have_changed() -> None:
    """The latest only, and nothing where nothing has changed; answers go on between."""
    known = FrontDoors("c", ("n1:1", "n2:1"))

    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, _serving: "asyncio.Task[None]"
    ) -> None:
        nonlocal known
        session = dispatcher.session  # type: ignore[attr-defined]
        await turns()
        session.tell_front_doors()
        await turns()
        (first,) = stream.heard
        assert list(first.front_doors.addresses) == ["n1:1", "n2:1"]
        assert first.front_doors.cluster == "c"

        stream.reads = False
        stream.say(call(1))
        await turns()
        for number in range(3, 6):
            known = FrontDoors("c", ("n1:1",), (f"n{number}:1",))
            session.tell_front_doors()
        stream.say(call(2))
        await turns()
        stream.read_again()
        await turns()
        later = [message for message in stream.heard[1:] if message.HasField("front_doors")]
        assert [list(message.front_doors.addresses) for message in later] == [["n1:1", "n5:1"]]
        assert set(stream.answers()) == {1, 2}

    serve(scenario, front_doors=lambda: known.message(0))


def test_node_that_is_alone_tells_of_no_front_doors() -> None:
    async def scenario(
        stream: FakeStream, dispatcher: FakeDispatcher, _serving: "asyncio.Task[None]"
    ) -> None:
        await turns()
        dispatcher.session.tell_front_doors()  # type: ignore[attr-defined]
        await turns()
        (first,) = stream.heard
        assert not first.HasField("front_doors")

    serve(scenario)


def test_sessions_are_told_of_the_same_front_doors_from_another_one_on() -> None:
    """Those that are not steady come last for all."""
    told = FrontDoors("c", ("n1:1", "n2:1", "n3:1"), ("n4:1",))
    assert [list(told.message(turn).addresses) for turn in range(4)] == [
        ["n1:1", "n2:1", "n3:1", "n4:1"],
        ["n2:1", "n3:1", "n1:1", "n4:1"],
        ["n3:1", "n1:1", "n2:1", "n4:1"],
        ["n1:1", "n2:1", "n3:1", "n4:1"],
    ]
    assert list(FrontDoors("c", (), ("n4:1",)).message(7).addresses) == ["n4:1"]
