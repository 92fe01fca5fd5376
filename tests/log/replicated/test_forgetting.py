"""What nodes remember of segments that others have trimmed."""

import asyncio

from perdure.core.ids import LogId
from perdure.log import Committed, LogEntry, LogReader, Logs
from perdure.log.errors import LogletLostError, LogletSealedError
from perdure.log.replicated.loglet import ReplicatedLoglet
from perdure.log.virtual_log import VirtualLog
from perdure.metadata.memory import MemoryMetadataStore

from ..support import record
from .support import Cluster
from .test_loglet import logs_of, run

LOG = LogId(3)


async def written(led: VirtualLog, *numbers: int) -> None:
    for number in numbers:
        assert isinstance(await led.append([record(number)]), Committed)


async def read_through(logs: Logs) -> None:
    """Read all that there is, as a follower does that has read the rest before."""
    log = await logs.open(LOG)
    tail = await log.find_tail()
    async for item in LogReader(log, log.chain.first_lsn, to_lsn=tail.lsn - 1):
        assert isinstance(item, LogEntry)


def test_a_follower_forgets_what_the_leader_has_trimmed() -> None:
    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        led = await logs_of(cluster, "n1", metadata).open(LOG, create=True)
        await led.lead()
        follower = logs_of(cluster, "n2", metadata)
        remembered: list[int] = []
        for turn in range(12):
            await written(led, turn)
            await read_through(follower)
            remembered.append(len(cluster.provider("n2")._open))
            await led.reconfigure()
            await led.trim((await led.find_tail()).lsn - 1)
        assert max(remembered) <= 3, remembered

    run(story)


def test_who_waits_at_a_segment_that_goes_is_woken() -> None:
    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        led = await logs_of(cluster, "n1", metadata).open(LOG, create=True)
        await led.lead()
        await written(led, 1)
        seen = await logs_of(cluster, "n2", metadata).open(LOG)
        old = seen.chain.tail
        loglet = cluster.provider("n2").open(old)
        waiting = asyncio.ensure_future(loglet.wait_for_tail(7))
        await written(led, 2)
        await led.reconfigure()
        await led.trim(2)
        await seen.refresh()
        state = await waiting
        assert state.sealed
        assert loglet.trim_point == state.offset - 1
        try:
            cluster.provider("n2").open(old)
        except LogletLostError:
            pass
        else:
            raise AssertionError("it was opened again")

    run(story)


def test_a_leader_that_was_replaced_hears_of_its_records_first() -> None:
    """Its segment has been sealed and trimmed elsewhere before it has heard of any of that."""

    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        mine = await logs_of(cluster, "n1", metadata).open(LOG, create=True)
        await mine.lead()
        await written(mine, 1)
        provider, old = cluster.provider("n1"), mine.chain.tail
        loglet = provider.open(old)
        assert isinstance(loglet, ReplicatedLoglet)
        provider.forget(LOG, old.index + 1)
        assert provider.open(old) is loglet
        await written(mine, 2)
        await loglet.seal()
        provider.forget(LOG, old.index + 1)
        assert old.params.loglet not in provider._open
        try:
            loglet.enqueue([record(3)])
        except LogletSealedError:
            pass
        else:
            raise AssertionError("a sealed loglet has taken a record")

    run(story)


def test_a_node_that_leads_again_and_again_keeps_little() -> None:
    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        logs = {name: logs_of(cluster, name, metadata) for name in ("n1", "n2")}
        for turn in range(6):
            for name in logs:
                led = await logs[name].open(LOG, create=True)
                await led.lead()
                await written(led, turn)
                await led.trim((await led.find_tail()).lsn - 1)
                assert len(cluster.provider(name)._open) <= 4

    run(story)
