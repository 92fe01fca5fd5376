"""Replicated loglets when servers, sequencers and copies fail; and under a virtual log."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from perdure.core.ids import LogId
from perdure.log import Committed, LogEntry, LogReader, Logs
from perdure.log.chain import Segment
from perdure.log.errors import (
    CorruptBatchError,
    LogClosedError,
    LogletLostError,
    LogletSealedError,
    LogUnavailableError,
    NotSequencerError,
    RecordTooLargeError,
)
from perdure.log.loglet import Loglet
from perdure.log.memory.provider import MemoryProvider
from perdure.log.replicated.decision import Decision
from perdure.log.replicated.messages import VALUE_BYTES_MAX
from perdure.log.replicated.provider import Replication
from perdure.log.replicated.view import LogletOptions, LogletView
from perdure.log.types import Record
from perdure.metadata.memory import MemoryMetadataStore

from ..support import Committed as Heard
from ..support import SetClock, group, numbers, read_all, record, segment_of, turns
from .support import QUICK, Cluster

SERVERS = ["s1", "s2", "s3"]
IMPATIENT = LogletOptions(
    unavailable_after=0.05, answer=1.0, retry=(0.001, 0.005), wait=0.2, abandoned_after=0.01
)
PATIENT = msgspec.structs.replace(QUICK, abandoned_after=60.0)


@contextmanager
def impatient(*loglets: Loglet) -> Iterator[None]:
    """Meanwhile, what is unavailable is given up soon; nothing that should work is tried."""
    for loglet in loglets:
        assert isinstance(loglet, LogletView)
        loglet._options = IMPATIENT
    yield
    for loglet in loglets:
        assert isinstance(loglet, LogletView)
        loglet._options = QUICK


async def has_tail(cluster: Cluster, name: str, segment: Segment, tail: int) -> None:
    """Wait until a server has batches up to a tail on its disk."""
    while cluster.servers[name]._loglets[segment.params.loglet].durable[0] < tail:
        await asyncio.sleep(0)


def run(
    story: Callable[[Cluster], Coroutine[Any, Any, None]],
    names: list[str] | None = None,
    **options: Any,
) -> None:
    async def main() -> None:
        cluster = Cluster(names or SERVERS, **options)
        await cluster.started()
        try:
            async with asyncio.timeout(60):
                await story(cluster)
        finally:
            await cluster.close()

    asyncio.run(main())


async def filled(loglet: Loglet, *counts: int) -> Heard:
    heard = Heard(loglet)
    for count in counts:
        first = loglet.enqueue(group(loglet.committed_tail, count))
        await loglet.wait_for_tail(first + count - 1)
    return heard


def tampered(cluster: Cluster, name: str, segment: Segment, last_offset: int) -> None:
    """Flip a bit of one server's copy of a batch."""
    store = cluster.stores[name]
    loglet = segment.params.loglet
    key = b"r" + loglet.to_bytes(8, "big") + last_offset.to_bytes(8, "big")
    value = store.get(key)
    assert value is not None
    store.write([(key, value[:-1] + bytes([value[-1] ^ 1]))])


def test_appends_go_on_without_one_server_and_with_it_again() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2)
        await cluster.stop_server("s1")
        await filled(loglet, 3)
        await cluster.restart_server("s1")
        await cluster.stop_server("s2")
        # What it missed is committed elsewhere: it goes on at the tail.
        await filled(loglet, 1, 2)

        assert numbers(await read_all(loglet)) == [*range(1, 9)]

    run(story)


def test_batches_wait_for_a_write_quorum() -> None:
    async def story(cluster: Cluster) -> None:
        loglet = cluster.provider("n1").open(segment_of(cluster.provider("n1")))
        heard = await filled(loglet, 1)
        await cluster.stop_server("s1")
        await cluster.stop_server("s3")
        loglet.enqueue([record(2)])
        await asyncio.sleep(0.02)
        assert heard.numbers == [1]
        await cluster.restart_server("s3")
        await loglet.wait_for_tail(2)

        assert heard.numbers == [1, 2]

    run(story)


def test_another_node_reads_what_the_sequencer_commits() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        reader = cluster.provider("n2").open(segment)
        waiting = asyncio.create_task(reader.wait_for_tail(2))
        await filled(loglet, 2)

        assert (await waiting).offset == 3
        assert numbers(await read_all(reader)) == [1, 2]
        with pytest.raises(NotSequencerError, match="n1"):
            reader.enqueue([record(3)])

    run(story)


def test_a_tail_is_found_however_busy_the_sequencer_is() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        heard = await filled(loglet, 1)
        reader = cluster.provider("n2").open(segment)
        over = False

        async def append() -> None:
            given = 1
            while not over:
                given += 1
                loglet.enqueue([record(given)])
                await asyncio.sleep(0)

        appending = asyncio.create_task(append())
        last = 1
        for _ in range(20):
            acknowledged = len(heard.numbers)
            tail = await reader.find_tail()
            assert not tail.sealed
            assert tail.offset > acknowledged
            assert tail.offset >= last
            last = tail.offset
        over = True
        await appending

    run(story, options=PATIENT)


def test_dead_sequencer_is_sealed_where_its_batches_end() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        heard = await filled(loglet, 2)
        # One server only gets the next batch, and the sequencer dies.
        await cluster.stop_server("s2")
        await cluster.stop_server("s3")
        loglet.enqueue(group(3, 2))
        await has_tail(cluster, "s1", segment, 5)
        await cluster.providers["n1"].close()
        await cluster.peers[0].close()
        assert heard.numbers == [1, 2]
        await cluster.restart_server("s2")
        reader = cluster.provider("n2").open(segment)
        # Whoever asks for the tail takes it for dead once nothing moves.
        tail = await reader.find_tail()

        assert (tail.offset, tail.sealed) == (5, True)
        assert numbers(await read_all(reader)) == [1, 2, 3, 4]
        await cluster.stop_server("s1")
        await cluster.restart_server("s3")
        other = cluster.provider("n3").open(segment)
        assert await other.find_tail() == tail
        assert numbers(await read_all(other)) == [1, 2, 3, 4]

    run(story)


def test_idle_sequencer_hears_of_a_seal() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2)
        waiting = asyncio.create_task(loglet.wait_for_tail(99))
        await cluster.provider("n2").open(segment).seal()

        state = await waiting
        assert (state.offset, state.sealed) == (3, True)
        with pytest.raises(LogletSealedError):
            loglet.enqueue([record(3)])

    run(story)


def test_sealers_at_once_agree() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        heard = Heard(loglet)
        for number in range(1, 30):
            loglet.enqueue([record(number)])
            await turns(number % 3)
        loglets = [cluster.provider(f"n{item}").open(segment) for item in range(1, 5)]
        await asyncio.gather(*(item.seal() for item in loglets))
        tails = {(await item.find_tail()).offset for item in loglets}

        (tail,) = tails
        assert heard.numbers == list(range(1, tail))
        for item in loglets:
            assert numbers(await read_all(item)) == list(range(1, tail))

    run(story)


def test_an_end_is_kept_by_the_servers_not_by_who_found_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody is told of a decision: whoever comes later has to find it by the ballots alone.
    monkeypatch.setattr(Decision, "_tell", lambda self, final: None)

    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2)
        await cluster.stop_server("s1")
        await cluster.stop_server("s2")
        loglet.enqueue(group(3, 2))
        await has_tail(cluster, "s3", segment, 5)
        await cluster.providers["n1"].close()
        await cluster.peers[0].close()
        await cluster.stop_server("s3")
        await cluster.restart_server("s1")
        await cluster.restart_server("s2")
        first = cluster.provider("n2").open(segment)
        await first.seal()
        assert (await first.find_tail()).offset == 3
        await cluster.stop_server("s1")
        await cluster.restart_server("s3")
        second = cluster.provider("n3").open(segment)
        await second.seal()

        # The server that has two more records was not asked then, and they are not there now.
        assert (await second.find_tail()).offset == 3
        assert numbers(await read_all(second)) == [1, 2]

    run(story)


def test_a_damaged_copy_is_read_elsewhere_and_all_damaged_is_an_error() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2, 1)
        for name in SERVERS:
            await has_tail(cluster, name, segment, 4)
        for name in ("s1", "s2"):
            tampered(cluster, name, segment, 2)
        assert numbers(await read_all(loglet)) == [1, 2, 3]
        tampered(cluster, "s3", segment, 2)
        with impatient(loglet), pytest.raises(CorruptBatchError, match="offset 2"):
            await loglet.read(1, 1)
        assert numbers(await loglet.read(3, 1)) == [3]

    run(story)


def test_too_few_servers_are_told_by_name() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        await filled(cluster.provider("n1").open(segment), 1)
        await cluster.stop_server("s1")
        await cluster.stop_server("s2")
        for node in ("n1", "n2"):
            loglet = cluster.provider(node).open(segment)
            with impatient(loglet):
                with pytest.raises(LogUnavailableError, match=r"s1 .*s3 .connected"):
                    await loglet.find_tail()
                with pytest.raises(LogUnavailableError):
                    await loglet.seal()
        await cluster.restart_server("s2")
        # A seal that was begun goes on by itself.
        for node in ("n1", "n2"):
            tail = await cluster.provider(node).open(segment).find_tail()
            assert (tail.offset, tail.sealed) == (2, True)

    run(story)


def test_later_life_of_the_sequencers_node_only_reads() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        await filled(cluster.provider("n1").open(segment), 2)
        await cluster.providers.pop("n1").close()
        loglet = cluster.provider("n1", 2).open(segment)

        with pytest.raises(NotSequencerError):
            loglet.enqueue([record(3)])
        await loglet.seal()
        assert numbers(await read_all(loglet)) == [1, 2]

    run(story)


def test_records_that_no_message_can_carry_are_refused() -> None:
    async def story(cluster: Cluster) -> None:
        loglet = cluster.provider("n1").open(segment_of(cluster.provider("n1")))
        with pytest.raises(RecordTooLargeError):
            loglet.enqueue([Record(1, bytes(VALUE_BYTES_MAX))])
        await filled(loglet, 1)

    run(story)


def test_zones_are_kept_apart() -> None:
    async def story(cluster: Cluster) -> None:
        for position, name in enumerate(cluster.names):
            entry = cluster.entries[name]
            cluster.entries[name] = type(entry)(name, entry.storage, f"zone {position % 2}")
        loglet = cluster.provider("n1").open(segment_of(cluster.provider("n1")))
        await filled(loglet, 1)
        for name in ("s2", "s4"):
            await cluster.stop_server(name)
        heard = Heard(loglet)
        loglet.enqueue([record(2)])
        await asyncio.sleep(0.02)
        assert heard.numbers == []
        await cluster.restart_server("s4")
        await loglet.wait_for_tail(2)
        assert heard.numbers == [2]

    run(story, [*SERVERS, "s4"], replication=Replication(2, 2))


def test_provider_that_failed_takes_nothing_and_reads_on() -> None:
    async def story(cluster: Cluster) -> None:
        provider = cluster.provider("n1")
        segment = segment_of(provider)
        loglet = provider.open(segment)
        await filled(loglet, 1)
        provider.fail("the disk of this node is full")
        with pytest.raises(LogClosedError, match="full"):
            loglet.enqueue([record(2)])
        with pytest.raises(LogClosedError, match="full"):
            await provider.delete(LogId(0), (segment,), 2)
        with pytest.raises(LogClosedError, match="full"):
            provider.open(segment_of(provider, 2)).enqueue([record(1)])
        assert numbers(await read_all(loglet)) == [1]

    run(story)


def test_segment_without_a_placement_is_lost() -> None:
    async def story(cluster: Cluster) -> None:
        provider = cluster.provider("n1")
        segment = segment_of(provider)
        params = type(segment.params)(segment.params.loglet, 1, 0, "n1")
        with pytest.raises(LogletLostError, match="log-servers"):
            provider.open(Segment(1, 1, "replicated", params))

    run(story)


# Under a virtual log -----------------------------------------------------------------------------


def logs_of(cluster: Cluster, node: str, metadata: MemoryMetadataStore) -> Logs:
    loop = asyncio.get_running_loop()
    return Logs(
        metadata=metadata,
        providers=[
            cluster.provider(node),
            MemoryProvider(loop=loop, clock=SetClock(), node=node),
        ],
        loop=loop,
        default_kind="replicated",
    )


async def bodies(logs: Logs, log: LogId) -> list[int]:
    opened = await logs.open(log)
    tail = await opened.find_tail()
    found: list[int] = []
    async for item in LogReader(opened, 1, to_lsn=tail.lsn - 1):
        assert isinstance(item, LogEntry)
        found.append(int.from_bytes(item.record.body[:8], "big"))
    return found


def test_a_log_is_led_by_one_node_after_the_other_and_read_by_all() -> None:
    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        log = LogId(3)
        nodes = {name: logs_of(cluster, name, metadata) for name in ("n1", "n2", "n3")}
        number = 0
        for turn, name in enumerate(("n1", "n2", "n1")):
            led = await nodes[name].open(log, create=True)
            await led.lead()
            for _ in range(5):
                number += 1
                answer = await led.append([record(number)])
                assert isinstance(answer, Committed)
                assert answer.first_lsn == number
            if turn:
                before = await nodes["n1" if name == "n2" else "n2"].open(log)
                with pytest.raises(NotSequencerError):
                    await before.append([record(999)])

        for logs in nodes.values():
            assert await bodies(logs, log) == list(range(1, number + 1))
        trimmed = await (await nodes["n1"].open(log)).trim(7)
        assert trimmed == 7

    run(story)


def test_a_running_log_moves_between_providers() -> None:
    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        logs = logs_of(cluster, "n1", metadata)
        led = await logs.open(LogId(3), create=True)
        await led.lead(kind="memory")
        appended = 0
        for kind in ("replicated", "memory", "replicated"):
            for _ in range(3):
                appended += 1
                await led.append([record(appended)])
            await led.reconfigure(kind)
            assert led.chain.tail.kind == kind

        assert await bodies(logs, LogId(3)) == list(range(1, appended + 1))

    run(story)


def test_a_node_that_ends_leads_no_log() -> None:
    async def story(cluster: Cluster) -> None:
        logs = logs_of(cluster, "n1", MemoryMetadataStore())
        led = await logs.open(LogId(3), create=True)
        await led.lead()
        provider = cluster.providers["n1"]
        # Made when it was about to end, and got into the chain when it had.
        late = segment_of(provider, 9)
        await provider.close()
        with pytest.raises(LogClosedError, match="shutting down"):
            provider.open(late)
        before = led.chain
        with pytest.raises(LogClosedError, match="shutting down"):
            await led.lead()
        assert led.chain == before

    run(story)


def test_a_log_without_log_servers_says_so() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.entries.clear()
        logs = logs_of(cluster, "n1", MemoryMetadataStore())
        with pytest.raises(LogUnavailableError, match="log-servers"):
            await logs.open(LogId(3), create=True)

    run(story)
