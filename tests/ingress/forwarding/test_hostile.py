"""What breaks the rules between nodes is refused, changes nothing and stops nobody."""

import json

import msgspec
import pytest

from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import InvocationId
from perdure.core.net.peers import VERSION, Introduction, introduced
from perdure.core.net.transport import Connection
from perdure.ingress.forwarding import frames
from perdure.ingress.input_frames import input_frame
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.partition_processor.minting import Minter
from perdure.partition_processor.records import (
    ATTEMPT_STARTED,
    INVOKE,
    KILL,
    PATCH_STATE,
    RESTART,
    SIGNAL,
    AttemptStarted,
    Invoke,
    Kill,
    PatchState,
    Restart,
    Signal,
    encode_command,
)
from perdure.partition_processor.tables.invocations import Sink
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationClock

from .cluster import CLUSTER, Cluster, Node
from .ledgers import APP

HELLO = frames.Hello(frames.VERSION, CLUSTER, "stranger", 4)
ID = InvocationId(keyed_partition_key("k0").to_bytes(8, "big") + bytes(16))
COMMAND = Invoke(ID, "Ledger", "add", "k0", 1, input_frame(b"", b'"y"'), request_id=b"12345678")
ELSEWHERE = InvocationId(bytes(24))


def message(*items: object) -> bytes:
    """Frames as one message."""
    return frames.messages([frames.encode_frame(item) for item in items])[0]


def submit(number: int = 1, **changes: object) -> frames.Submit:
    """A request that would be right but for the changes."""
    return frames.Submit(number, True, None, msgspec.structs.replace(COMMAND, **changes))


def operate(kind: int, command: object, operation_id: bytes = bytes(16)) -> frames.Operate:
    """An operation."""
    return frames.Operate(1, operation_id, kind, encode_command(command), False)


HOSTILE: dict[str, bytes] = {
    "noise": b"\xff\x00noise",
    "nothing": b"",
    "no list": msgspec.msgpack.encode({"a": 1}),
    "unknown frame": msgspec.msgpack.encode([[99, 1]]),
    "deep": b"\x91" * 100_000,
    "cut off": message(HELLO, submit())[:-3],
    "no hello": message(submit()),
    "two hellos": message(HELLO, HELLO),
    "another cluster": message(msgspec.structs.replace(HELLO, cluster="other"), submit()),
    "another count": message(msgspec.structs.replace(HELLO, partition_count=5), submit()),
    "another version": message(msgspec.structs.replace(HELLO, version=9), submit()),
    "an answer": message(HELLO, frames.Done(1, "done")),
    "short id": message(HELLO, submit(invocation_id=b"short")),
    "a sink": message(HELLO, submit(sink=Sink(ID, 1, 1))),
    "a parent": message(HELLO, submit(parent=ID)),
    "held objects": message(HELLO, submit(held=(bytes(16),))),
    "no request id": message(HELLO, submit(request_id=None)),
    "short id to attach": message(HELLO, frames.Attach(1, b"x")),
    "no input": message(HELLO, submit(input_frames=b"")),
    "noise for input": message(HELLO, submit(input_frames=b"noise")),
    "two inputs": message(HELLO, submit(input_frames=2 * COMMAND.input_frames)),
    "no operation": message(HELLO, operate(ATTEMPT_STARTED, AttemptStarted(ID, 1))),
    "noise in an operation": message(HELLO, frames.Operate(1, bytes(16), KILL, b"\xc1", False)),
    "short operation id": message(HELLO, operate(KILL, Kill(ID), b"")),
    "short object key": message(
        HELLO, operate(PATCH_STATE, PatchState(b"x", "Ledger", "k", (), True, None))
    ),
    "restart elsewhere": message(
        HELLO, operate(RESTART, Restart(ID, InvocationId(b"\xff" * 24), 1, None, 1, 1))
    ),
    "messages of a kind": message(
        HELLO, frames.Carry(0, 1, 1, ((ATTEMPT_STARTED, encode_command(AttemptStarted(ID, 1))),))
    ),
    "noise in messages": message(HELLO, frames.Carry(0, 1, 1, ((INVOKE, b"\xc1"),))),
    "no messages": message(HELLO, frames.Carry(0, 1, 1, ())),
    "messages from number 0": message(
        HELLO,
        frames.Carry(0, 1, 0, ((SIGNAL, encode_command(Signal(ELSEWHERE, 17, "", b"", None))),)),
    ),
    "messages for another partition": message(
        HELLO, frames.Carry(3, 1, 1, ((KILL, encode_command(Kill(ELSEWHERE))),))
    ),
    "no such partition": message(HELLO, frames.Carry(4, 1, 1, ((KILL, b""),))),
    "taken of nobody": message(HELLO, frames.Taken(-1, 0, 1, False)),
    # The last one, as the first of the two is taken.
    "the same number": message(HELLO, submit(), submit()),
}


async def connected(cluster: Cluster, node: Node) -> Connection:
    """A connection of somebody who says to be a node of the cluster."""
    transport = cluster.network.transport("stranger")
    connection = await transport.connect(node.address, frames.FORWARDING_SERVICE)
    connection.send(msgspec.msgpack.encode(Introduction(VERSION, CLUSTER, "stranger", 1)))
    assert await connection.receive() is not None
    return connection


def test_hostile_frames_end_the_connection_and_change_nothing() -> None:
    cluster = Cluster(nodes=1, delay_ns=(0, 0))

    async def scenario() -> None:
        await cluster.add_worker(APP)
        (node,) = cluster.nodes
        before = [status.applied_lsn for status in node.manager.partitions()]
        for name, hostile in HOSTILE.items():
            connection = await connected(cluster, node)
            connection.send(hostile)
            while (answer := await connection.receive()) is not None:
                assert name in ("another cluster", "another count", "another version")
                assert isinstance(frames.decode_answered(answer)[0], frames.Stranger)
            await connection.close()
            if name != "the same number":
                after = [status.applied_lsn for status in node.manager.partitions()]
                assert after == before, name
        reply = await node.call(InvocationRequest("Ledger", "add", "k0", b'"x"'))[0]
        assert isinstance(reply, Completed)

    cluster.run(scenario())


def test_words_of_messages_that_were_never_sent_change_nothing() -> None:
    cluster = Cluster(nodes=1, delay_ns=(0, 0))

    async def scenario() -> None:
        (node,) = cluster.nodes
        connection = await connected(cluster, node)
        connection.send(message(HELLO, frames.Taken(0, 1, 1 << 62, False), frames.Forget(7)))
        connection.send(message(frames.Look(1, ELSEWHERE)))
        answer = await connection.receive()
        assert answer is not None
        (refused,) = frames.decode_answered(answer)
        assert isinstance(refused, frames.Refused)
        assert (refused.code, refused.moved) == ("PD0912", False)

    cluster.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"noise",
        message(frames.Accepted(1, True, 0)),
        message(frames.Done(1, "done")),
        message(frames.Turn(1, "done")),
        message(HELLO),
    ],
)
def test_a_peer_whose_answers_make_no_sense_is_let_go_and_asked_again(answer: bytes) -> None:
    cluster = Cluster(nodes=1, delay_ns=(0, 0), partitions=4)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        (node,) = cluster.nodes
        asked: list[frames.Submit] = []

        async def answers(_them: Introduction, connection: Connection) -> None:
            while (received := await connection.receive()) is not None:
                for frame in frames.decode_asked(received):
                    if isinstance(frame, frames.Submit):
                        asked.append(frame)
                        if len(asked) == 1:
                            connection.send(answer)
                        else:
                            result = frames.Result(
                                frame.number, False, 3, "Ledger", "add", b"7", None, 0, 1, "d1"
                            )
                            connection.send(message(result))

        listener = await cluster.network.transport("fake").listen(
            "fake:1",
            {
                frames.FORWARDING_SERVICE: introduced(
                    Introduction(VERSION, CLUSTER, "fake", 1), answers
                )
            },
        )
        cluster.addresses["fake"] = "fake:1"
        partition = cluster.partition_of("k0")
        node.give_up(partition)
        node.table.set(partition, "fake")
        reply = await node.call(InvocationRequest("Ledger", "add", "k0", b'"x"'))[0]
        assert isinstance(reply, Completed)
        assert reply.value == b"7"
        assert len(asked) == 2
        assert asked[0].command == asked[1].command
        await listener.close()

    cluster.run(scenario())


def test_frames_come_out_as_they_went_in_and_large_ones_travel_alone() -> None:
    small = [frames.encode_frame(frames.Forget(number)) for number in range(3)]
    large = frames.encode_frame(frames.Operate(9, bytes(16), KILL, bytes(3_000_000), False))
    sent = frames.messages([*small, large, large, small[0]])
    assert len(sent) == 2
    decoded = [frame for item in sent for frame in frames.decode_asked(item)]
    numbers = [getattr(frame, "number", None) for frame in decoded]
    assert numbers == [0, 1, 2, 9, 9, 0]


def test_an_invoke_arrives_as_it_was_resolved() -> None:
    minter = Minter(SimulationClock(Cluster().loop), Chance(1, "ids"))
    command = msgspec.structs.replace(
        COMMAND,
        invocation_id=minter.mint(1, "Ledger", "k", "add", None),
        idempotency_key="i",
        start_ns=5,
        completion_retention_ns=6,
        journal_retention_ns=7,
        expires_ns=8,
        input_frames=json.dumps("x").encode(),
    )
    sent = frames.Submit(1, True, "00-trace", command)
    assert frames.decode_asked(message(sent)) == [sent]
