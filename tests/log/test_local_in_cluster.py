"""A segment on one node's disk is nobody else's: on another disk it is refused, not found empty."""

import asyncio

import pytest

from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.log import Committed, Record
from perdure.log.chain import Segment
from perdure.log.errors import LogletLostError
from perdure.log.local.provider import KIND
from perdure.log.logs import Logs
from perdure.log.placement import Replica
from perdure.metadata.memory import MemoryMetadataStore

from .support import LogOnStore, segment_of

OWN = Replica("n1", "disk-1")
OTHERS = [Replica("n2", "disk-2"), Replica("n1", "disk-3"), Replica("n2", "disk-1")]


def logs_of(metadata: MemoryMetadataStore, disk: Replica) -> Logs:
    """The logs of a node that shares the metadata with others, on an empty disk."""
    provider = LogOnStore(MemoryStore(), disk=disk).provider
    loop = asyncio.get_running_loop()
    return Logs(metadata=metadata, providers=[provider], loop=loop, default_kind=KIND)


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_whoever_has_another_disk_can_neither_read_nor_take_the_log(other: Replica) -> None:
    async def story() -> None:
        metadata = MemoryMetadataStore()
        log = await logs_of(metadata, OWN).open(LogId(0), create=True)
        await log.lead()
        assert isinstance(await log.append([Record(1, b"a")]), Committed)

        there = await logs_of(metadata, other).open(LogId(0))
        with pytest.raises(LogletLostError, match="'disk-1' of node n1 alone"):
            await there.lead()
        with pytest.raises(LogletLostError):
            await there.find_tail()
        with pytest.raises(LogletLostError):
            await there.read(1)

        # Nothing was sealed or replaced: it goes on where it is.
        assert isinstance(await log.append([Record(1, b"b")]), Committed)
        await log.refresh()
        assert log.chain.tail.index == log.open_segment
        assert [len(item.batch.records) for item in await log.read(1)] == [1, 1]

    asyncio.run(story())


def test_a_segment_that_names_no_disk_is_not_of_this_cluster() -> None:
    async def story() -> None:
        alone = LogOnStore(MemoryStore()).provider
        segment: Segment = segment_of(alone)
        alone.open(segment)
        with pytest.raises(LogletLostError, match="of no name"):
            LogOnStore(MemoryStore(), disk=OWN).provider.open(segment)

    asyncio.run(story())
