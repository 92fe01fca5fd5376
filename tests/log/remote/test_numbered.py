"""Appends with a producer's numbers get a final answer though the connection was lost."""

import asyncio
from asyncio import Future
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.core.random import SeededRandom
from perdure.log import (
    Answer,
    Committed,
    Conflict,
    Fence,
    Indeterminate,
    NotChangedSince,
    OutOfOrder,
    Producer,
    Sealed,
    VirtualLog,
)
from perdure.log.remote import appends as appends_module
from perdure.log.remote.server import AppendServer

from ..lossy import LossyProvider
from ..mesh import HOPELESS, Mesh, run_mesh
from ..support import turns
from ..virtual import everything, rec
from .scene import P, arrived

KEY = b"k" * 16


def first(number: int = 1) -> Producer:
    """The first record of a producer of its own."""
    return Producer(number.to_bytes(16, "big"), 1, 1)


def forgets_one_message(patch: pytest.MonkeyPatch, mesh: Mesh) -> None:
    """The next message to n1 gets lost with its connection."""
    take = AppendServer._take
    lost: list[bytes] = []

    def taken(self: AppendServer, session: Any, message: bytes) -> None:
        if lost:
            take(self, session, message)
        else:
            lost.append(message)
            mesh.cut("n1")

    patch.setattr(AppendServer, "_take", taken)


@pytest.mark.parametrize("named", [True, False])
def test_what_has_arrived_is_found_and_is_there_once(named: bool) -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        segment = log.open_segment if named else None
        answer = asyncio.ensure_future(
            away.append([rec(1), rec(2)], producer=Producer(P, 1, 1), segment=segment)
        )
        await arrived(log, 3)
        mesh.cut("n1")
        await turns(20)
        assert not answer.done(), "nobody knows yet whether it is durable"
        loglet = lossy.open(log.chain.tail)
        loglet.held = False
        loglet.commit()
        assert await answer == Committed(1, 2)
        # The same epoch goes on: nothing was fenced.
        assert await away.append([rec(3)], producer=Producer(P, 1, 3)) == Committed(3, 3)
        assert await everything(away) == [1, 2, 3]

    run_mesh(scenario, more=[lossy], default_kind="lossy")


@pytest.mark.parametrize("sequence", [1, 2])
def test_what_has_not_arrived_gets_in_if_it_may(
    sequence: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(mesh: Mesh) -> None:
        await mesh.led("n1")
        away = await mesh.log("n2")
        assert await away.append([rec(0)], producer=first(7)) == Committed(1, 1)
        forgets_one_message(monkeypatch, mesh)
        answer = await away.append([rec(1)], producer=Producer(P, 1, sequence))
        if sequence == 1:
            assert answer == Committed(2, 2)
            assert await everything(away) == [0, 1]
        else:
            # The numbers before it may be there, of a producer that is forgotten.
            assert type(answer) is Indeterminate
            assert await everything(away) == [0]

    run_mesh(scenario)


def test_a_condition_that_failed_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        forgets_one_message(monkeypatch, mesh)
        lost = asyncio.ensure_future(
            away.append([rec(1, KEY)], producer=first(), conditions=[NotChangedSince(KEY, 0)])
        )
        assert await log.append([rec(2, KEY)]) == Committed(1, 1)
        assert await lost == Conflict(KEY, 1)
        assert await everything(away) == [2]

    run_mesh(scenario)


def test_a_higher_fence_that_came_meanwhile_says_nothing() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        answer = asyncio.ensure_future(
            away.append([rec(1)], producer=first(), fence=Fence(b"f", 1))
        )
        await arrived(log, 2)
        later = asyncio.ensure_future(log.append([rec(2)], fence=Fence(b"f", 2)))
        await arrived(log, 3)
        mesh.cut("n1")
        lossy.held = False
        lossy.open(log.chain.tail).commit()
        assert await later == Committed(2, 2)
        assert type(await answer) is Indeterminate
        assert await everything(away) == [1, 2]

    run_mesh(scenario, more=[lossy], default_kind="lossy")


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_segment_that_has_ended_is_read(
    kept: bool, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appends_module, "POLL_SECONDS", 0.001)
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        old = log.chain.tail
        # It hears of nothing any more, though its connections stand.
        monkeypatch.setattr(log, "look_for_seal", lambda: turns(1))
        answer = asyncio.ensure_future(
            away.append([rec(1)], producer=first(), segment=old.index if named else None)
        )
        await arrived(log, 2)
        loglet = lossy.open(old)
        monkeypatch.setattr(loglet, "_random", SimpleNamespace(fraction=lambda: 0.9 * kept))
        lossy.held = False
        other = await mesh.led("n3", "local")
        # What was lost with its segment gets into the next one, unless it was not meant for that.
        expected = Committed(1, 1) if kept or not named else Sealed(old.index)
        assert await answer == expected
        assert await everything(other) == ([1] if type(expected) is Committed else [])

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_numbers_that_cannot_go_on_in_the_next_segment_are_refused() -> None:
    """As on the node that orders the log: who begins there begins a new epoch."""

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        assert await away.append([rec(1)], producer=Producer(P, 1, 1)) == Committed(1, 1)
        await log.reconfigure()
        assert await away.append([rec(2)], producer=Producer(P, 1, 2)) == OutOfOrder(1)
        assert await log.append([rec(2)], producer=Producer(P, 1, 2)) == OutOfOrder(1)
        assert await away.append([rec(2)], producer=Producer(P, 2, 1)) == Committed(2, 2)
        assert await everything(away) == [1, 2]

    run_mesh(scenario)


def test_it_is_in_doubt_where_nobody_is_found() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2", patience=HOPELESS)
        answer = asyncio.ensure_future(away.append([rec(1)], producer=first()))
        await arrived(log, 2)
        del mesh.addresses["n1"]
        listener = mesh.nodes[0].listener
        assert listener is not None
        await listener.close(0)
        assert type(await answer) is Indeterminate

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_numbered_appends_are_in_the_log_once_whatever_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Connections are lost, leads move, segments change: each has its answer, and the right one."""
    monkeypatch.setattr(appends_module, "POLL_SECONDS", 0.001)
    resent = 0
    final = appends_module.settled

    async def counting(*arguments: Any) -> Answer | None:
        nonlocal resent
        resent += 1
        return await final(*arguments)

    monkeypatch.setattr(appends_module, "settled", counting)

    async def scenario(mesh: Mesh, random: SeededRandom) -> None:
        logs = [await mesh.log(name) for name in ("n1", "n2", "n3")]
        await logs[0].lead()
        outcome: dict[int, Answer] = {}

        async def append(away: VirtualLog, number: int) -> None:
            outcome[number] = await away.append([rec(number)], producer=first(number))

        appends: list[Future[None]] = []
        for number in range(60):
            appends.append(asyncio.ensure_future(append(logs[2], number)))
            await turns(random.bits(3))
            what = random.bits(4)
            if what == 0:
                mesh.cut(f"n{1 + random.bits(1)}")
            elif what == 1:
                await logs[random.bits(1)].lead()
        await asyncio.gather(*appends)
        found = await everything(logs[2])

        assert sorted(found) == list(range(60))
        assert outcome == {n: Committed(lsn, lsn) for lsn, n in enumerate(found, 1)}

    for seed in range(20):
        random = SeededRandom(seed)
        lossy = LossyProvider(random)
        run_mesh(partial(scenario, random=random), more=[lossy], default_kind="lossy")
    assert resent > 20, "hardly anything was in doubt"
