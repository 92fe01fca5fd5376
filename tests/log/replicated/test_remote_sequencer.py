"""Loglets whose offsets another node gives out than the one that appends to them."""

import asyncio

import msgspec
import pytest

from perdure.core.ids import LogId
from perdure.log import Committed, Conflict, NotChangedSince
from perdure.log.chain import Segment
from perdure.log.errors import (
    LogClosedError,
    LogletSealedError,
    NotSequencerError,
    UnfitSequencerError,
)
from perdure.log.loglet import SequencerNode
from perdure.log.replicated.loglet import ReplicatedLoglet
from perdure.log.replicated.provider import ReplicatedProvider
from perdure.log.replicated.remote_sequencer import client
from perdure.log.replicated.remote_sequencer.loglet import RemoteLoglet
from perdure.log.replicated.remote_sequencer.messages import Enqueue, Ordered, Refused
from perdure.log.replicated.remote_sequencer.server import SequencerServer, _Written
from perdure.log.types import Record
from perdure.metadata.memory import MemoryMetadataStore

from ..support import Committed as Heard
from ..support import group, numbers, read_all, record, turns
from .support import QUICK, Cluster
from .test_loglet import SERVERS, bodies, logs_of, run

KEY = b"k" * 16


async def opened(cluster: Cluster, at: str = "n2") -> tuple[RemoteLoglet, Segment]:
    """A loglet of n1 that another node orders."""
    await cluster.order_at(at)
    provider = cluster.provider("n1")
    sequencer = await provider.meet(at)
    segment = Segment(1, 1, provider.kind, provider.params(LogId(0), 1, 1, 0, sequencer))
    loglet = provider.open(segment)
    assert isinstance(loglet, RemoteLoglet)
    return loglet, segment


async def sealed_at(loglet: RemoteLoglet) -> int:
    """Where it ends, once somebody has sealed it."""
    while not (state := await loglet.find_tail()).sealed:
        await asyncio.sleep(0)
    return state.offset


def test_a_lost_connection_seals_it_where_the_servers_say() -> None:
    async def story(cluster: Cluster) -> None:
        loglet, _segment = await opened(cluster)
        heard = Heard(loglet)
        loglet.enqueue(group(1, 3))
        await loglet.wait_for_tail(3)
        loglet.enqueue(group(4, 2))
        await turns(2)
        await cluster.listeners.pop("sequencer n2").close(0)

        tail = await sealed_at(loglet)
        assert tail in (4, 6)
        assert heard.numbers == list(range(1, tail)), "all that is in the log was told before"
        with pytest.raises(LogletSealedError):
            loglet.enqueue([record(9)])
        assert numbers(await read_all(loglet)) == heard.numbers

    run(story)


def test_what_was_committed_and_not_told_is_told_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(cluster: Cluster) -> None:
        loglet, segment = await opened(cluster)
        heard = Heard(loglet)
        sealed: list[bool] = []
        loglet.listen(heard, lambda: sealed.append(True))
        monkeypatch.setattr(SequencerServer, "_listener", lambda *_: lambda _batch: None)
        for first in (1, 3, 5):
            loglet.enqueue(group(first, 2))
            reader = cluster.provider("n3").open(segment)
            await reader.wait_for_tail(first)
        assert heard.numbers == []
        loglet.refused("it is silent")

        assert await sealed_at(loglet) == 7
        assert sealed == [True]
        assert heard.numbers == [1, 2, 3, 4, 5, 6]
        assert [batch.first_offset for batch in heard.batches] == [1, 3, 5], "its own borders"

    run(story)


def test_a_silent_sequencer_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(cluster: Cluster) -> None:
        loglet, _segment = await opened(cluster)
        heard = Heard(loglet)
        monkeypatch.setattr(SequencerServer, "_enqueue", lambda *_: None)
        loglet.enqueue(group(1, 2))

        assert await sealed_at(loglet) == 1
        assert heard.numbers == []

    run(story, options=msgspec.structs.replace(QUICK, silent_after=0.01))


def test_another_life_of_the_node_does_not_order_it() -> None:
    async def story(cluster: Cluster) -> None:
        elsewhere = await cluster.order_at("n2")
        provider = cluster.provider("n1")
        await provider.meet("n2")
        old = SequencerNode("n2", 7)
        segment = Segment(1, 1, provider.kind, provider.params(LogId(0), 1, 1, 0, old))
        loglet = provider.open(segment)
        with pytest.raises(LogletSealedError):
            loglet.enqueue([record(1)])
        with pytest.raises(NotSequencerError, match="life 7, and this is n2 in life 1"):
            elsewhere.sequencer_of(segment)
        await loglet.seal()
        assert (await loglet.find_tail()).offset == 1

    run(story)


def test_a_node_that_is_about_to_stop_orders_nothing_more() -> None:
    async def story(cluster: Cluster) -> None:
        elsewhere = await cluster.order_at("n2")
        _loglet, segment = await opened(cluster)
        await elsewhere.close()
        params = msgspec.structs.replace(segment.params, loglet=segment.params.loglet + 1)
        with pytest.raises(LogClosedError, match="shutting down"):
            elsewhere.sequencer_of(msgspec.structs.replace(segment, index=2, params=params))

    run(story)


def test_only_who_was_first_appends() -> None:
    async def story(cluster: Cluster) -> None:
        loglet, segment = await opened(cluster)
        other = cluster.provider("n3")
        await other.meet("n2")
        other._elsewhere[segment.params.loglet] = segment.params
        second = other.open(segment)
        assert isinstance(second, RemoteLoglet)
        heard, unheard = Heard(loglet), Heard(second)
        loglet.enqueue(group(1, 2))
        await loglet.wait_for_tail(2)
        second.enqueue(group(100, 2))

        assert await sealed_at(second) == 3
        assert await sealed_at(loglet) == 3
        assert heard.numbers == [1, 2]
        assert unheard.numbers == [1, 2], "it is told what is in the log, whoever wrote it"

    run(story)


def told_by(
    server: SequencerServer, provider: ReplicatedProvider, segment: Segment
) -> tuple[_Written, list[Ordered | Refused]]:
    """A loglet as if a connection had opened it, and what that connection is told."""
    told: list[Ordered | Refused] = []

    class Told:
        def send(self, item: Ordered | Refused) -> None:
            told.append(item)

    server._open(Told(), segment)  # type: ignore[arg-type]
    return server._written[segment.params.loglet], told


def test_a_loglet_belongs_to_who_opened_it() -> None:
    async def story(cluster: Cluster) -> None:
        provider = cluster.provider("n2")
        segment = Segment(1, 1, provider.kind, provider.params(LogId(0), 1, 1, 0))
        server = SequencerServer(provider, loop=asyncio.get_running_loop())
        written, told = told_by(server, provider, segment)
        still, later = told_by(server, provider, segment)
        assert still is written
        assert told == []
        assert isinstance(later[0], Refused)

    run(story)


@pytest.mark.parametrize("first_offset", [1, 2, 4])
def test_an_offset_that_is_not_the_next_one_is_refused(first_offset: int) -> None:
    async def story(cluster: Cluster) -> None:
        provider = cluster.provider("n2")
        segment = Segment(1, 1, provider.kind, provider.params(LogId(0), 1, 1, 0))
        server = SequencerServer(provider, loop=asyncio.get_running_loop())
        written, told = told_by(server, provider, segment)
        server._enqueue(written, Enqueue(written.loglet.loglet, 1, [group(1, 2)]))
        server._enqueue(written, Enqueue(written.loglet.loglet, first_offset, [group(7, 1)]))
        await written.loglet.wait_for_tail(2)
        await turns(3)

        assert Refused(written.loglet.loglet, "the next offset is 3") in told
        assert written.loglet.next_offset == 3
        assert not server._written

    run(story)


def test_more_than_may_be_under_way_is_refused() -> None:
    async def story(cluster: Cluster) -> None:
        for name in SERVERS[:2]:
            await cluster.stop_server(name)
        provider = cluster.provider("n2")
        segment = Segment(1, 1, provider.kind, provider.params(LogId(0), 1, 1, 0))
        server = SequencerServer(provider, loop=asyncio.get_running_loop())
        server._limits = msgspec.structs.replace(server._limits, bytes_in_flight_max=1000)
        written, told = told_by(server, provider, segment)
        big: list[list[Record]] = [[record(1, 1200)]]
        server._enqueue(written, Enqueue(written.loglet.loglet, 1, big))
        assert told == []
        server._enqueue(written, Enqueue(written.loglet.loglet, 2, [group(2, 1)]))

        assert isinstance(told[0], Refused)
        assert "under way" in told[0].reason

    run(story)


@pytest.mark.parametrize("message", [b"\xc1", msgspec.msgpack.encode([[2, 1, 1, [[]]]])])
def test_what_makes_no_sense_ends_the_connection(message: bytes) -> None:
    async def story(cluster: Cluster) -> None:
        loglet, _segment = await opened(cluster)
        loglet.enqueue(group(1, 1))
        await loglet.wait_for_tail(1)
        loglet._client._peer.send(message)

        assert await sealed_at(loglet) == 2

    run(story)


def test_a_strangers_seal_is_told_at_once() -> None:
    async def story(cluster: Cluster) -> None:
        loglet, segment = await opened(cluster)
        at_home = cluster.provider("n2").open(segment)
        assert isinstance(at_home, ReplicatedLoglet)
        sealed = asyncio.Event()
        loglet.listen(Heard(loglet), sealed.set)
        loglet.enqueue(group(1, 1))
        await loglet.wait_for_tail(1)
        await cluster.provider("n3").open(segment).seal()
        await sealed.wait()

        assert await sealed_at(loglet) == 2
        await at_home.wait_for_tail(5)
        assert (await at_home.find_tail()).sealed

    run(story)


def test_a_segment_of_another_process_is_not_taken_for_one_of_its_own() -> None:
    async def story(cluster: Cluster) -> None:
        _loglet, segment = await opened(cluster)
        provider = cluster.provider("n1")
        sequencer = await provider.meet("n2")
        # It was made, and another process's segment came into the chain in its place.
        provider.params(LogId(0), 2, 2, 0, sequencer)
        params = cluster.provider("n3").params(LogId(0), 2, 3, 0)
        other = msgspec.structs.replace(segment, index=2, params=params)
        assert not isinstance(provider.open(other), RemoteLoglet)

    run(story)


def test_a_log_is_ordered_elsewhere_and_at_home_again() -> None:
    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        logs = logs_of(cluster, "n1", metadata)
        await cluster.order_at("n2")
        log = await logs.open(LogId(0), create=True)
        await log.lead(1)
        assert type(await log.append([record(1)])) is Committed
        segment = await log.reconfigure(sequencer="n2")
        assert segment.params.sequencer == "n2"
        keyed = msgspec.structs.replace(record(2), keys=(KEY,))
        assert await log.append([keyed], conditions=[NotChangedSince(KEY, 1)]) == Committed(2, 2)
        # Admission stays with who leads.
        assert await log.append([keyed], conditions=[NotChangedSince(KEY, 1)]) == Conflict(KEY, 2)
        waiting = asyncio.create_task(log.append([record(3)]))
        await turns(1)
        await cluster.listeners.pop("sequencer n2").close(0)
        answer = await waiting
        # Without a number it is sent again only where it is certain that it is not there.
        assert type(answer) is Committed
        assert type(await log.append([record(4)])) is Committed
        assert log.chain.tail.params.sequencer == "n1"
        assert await bodies(logs_of(cluster, "n3", metadata), LogId(0)) == [1, 2, 3, 4]

    run(story)


def test_a_node_that_cannot_be_reached_leaves_the_log_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MEET_SECONDS", 0.05)

    async def story(cluster: Cluster) -> None:
        log = await logs_of(cluster, "n1", MemoryMetadataStore()).open(LogId(0), create=True)
        await log.lead(1)
        before = log.chain
        with pytest.raises(UnfitSequencerError, match="node n9 cannot order"):
            await log.reconfigure(sequencer="n9")
        assert log.chain is before
        assert type(await log.append([record(1)])) is Committed
        segment = await log.reconfigure(sequencer="n1")
        assert segment.params.sequencer == "n1"

    run(story)


def test_what_is_under_way_goes_before_a_seal_from_here() -> None:
    async def story(cluster: Cluster) -> None:
        loglet, _segment = await opened(cluster)
        heard = Heard(loglet)
        for first in range(1, 40, 2):
            loglet.enqueue(group(first, 2))
            await turns(1)
        await loglet.seal()

        assert (await loglet.find_tail()).offset == 41
        assert heard.numbers == list(range(1, 41))

    run(story)
