"""The sequencer moves while others append: they follow it, and nothing is lost or twice there."""

import asyncio
from asyncio import Future
from functools import partial

import msgspec
import pytest

from perdure.core.ids import LogId
from perdure.core.random import SeededRandom
from perdure.log import (
    Answer,
    Appender,
    Committed,
    Indeterminate,
    LogClosedError,
    LogEntry,
    LogReader,
    NotSequencerError,
    ProducerFilter,
    Sealed,
    VirtualLog,
)
from perdure.log import appender as appender_module
from perdure.log import virtual_log as virtual_log_module
from perdure.log.errors import SequencerUnreachableError
from perdure.log.remote import appends as appends_module
from perdure.log.remote import server as server_module

from ..lossy import LossyProvider
from ..mesh import HOPELESS, Mesh, never_poll, run_mesh
from ..support import turns
from ..virtual import LOG, body, everything, put, rec

P = b"p" * 16


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (appender_module, appends_module, server_module, virtual_log_module):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.001)


async def counted(log: VirtualLog) -> dict[int, int]:
    """LSN to number of the records that count; none may be there that does not."""
    tail = (await log.find_tail()).lsn
    accepted = ProducerFilter()
    found: dict[int, int] = {}
    async for item in LogReader(log, to_lsn=tail - 1):
        assert isinstance(item, LogEntry)
        assert accepted.accept(item.record), item
        found[item.lsn] = body(item.record)
    return found


def test_an_append_follows_whoever_leads() -> None:
    async def scenario(mesh: Mesh) -> None:
        first, second, third = [await mesh.log(name) for name in ("n1", "n2", "n3")]
        await first.lead()
        assert await put(third, 1) == [1]
        await second.lead()
        # n3 still believes in n1, and n1 does not know better either.
        assert await put(third, 2) == [2]
        assert await put(first, 3) == [3]
        await third.lead()
        assert await put(third, 4) == [4]
        assert await put(second, 5) == [5]

        assert await everything(first) == [1, 2, 3, 4, 5]

    run_mesh(scenario)


@pytest.mark.parametrize("away", [True, False])
def test_an_appender_follows_whoever_leads(away: bool) -> None:
    """Over lost connections, lossy seals and its own node among those that lead."""
    moved = 0

    async def scenario(mesh: Mesh, random: SeededRandom) -> None:
        nonlocal moved
        logs = [await mesh.log(name) for name in ("n1", "n2", "n3")]
        await logs[0].lead()
        own = logs[2]
        answers: list[Future[Answer]] = []
        done = False

        async def disturb() -> None:
            nonlocal moved
            while not done:
                await turns(5 + int(random.fraction() * 60))
                what = random.bits(2)
                if what == 0:
                    mesh.cut(f"n{1 + random.bits(1)}")
                elif what == 1:
                    await logs[0]._loglet(logs[0].chain.tail).seal()
                else:
                    moved += 1
                    leader = logs[int(random.fraction() * (2 if away else 3))]
                    await leader.lead(kind=("lossy", "local")[random.bits(1)])

        disturbing = asyncio.ensure_future(disturb())
        async with Appender(own, P, loop=mesh.house.loop) as one:
            for n in range(50):
                answers.append(await one.submit([rec(2 * n), rec(2 * n + 1)]))
                if random.bits(1):
                    await turns(random.bits(4))
            await one.flush()
        done = True
        await disturbing
        found = await counted(own)

        assert list(found.values()) == list(range(100))
        for n, answer in enumerate(answers):
            committed = answer.result()
            assert type(committed) is Committed
            assert found[committed.first_lsn] == 2 * n

    for seed in range(25):
        random = SeededRandom(seed)
        lossy = LossyProvider(random)
        run_mesh(partial(scenario, random=random), more=[lossy], default_kind="lossy")
    assert moved > 50


def test_plain_appends_are_in_the_log_once_at_most_whatever_happens() -> None:
    """And once, if that was the answer: nobody sends one again that may be there."""
    doubts = 0

    async def scenario(mesh: Mesh, random: SeededRandom) -> None:
        nonlocal doubts
        logs = [await mesh.log(name) for name in ("n1", "n2", "n3")]
        await logs[0].lead()
        outcome: dict[int, Answer] = {}

        async def append(number: int) -> None:
            outcome[number] = await logs[2].append([rec(number)])

        appends: list[Future[None]] = []
        for number in range(60):
            appends.append(asyncio.ensure_future(append(number)))
            await turns(random.bits(3))
            what = random.bits(4)
            if what == 0:
                mesh.cut(f"n{1 + random.bits(1)}")
            elif what == 1:
                await logs[random.bits(1)].lead()
        await asyncio.gather(*appends)
        found = await everything(logs[2])
        doubts += sum(type(answer) is Indeterminate for answer in outcome.values())

        assert len(set(found)) == len(found)
        for number, answer in outcome.items():
            assert isinstance(answer, Committed | Indeterminate)
            assert number in found or type(answer) is Indeterminate

    for seed in range(20):
        random = SeededRandom(seed)
        lossy = LossyProvider(random)
        run_mesh(partial(scenario, random=random), more=[lossy], default_kind="lossy")
    assert doubts > 20, "hardly anything was in doubt"


def test_a_node_that_knows_better_names_the_one_that_orders_the_log() -> None:
    """Where the chain names somebody else: followed, remembered, no further than three times."""
    asked: list[str] = []

    async def scenario(mesh: Mesh) -> None:
        believed = {"q": "n1", "x": "y", "y": "x"}

        def leader(name: str) -> str | None:
            asked.append(name)
            return believed.get(name)

        for name in ("q", "x", "y"):
            await mesh.node(name, leader=lambda log, name=name: leader(name))
        log = await mesh.led("n1")
        await put(log, 1)
        away = await mesh.log("n2")
        segment = away.chain.tail
        changed = replace_sequencer(away, "q")
        assert await put(away, 2) == [2]
        assert await put(away, 3) == [3]
        assert asked == ["q"]
        # Two that send everybody to each other.
        asked.clear()
        log.resign()
        replace_sequencer(away, "x")
        mesh.nodes[-1].appends.believe(away, "")
        mesh.nodes[-1].appends.options = msgspec.structs.replace(HOPELESS, search=0.5)
        away.refresh = unchanged  # type: ignore[method-assign]
        with pytest.raises(SequencerUnreachableError, match="nothing was written"):
            await away.append([rec(4)])
        assert {"x", "y"} == set(asked)
        assert changed != segment

        assert len(asked) < 400

    async def unchanged() -> bool:
        await turns(1)
        return False

    run_mesh(scenario)


def test_who_puts_in_order_what_another_node_admits_appends_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never_poll(monkeypatch)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2", leader=lambda log: "n1")
        replace_sequencer(away, "n2")
        assert await put(away, 1) == [1]
        # Nobody had to look at the chain for it.
        assert away.chain.tail.params.sequencer == "n2"

        assert await everything(log) == [1]

    run_mesh(scenario)


def replace_sequencer(log: VirtualLog, node: str) -> object:
    """Have a view show another sequencer of the last segment."""
    tail = log.chain.tail
    params = msgspec.structs.replace(tail.params, sequencer=node)
    changed = msgspec.structs.replace(tail, params=params)
    log.chain = msgspec.structs.replace(log.chain, segments=(*log.chain.segments[:-1], changed))
    return changed


@pytest.mark.parametrize("gone", ["resigned", "unreachable", "unknown"])
def test_looking_for_whoever_orders_the_log_ends(gone: str) -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        assert await put(away, 1) == [1]
        mesh.nodes[-1].appends.options = HOPELESS
        if gone == "resigned":
            log.resign()
        elif gone == "unreachable":
            await mesh.nodes[0].close()
        else:
            await mesh.nodes[0].close()
            del mesh.addresses["n1"]
        with pytest.raises(NotSequencerError, match=r"'n1' under epoch 1.*nothing was written"):
            await away.append([rec(2)])
        async with Appender(away, P, loop=mesh.house.loop) as one:
            answer = await one.submit([rec(3)])
        assert isinstance(answer.exception(), NotSequencerError)

        assert await everything(away) == [1]

    run_mesh(scenario)


@pytest.mark.parametrize("knows", [False, True])
def test_a_node_that_ends_refuses_what_would_go_to_others(knows: bool) -> None:
    async def scenario(mesh: Mesh) -> None:
        await mesh.led("n1")
        away = await mesh.log("n2")
        if knows:
            assert await put(away, 1) == [1]
        await mesh.nodes[1].peers.close()
        with pytest.raises(LogClosedError, match="this node ends"):
            await away.append([rec(2)])
        async with Appender(away, P, loop=mesh.house.loop) as one:
            answer = await one.submit([rec(3)])
        assert isinstance(answer.exception(), LogClosedError)
        assert await everything(away) == [1] * knows

    run_mesh(scenario)


def test_another_life_of_the_node_takes_nothing_that_was_meant_for_the_one_before() -> None:
    lossy = LossyProvider(SeededRandom(3), held=True)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        doubtful = asyncio.ensure_future(away.append([rec(1)]))
        while log._sequencer is None or log._sequencer.tail_lsn < 2:
            await turns()
        log.fail(LogClosedError("it crashes"))
        await mesh.nodes[0].close()
        # The chain still names n1, which lives again and orders nothing.
        again = await mesh.log("n1", generation=2)
        asked = asyncio.ensure_future(away.append([rec(2)]))
        assert type(await doubtful) is Indeterminate
        await turns(100)
        assert not asked.done()
        lossy.held = False
        await again.lead()
        assert type(await asked) is Committed
        found = await everything(away)

        assert found.count(2) == 1
        assert found.count(1) <= 1

    run_mesh(scenario, more=[lossy], default_kind="lossy")


def test_a_log_that_is_sealed_as_a_whole_is_told_though_nobody_leads() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        assert await put(away, 1) == [1]
        await log.seal()
        log.resign()
        assert await away.append([rec(2)]) == Sealed(log.chain.tail.index)
        async with Appender(away, P, loop=mesh.house.loop) as one:
            assert await one.append([rec(3)]) == Sealed(log.chain.tail.index)
            await log.lead()
            assert await one.append([rec(4)]) == Committed(2, 2)

        assert await everything(away) == [1, 4]

    run_mesh(scenario)


def test_who_takes_no_appends_itself_does_not_send_them_elsewhere() -> None:
    async def scenario(mesh: Mesh) -> None:
        await mesh.led("n1")
        away = await mesh.log("n2")
        away.fail(LogClosedError("the node stops"))
        with pytest.raises(LogClosedError):
            await away.append([rec(1)])

        assert mesh.nodes[1].logs.find(LOG) is away
        assert mesh.nodes[1].logs.find(LogId(77)) is None

    run_mesh(scenario)


def test_without_a_way_elsewhere_an_append_is_refused_as_ever() -> None:
    async def scenario(mesh: Mesh) -> None:
        await mesh.led("n1")
        away = await mesh.log("n2")
        away.elsewhere = None
        with pytest.raises(NotSequencerError, match="append there, or take the lead"):
            await away.append([rec(1)])

        assert await everything(away) == []

    run_mesh(scenario)
