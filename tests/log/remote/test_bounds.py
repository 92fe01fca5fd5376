"""Messages that make no sense, and more under way than there may be."""

import asyncio

import pytest

from perdure.core.random import SeededRandom
from perdure.log import (
    Appender,
    Committed,
    Duplicate,
    Indeterminate,
    Overloaded,
    Producer,
    ProducerFilter,
    RecordTooLargeError,
)
from perdure.log.remote import client as client_module
from perdure.log.remote.messages import (
    Offer,
    Told,
)
from perdure.log.remote.server import AppendServerLimits
from perdure.log.sequencer import Append

from ..lossy import LossyProvider
from ..mesh import Mesh, run_mesh
from ..support import turns
from ..virtual import LOG, body, everything, rec
from .scene import P, Raw, arrived

# Malformed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", [b"", b"\xc1", b"\x91\x92\x01\x01", b"\x91\x94\x09\x01\x02\x03"]
)
def test_a_malformed_message_ends_the_connection(message: bytes) -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        raw = await Raw.to(mesh, "n1")
        raw.send(Offer(1, LOG, Append([rec(1)])))
        await raw.replies()
        raw.connection.send(message)
        assert await raw.replies() is None

        assert await everything(log) == [1]

    run_mesh(scenario)


def test_a_malformed_answer_ends_the_connection_and_leaves_a_doubt() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        assert await away.append([rec(1)]) == Committed(1, 1)
        session = mesh.nodes[0].server._sessions["n2"]
        answer = asyncio.ensure_future(away.append([rec(2)]))
        await arrived(log, 3)
        session._connection.send(b"\x91\x93\x40\x02\x91\x63")
        told = await answer
        assert isinstance(told, Committed | Indeterminate)
        while mesh.nodes[0].server._sessions.get("n2") is session:
            await turns()

        assert await away.append([rec(3)]) == Committed(3, 3)

    run_mesh(scenario)


# Bounded -----------------------------------------------------------------------------------------


def test_what_is_under_way_over_one_connection_is_bounded() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)
    limits = AppendServerLimits(appends_max=3, bytes_max=2000)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1", limits=limits)
        raw = await Raw.to(mesh, "n1")
        raw.send(*[Offer(n, LOG, Append([rec(n)])) for n in range(1, 6)])
        assert await raw.replies() == [Told(4, Overloaded(3)), Told(5, Overloaded(3))]
        lossy.open(log.chain.tail).commit()
        assert len(await raw.replies() or []) == 3
        # By itself an append may be larger than everything together.
        raw.send(*[Offer(n, LOG, Append([rec(n, size=3000)])) for n in (6, 7)])
        assert await raw.replies() == [Told(7, Overloaded(1))]
        # While the log cannot take anything, what is held back counts as well.
        change = asyncio.ensure_future(log.reconfigure())
        while log.accepting:
            await asyncio.sleep(0)
        other = await Raw.to(mesh, "n1", "other")
        other.send(*[Offer(n, LOG, Append([rec(n)])) for n in range(10, 15)])
        assert await other.replies() == [Told(13, Overloaded(3)), Told(14, Overloaded(3))]
        lossy.held = False
        await change
        lossy.open(log.chain.tail).held = False

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_who_does_not_take_its_answers_is_let_go() -> None:
    limits = AppendServerLimits(answer_bytes_max=100)

    async def scenario(mesh: Mesh) -> None:
        await mesh.led("n1", limits=limits)
        raw = await Raw.to(mesh, "n1")
        for number in range(100):
            if not getattr(raw.connection, "is_open", False):
                break
            raw.send(Offer(number, LOG, Append([rec(number)])))
            await turns(20)

        assert 3 < number < 99

    run_mesh(scenario)


def test_a_client_has_so_much_under_way_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "APPENDS_MAX", 2)
    monkeypatch.setattr(client_module, "APPEND_BYTES_MAX", 1000)
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        with pytest.raises(RecordTooLargeError, match="at most 1000"):
            await away.append([rec(1, size=1000)])
        appends = [asyncio.ensure_future(away.append([rec(n)])) for n in range(3)]
        assert await appends[2] == Overloaded(2)
        await arrived(log, 3)
        lossy.open(log.chain.tail).commit()
        assert await asyncio.gather(*appends[:2]) == [Committed(1, 1), Committed(2, 2)]
        client = mesh.nodes[1].appends.client("n1")
        assert client is not None

        assert client.appends_in_flight == 0

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_an_appender_goes_on_where_too_much_is_under_way() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1", limits=AppendServerLimits(appends_max=2))
        away = await mesh.log("n2")
        async with Appender(away, P, loop=mesh.house.loop) as one:
            answers = [await one.submit([rec(n)]) for n in range(7)]
        assert [answer.result() for answer in answers] == [
            Committed(lsn, lsn) for lsn in range(1, 8)
        ]

        assert await everything(log) == list(range(7))

    run_mesh(scenario)


def test_appends_of_one_turn_travel_together() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        await away.append([rec(0)])
        client = mesh.nodes[1].appends.client("n1")
        assert client is not None
        sent: list[bytes] = []
        send = client._peer.send

        def count(message: bytes) -> bool:
            sent.append(message)
            return send(message)

        client._peer.send = count  # type: ignore[method-assign]
        writes = mesh.house.local.writer.batches
        async with Appender(away, P, loop=mesh.house.loop) as one:
            for n in range(1, 101):
                await one.submit([rec(n)])
        assert len(sent) == 1
        assert mesh.house.local.writer.batches == writes + 1
        accepted = ProducerFilter()
        batches = await log.read(1)
        records = [record for item in batches for record in item.batch.records]

        assert [body(record) for record in records if accepted.accept(record)] == list(range(101))

    run_mesh(scenario)


def test_a_numbered_append_that_is_sent_twice_is_a_duplicate() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        producer = Producer(P, 1, 1)
        segment = log.open_segment
        assert await away.append([rec(1)], producer=producer, segment=segment) == Committed(1, 1)
        assert await away.append([rec(1)], producer=producer, segment=segment) == Duplicate(1)

        assert await everything(log) == [1]

    run_mesh(scenario)
