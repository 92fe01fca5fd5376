"""A worker's sessions with scripted nodes: greeting, attempts, loss, refusal and drain."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from perdure.core.net.inproc import InProcTransport
from perdure.core.net.transport import Connection
from perdure.core.protocol import messages
from perdure.core.protocol.envelope import EnvelopeReader, EnvelopeWriter
from perdure.core.protocol.messages import PROTOCOL_VERSION, frame
from perdure.core.protocol.session import SESSION_SERVICE, Open, Welcome
from perdure.sdk import Context, Service, app
from perdure.sdk.errors import WorkerRefusedError

from .fake_node import (
    Journal,
    frames_of,
    input_frame,
    parsed,
    run_completion,
    start_frame,
    types_of,
)
from .fake_session import World

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]

service = Service("Service")
events: list[str] = []


@service.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@service.handler()
async def slow(ctx: Context) -> str:
    async def waits() -> str:
        events.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")
        return "never"

    try:
        return await ctx.run("slow", waits)
    finally:
        events.append("unwound")


@service.handler()
async def quick(ctx: Context) -> str:
    async def works() -> str:
        await asyncio.sleep(0)
        return "done"

    return await ctx.run("quick", works)


def play(scenario: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Run a scenario against a worker of one node, then stop the worker."""

    async def main() -> None:
        events.clear()
        world = World(app([service]))
        listener = await world.listen("node:1")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1", **options))
            await scenario(world)
            world.stop.set()
        await listener.close()

    asyncio.run(main())


def opening(handler: str, data: bytes, epoch: int = 1, attempt: int = 1) -> bytes:
    """OPEN and what follows it."""
    opened = msgspec.msgpack.encode(Open("Service", handler, epoch, attempt))
    return frame(messages.OPEN, opened) + data


def started(body: bytes = b"", invocation: int = 0) -> bytes:
    """Start and Input of an invocation of its own."""
    start = start_frame(1)
    changed = start.replace(bytes(range(24)), bytes(range(invocation, invocation + 24)))
    return changed + input_frame(body)


def test_hello_announces_the_app() -> None:
    """Deployment, code, services and bounds."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        hello = node.hello
        assert hello is not None
        assert hello.deployment == f"dp-{hello.code_hash[:16]}"
        assert hello.protocol_version == PROTOCOL_VERSION
        assert hello.attempts_max == 1000
        assert [each.name for each in hello.services] == ["Service"]
        assert [each.name for each in hello.services[0].handlers] == ["greet", "slow", "quick"]

    play(scenario)


def test_answers_of_one_turn_leave_in_one_message() -> None:
    """Ten calls in one message, ten answers in one, and no task in between."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        before = len(asyncio.all_tasks())
        node.send(*((n, opening("greet", started(b'"Ann"', n))) for n in range(1, 11)))
        await node.answer(10, 2)

        assert len(asyncio.all_tasks()) == before
        assert all(types_of(node.sent_by_worker[n]) == OUTPUT_END for n in range(1, 11))
        assert node.messages == 2  # Hello and this

    play(scenario)


def test_steps_run_and_their_results_come_back() -> None:
    """Run, proposal, completion, output."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, opening("quick", started())))
        command, proposal = await node.answer(1, 2)
        assert command[0] == messages.RUN_COMMAND
        assert parsed(proposal).value == b'"done"'

        node.send((1, run_completion(1, b'"done"')))
        assert types_of((await node.answer(1, 4))[2:]) == OUTPUT_END

    play(scenario)


def test_unknown_handlers_fail_their_attempt_only() -> None:
    """And say which one is missing."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, opening("gone", started())), (2, opening("greet", started(b'"A"'))))
        error = parsed((await node.answer(1, 1))[0])

        assert (error.code, "Service/gone" in error.message) == (404, True)
        assert types_of(await node.answer(2, 2)) == OUTPUT_END

    play(scenario)


def test_late_frames_of_an_ended_stream_are_dropped() -> None:
    """The node may send before it has read the end."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, opening("greet", started(b'"A"'))), (1, run_completion(1, b"1")))
        await node.answer(1, 2)
        node.send((1, run_completion(2, b"1")), (2, opening("greet", started(b'"A"'))))

        assert types_of(await node.answer(2, 2)) == OUTPUT_END

    play(scenario)


def test_lost_connection_cancels_its_attempts_and_comes_back() -> None:
    """Nothing of the old attempt is sent on the new session, which works."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, opening("slow", started())))
        await node.answer(1, 1)
        while events != ["started"]:
            await asyncio.sleep(0)
        world.network.cut("node:1")
        again = await world.node(1)
        await again.until(lambda: again.hello)

        assert sorted(events) == ["cancelled", "started", "unwound"]
        assert types_of(node.sent_by_worker[1]) == [messages.RUN_COMMAND]
        again.send((1, opening("greet", started(b'"A"'))))
        assert types_of(await again.answer(1, 2)) == OUTPUT_END
        assert list(again.sent_by_worker) == [1]

    play(scenario)


def test_every_node_has_its_own_session() -> None:
    """One that is away does not hold up the other, and is found when it comes."""

    async def main() -> None:
        world = World(app([service]))
        first = await world.listen("node:1")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:2", "node:1"))
            node = await world.node()
            await node.until(lambda: node.hello)
            second = await world.listen("node:2")
            other = await world.node(1)
            await other.until(lambda: other.hello)
            other.send((1, opening("greet", started(b'"A"'))))
            assert types_of(await other.answer(1, 2)) == OUTPUT_END
            world.stop.set()
        await first.close()
        await second.close()

    asyncio.run(main())


def test_newer_attempt_ends_the_older_one_across_sessions() -> None:
    """The invocation moved to another leader; its old attempt is told, without an answer."""

    async def main() -> None:
        events.clear()
        world = World(app([service]))
        listeners = [await world.listen("node:1"), await world.listen("node:2")]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1", "node:2"))
            old, new = await world.node(0), await world.node(1)
            await old.until(lambda: old.hello)
            await new.until(lambda: new.hello)
            old.send((1, opening("slow", started(), epoch=1, attempt=7)))
            await old.answer(1, 1)
            new.send((5, opening("slow", started(), epoch=2, attempt=1)))
            await new.answer(5, 1)
            assert types_of(await old.answer(1, 2)) == [messages.RUN_COMMAND, messages.ABORT]
            assert "unwound" in events

            # And the old leader, which has not heard of it yet, does not get it back.
            old.send((2, opening("slow", started(), epoch=1, attempt=8)))
            assert types_of(await old.answer(2, 1)) == [messages.ABORT]
            new.send((5, frame(messages.ABORT, b"")))
            world.stop.set()
        for listener in listeners:
            await listener.close()

    asyncio.run(main())


def test_refusal_for_good_stops_the_worker() -> None:
    """With what the node said."""

    async def main() -> None:
        world = World(app([service]))
        world.greetings = ["never"]
        listener = await world.listen("node:1")
        with pytest.raises(WorkerRefusedError, match=r"not here \[PD0999\]"):
            await world.worker("node:1", "node:2")
        await listener.close()

    asyncio.run(main())


def test_refusal_for_now_is_tried_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Until the node takes the worker."""
    caplog.set_level("INFO")

    async def scenario(world: World) -> None:
        node = await world.node(2)
        await node.until(lambda: node.hello)
        assert [each.greeting for each in world.nodes] == ["later", "later", "welcome"]

    async def main() -> None:
        world = World(app([service]))
        world.greetings = ["later", "later"]
        listener = await world.listen("node:1")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1"))
            await scenario(world)
            world.stop.set()
        await listener.close()

    asyncio.run(main())

    said = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(said) == 1, said


def test_more_attempts_than_announced_end_the_session() -> None:
    """The bound is the node's to keep."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        assert node.hello is not None
        assert node.hello.attempts_max == 2
        node.send(*((n, opening("slow", started(invocation=n))) for n in range(1, 4)))
        await node.until(lambda: node.closed)
        again = await world.node(1)
        await again.until(lambda: again.hello)
        assert events.count("unwound") == 2

    play(scenario, attempts_max=2)


@pytest.mark.parametrize("message", [b"", b"\x07", b"\x01\x00\x00"])
def test_message_that_is_no_envelope_ends_the_session(message: bytes) -> None:
    """And the worker comes back."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.connection.send(message)
        await node.until(lambda: node.closed)
        again = await world.node(1)
        await again.until(lambda: again.hello)

    play(scenario)


def test_drain_finishes_what_runs() -> None:
    """DRAIN goes out at once; the attempt that runs still answers; then the session closes."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, opening("quick", started())))
        await node.answer(1, 2)
        world.stop.set()
        assert types_of(await node.answer(0, 1)) == [messages.DRAIN]
        assert not node.closed
        node.send((1, run_completion(1, b'"done"')))
        assert types_of((await node.answer(1, 4))[2:]) == OUTPUT_END
        await node.until(lambda: node.closed)

    play(scenario)


def test_drain_gives_up_on_what_does_not_end() -> None:
    """The attempt is cancelled without an answer."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        node.send((1, opening("slow", started())))
        await node.answer(1, 1)
        world.stop.set()
        await node.until(lambda: node.closed)
        assert types_of(node.sent_by_worker[1]) == [messages.RUN_COMMAND]
        assert "unwound" in events

    play(scenario, drain_seconds=0.01)


def test_long_bodies_cross_in_pieces() -> None:
    """Frames over a segment's length, both ways."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        name = b"x" * 1_000_000
        node.send((1, opening("greet", started(b'"' + name + b'"'))))
        output = (await node.answer(1, 2))[0]
        assert parsed(output).value.content == b'"Hello ' + name + b'"'

    play(scenario)


def test_attempts_in_one_message_with_the_welcome_are_served() -> None:
    """A node need not wait for anything after it has said Welcome."""

    async def main() -> None:
        world = World(app([service]))
        answered = asyncio.Event()

        async def accept(connection: Connection) -> None:
            assert await connection.receive() is not None
            writer = EnvelopeWriter()
            welcome = msgspec.msgpack.encode(Welcome("n1", "test", 5))
            writer.add(0, 0, frame(messages.WELCOME, welcome))
            writer.add(1, 1, opening("greet", started(b'"A"')))
            for message in writer.take():
                connection.send(message)
            reply = await connection.receive()
            assert reply is not None
            (segment,) = EnvelopeReader().read(reply)
            assert types_of(frames_of(segment[2])) == OUTPUT_END
            answered.set()
            await connection.receive()

        listener = await InProcTransport(world.network).listen("node:1", {SESSION_SERVICE: accept})
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(world.worker("node:1"))
            await answered.wait()
            world.stop.set()
        await listener.close()

    asyncio.run(main())


def test_journal_of_a_lost_attempt_is_taken_up_again() -> None:
    """The second attempt replays the Run of the first and runs its closure again."""

    async def scenario(world: World) -> None:
        node = await world.node()
        await node.until(lambda: node.hello)
        journal = Journal()
        node.send((1, opening("quick", journal.opening())))
        run, _proposal = await node.answer(1, 2)
        world.network.cut("node:1")
        again = await world.node(1)
        await again.until(lambda: again.hello)
        journal.entries.append(frame(*run))
        again.send((1, opening("quick", journal.opening(), attempt=2)))

        (proposal,) = await again.answer(1, 1)
        assert parsed(proposal).value == b'"done"'
        again.send((1, run_completion(1, b'"done"')))
        assert types_of((await again.answer(1, 3))[1:]) == OUTPUT_END

    play(scenario)
