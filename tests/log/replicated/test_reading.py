"""Reading a replicated log where servers and readers know less than there is."""

import pytest

from perdure.core.ids import LogId
from perdure.log import Committed
from perdure.log.errors import TrimmedError
from perdure.metadata.memory import MemoryMetadataStore

from ..support import numbers, record, segment_of
from .support import Cluster
from .test_loglet import filled, has_tail, logs_of, run


def test_who_has_a_batch_hears_from_another_that_it_is_committed() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2)
        await cluster.stop_server("s2")
        await filled(loglet, 1)
        await has_tail(cluster, "s1", segment, 4)
        await cluster.providers["n1"].close()
        # s1 has the third record and forgets that it is committed; s2 knows it, and has not got it.
        await cluster.stop_server("s3")
        await cluster.stop_server("s1")
        await cluster.restart_server("s1")
        await cluster.restart_server("s2")
        # A node asks its own server first, and so always the one that cannot give it.
        reader = cluster.provider("s2").open(segment)
        cluster.servers["s2"]._find(cluster.servers["s2"].storage, segment.params.loglet)
        cluster.servers["s2"]._loglets[segment.params.loglet].known_tail = 4
        await reader.find_tail()
        # Connected, it is as one that has read what comes before.
        reader._committed_tail = 3

        assert numbers(await reader.read(3)) == [3]

    run(story)


def test_a_trim_tells_that_the_chain_was_changed() -> None:
    async def story(cluster: Cluster) -> None:
        metadata = MemoryMetadataStore()
        log = LogId(3)
        led = await logs_of(cluster, "n1", metadata).open(log, create=True)
        await led.lead()
        for number in range(1, 4):
            assert isinstance(await led.append([record(number)]), Committed)
        await led.reconfigure()
        for number in range(4, 8):
            assert isinstance(await led.append([record(number)]), Committed)
        seen = await logs_of(cluster, "n2", metadata).open(log)
        assert seen.chain.first_lsn == 1
        await led.trim(5)

        with pytest.raises(TrimmedError):
            await seen.read(4)
        # Whoever goes by it afterwards must not take the log for whole.
        assert seen.chain.first_lsn == 4
        assert seen.trim_point_lsn == 5

    run(story)
