"""Replicated loglets when the disk of a log-server is lost for good."""

import pytest

from perdure.core.storage.memory import MemoryStore
from perdure.log.errors import LogUnavailableError

from ..support import numbers, read_all, segment_of
from .support import Cluster
from .test_loglet import filled, impatient, run


def test_server_with_an_empty_disk_counts_for_nothing() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        await filled(cluster.provider("n1").open(segment), 2, 2)
        await cluster.stop_server("s2")
        cluster.stores["s2"] = MemoryStore()
        await cluster.restart_server("s2")
        await cluster.stop_server("s3")
        reader = cluster.provider("n2").open(segment)
        with impatient(reader), pytest.raises(LogUnavailableError):
            await reader.find_tail()
        await cluster.restart_server("s3")

        assert (await reader.find_tail()).offset == 5
        assert numbers(await read_all(reader)) == [1, 2, 3, 4]
        # New segments use the new disk.
        other = segment_of(cluster.provider("n1"), 2)
        await filled(cluster.provider("n1").open(other), 1)
        assert other.params.placement != segment.params.placement

    run(story)


def test_all_that_are_left_end_what_no_write_quorum_is_left_of() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        await filled(cluster.provider("n1").open(segment), 2, 2)
        await cluster.providers["n1"].close()
        await cluster.stop_server("s2")
        reader = cluster.provider("n2").open(segment)
        with impatient(reader), pytest.raises(LogUnavailableError):
            await reader.seal()
        # Who is only away may come back with what nobody else has; a lost disk does not.
        cluster.stores["s2"] = MemoryStore()
        await cluster.restart_server("s2")
        await reader.seal()
        for node in ("n2", "n3"):
            loglet = cluster.provider(node).open(segment)
            assert (await loglet.find_tail()).offset == 5
            assert numbers(await read_all(loglet)) == [1, 2, 3, 4]

    run(story, ["s1", "s2"])
