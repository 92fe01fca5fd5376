"""Connections that are lost, late, malformed or full: what may be there is never sent again."""

import asyncio
from asyncio import Future
from functools import partial

import pytest

from perdure.core.errors import PerdureError
from perdure.core.random import SeededRandom
from perdure.log import (
    Answer,
    Appender,
    Committed,
    Duplicate,
    Fenced,
    Indeterminate,
    Producer,
    WrongSegment,
)
from perdure.log import appender as appender_module
from perdure.log.answers import Settled
from perdure.log.remote import appends as appends_module
from perdure.log.remote import server as server_module
from perdure.log.remote.messages import (
    Offer,
    Settle,
    Told,
)
from perdure.log.sequencer import Append

from ..lossy import LossyProvider
from ..mesh import Mesh, run_mesh
from ..support import turns
from ..virtual import LOG, everything, rec
from .scene import P, Raw, arrived

# Lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
def test_an_append_whose_answer_is_lost_is_indeterminate_and_sent_once(kept: bool) -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        answer = asyncio.ensure_future(away.append([rec(1)]))
        await arrived(log, 2)
        mesh.cut("n1")
        assert type(await answer) is Indeterminate
        if kept:
            lossy.open(log.chain.tail).commit()
        lossy.held = False
        await log.reconfigure("local")
        await turns(50)
        assert type(await away.append([rec(2)])) is Committed
        found = await everything(away)

        assert found.count(1) <= 1
        assert not kept or found == [1, 2]

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_an_append_that_was_not_sent_is_sent_over_the_next_connection() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        assert await away.append([rec(1)]) == Committed(1, 1)
        answer = asyncio.ensure_future(away.append([rec(2)]))
        await turns(1)
        # In the turn in which it was handed to the client: its message is not made yet.
        mesh.cut("n1")
        assert await answer == Committed(2, 2)

        assert await everything(log) == [1, 2]

    run_mesh(scenario)


def test_an_appender_gets_each_record_in_once_and_in_order_over_lost_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(appender_module, "POLL_SECONDS", 0.001)
    epochs = 0

    async def scenario(mesh: Mesh, random: SeededRandom) -> None:
        nonlocal epochs
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        segment = log.open_segment
        answers: list[Future[Answer]] = []
        done = False

        async def cut() -> None:
            while not done:
                await turns(1 + int(random.fraction() * 40))
                mesh.cut("n1")

        cutting = asyncio.ensure_future(cut())
        async with Appender(away, P, loop=mesh.house.loop) as one:
            for n in range(60):
                answers.append(await one.submit([rec(2 * n), rec(2 * n + 1)]))
                if random.bits(1):
                    await turns(random.bits(3))
            await one.flush()
            epochs += one.epoch
        done = True
        await cutting
        found = await everything(log)

        assert found == list(range(120))
        assert [answer.result() for answer in answers] == [
            Committed(2 * n + 1, 2 * n + 2) for n in range(60)
        ]
        # Doubts are resolved where the segment is: nobody had to seal it.
        assert log.open_segment == segment

    for seed in range(25):
        random = SeededRandom(seed)
        lossy = LossyProvider(random)
        run_mesh(partial(scenario, random=random), more=[lossy], default_kind="lossy")
    assert epochs > 50, "hardly anything was in doubt"


def test_a_node_that_was_deposed_and_is_silent_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answers may never come: slow or cut off, it does not know what has become of them."""
    monkeypatch.setattr(appends_module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(appender_module, "POLL_SECONDS", 0.001)
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        # It looks at nothing any more, though its connections stand.
        monkeypatch.setattr(log, "look_for_seal", lambda: turns(1))
        away = await mesh.log("n2")
        async with Appender(away, P, loop=mesh.house.loop) as one:
            numbered = await one.submit([rec(1)])
            await arrived(log, 2)
            plain = asyncio.ensure_future(away.append([rec(2)]))
            await arrived(log, 3)
            lossy.held = False
            other = await mesh.led("n3", "local")
            assert type(await plain) is Indeterminate
            answer = await numbered
        assert type(answer) is Committed
        found = await everything(other)

        assert found.count(1) == 1
        assert found.count(2) <= 1

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_a_segment_that_is_sealed_under_what_is_in_flight_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the node that orders the log, if nobody else there appends or listens."""
    monkeypatch.setattr(appends_module, "POLL_SECONDS", 1000.0)
    monkeypatch.setattr(server_module, "POLL_SECONDS", 0.001)
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        answers = [asyncio.ensure_future(away.append([rec(n)])) for n in range(6)]
        await arrived(log, 7)
        lossy.held = False
        await lossy.open(log.chain.tail).seal()
        assert {type(answer) for answer in await asyncio.gather(*answers)} == {Committed}

        assert sorted(await everything(away)) == list(range(6))

    run_mesh(scenario, more=[lossy], default_kind="lossy")


# Late --------------------------------------------------------------------------------------------


def test_a_late_copy_gets_into_no_other_segment() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        raw = await Raw.to(mesh, "n1")
        copy = Append([rec(1)], (), None, Producer(P, 1, 1), log.open_segment)
        raw.send(Offer(1, LOG, copy), Offer(2, LOG, copy))
        assert await raw.replies() == [Told(1, Committed(1, 1)), Told(2, Duplicate(1))]
        await log.reconfigure()
        raw.send(Offer(3, LOG, copy))
        assert await raw.replies() == [Told(3, WrongSegment(log.open_segment))]

        assert await everything(log) == [1]

    run_mesh(scenario)


def test_what_was_sent_before_a_settling_is_refused_when_it_comes_after_it() -> None:
    """Over another connection, say: whoever settles reads, and sends again what is not there."""

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        raw, settler = await Raw.to(mesh, "n1", "a"), await Raw.to(mesh, "n1", "b")
        segment = log.open_segment

        def offer(number: int, epoch: int, sequence: int) -> Offer:
            producer = Producer(P, epoch, sequence)
            return Offer(number, LOG, Append([rec(number)], (), None, producer, segment))

        raw.send(offer(1, 1, 1))
        await raw.replies()
        settler.send(Settle(2, LOG, segment, P, 2))
        assert await settler.replies() == [Told(2, Settled(2))]
        raw.send(offer(3, 1, 2))
        assert await raw.replies() == [Told(3, Fenced(2))]
        # A producer that the sequencer does not know, too.
        settler.send(Settle(4, LOG, segment, b"q" * 16, 2))
        assert await settler.replies() == [Told(4, Settled(2))]
        late = Append([rec(5)], (), None, Producer(b"q" * 16, 1, 1), segment)
        raw.send(Offer(5, LOG, late))
        assert await raw.replies() == [Told(5, Fenced(2))]
        # Once more is the same, and the next epoch begins at 1.
        settler.send(Settle(6, LOG, segment, P, 2))
        assert await settler.replies() == [Told(6, Settled(2))]
        settler.send(offer(7, 2, 1))
        assert await settler.replies() == [Told(7, Committed(2, 2))]
        settler.send(Settle(8, LOG, segment + 7, P, 2))
        assert await settler.replies() == [Told(8, WrongSegment(segment))]
        settler.send(Settle(9, LOG, segment, b"short", 2), Settle(10, LOG, segment, P, 0))
        told = await settler.replies() or []
        assert [getattr(item, "code", "") for item in told] == ["PD0809", "PD0809"]

        assert await everything(log) == [1, 7]

    run_mesh(scenario)


def test_a_settling_waits_for_what_is_in_flight() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        raw = await Raw.to(mesh, "n1")
        segment = log.open_segment
        numbered = Append([rec(1)], (), None, Producer(P, 1, 1), segment)
        raw.send(Offer(1, LOG, numbered), Settle(2, LOG, segment, P, 2))
        reply = asyncio.ensure_future(raw.replies())
        await turns(30)
        assert not reply.done()
        lossy.open(log.chain.tail).commit()

        assert await reply == [Told(1, Committed(1, 1)), Told(2, Settled(2))]

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_what_is_in_flight_when_the_connection_goes_is_not_sent_again_before_it_is_known() -> None:
    """It is neither in the log yet nor lost: whoever just reads the log would take it for lost."""
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        async with Appender(away, P, loop=mesh.house.loop) as one:
            first = await one.submit([rec(1)])
            await arrived(log, 2)
            sessions = mesh.nodes[0].server._sessions
            before = sessions["n2"]
            mesh.cut("n1")
            second = await one.submit([rec(2)])
            while sessions.get("n2") in (None, before):
                await turns()
            await turns(300)
            assert not first.done()
            lossy.held = False
            lossy.open(log.chain.tail).held = False
            lossy.open(log.chain.tail).commit()
        assert first.result() == Committed(1, 1)
        assert second.result() == Committed(2, 2)

        assert await everything(away) == [1, 2]

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_a_new_connection_of_a_node_ends_the_one_before() -> None:
    """What is still on its way over the old one must not come after what comes over the new."""

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        old = await Raw.to(mesh, "n1", "a", life=2)
        old.send(Offer(1, LOG, Append([rec(1)])))
        assert await old.replies() == [Told(1, Committed(1, 1))]
        new = await Raw.to(mesh, "n1", "a", life=2)
        await turns()
        with pytest.raises(PerdureError):
            old.send(Offer(2, LOG, Append([rec(2)])))
        assert await old.replies() is None
        # A life that is over gets nothing in any more.
        before = await Raw.to(mesh, "n1", "a", life=1)
        assert await before.replies() is None
        new.send(Offer(3, LOG, Append([rec(3)])))
        assert await new.replies() == [Told(3, Committed(2, 2))]

        assert await everything(log) == [1, 3]

    run_mesh(scenario)
