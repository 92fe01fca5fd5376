"""Replicated loglets when the disk of a log-server is lost for good."""

import asyncio

import pytest

from perdure.core.storage.memory import MemoryStore
from perdure.log.errors import LogClosedError, LogUnavailableError
from perdure.log.replicated.loglet import ReplicatedLoglet
from perdure.log.replicated.provider import Replication

from ..support import numbers, read_all, segment_of
from .support import Cluster
from .test_loglet import filled, has_tail, impatient, run


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


async def lose(cluster: Cluster, *names: str) -> None:
    """Have servers come back with empty disks."""
    for name in names:
        await cluster.stop_server(name)
        cluster.stores[name] = MemoryStore()
        await cluster.restart_server(name)


def test_what_nobody_can_end_is_ended_by_word_and_what_is_left_stays() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2, 2)
        await has_tail(cluster, "s1", segment, 5)
        await cluster.providers["n1"].close()
        await lose(cluster, "s2", "s3")
        reader = cluster.provider("n2").open(segment)
        with impatient(reader), pytest.raises(LogUnavailableError):
            await reader.seal()
        cluster.provider("n2").give_up(segment, ["s2", "s3"])
        await reader.seal()
        assert (await reader.find_tail()).offset == 5
        assert numbers(await read_all(reader)) == [1, 2, 3, 4]
        # Others learn of that end, without a word of their own.
        other = cluster.provider("n3").open(segment)
        assert (await other.find_tail()).sealed
        assert numbers(await read_all(other)) == [1, 2, 3, 4]

    run(story)


def test_all_that_are_left_have_to_take_the_end() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        await filled(cluster.provider("n1").open(segment), 2, 2)
        await cluster.providers["n1"].close()
        await lose(cluster, "s3", "s4", "s5")
        await cluster.stop_server("s2")
        reader = cluster.provider("n2").open(segment)
        cluster.provider("n2").give_up(segment, ["s3", "s4", "s5"])
        with impatient(reader), pytest.raises(LogUnavailableError):
            await reader.seal()
        await cluster.restart_server("s2")
        await reader.seal()
        assert (await reader.find_tail()).offset in (3, 5)

    run(story, ["s1", "s2", "s3", "s4", "s5"], replication=Replication(3))


def test_whoever_ends_it_by_word_comes_to_one_end() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        await filled(cluster.provider("n1").open(segment), 2, 2)
        await cluster.providers["n1"].close()
        await lose(cluster, "s2", "s3")
        for node in ("n2", "n3", "n4"):
            cluster.provider(node).give_up(segment, ["s2", "s3"])
        views = [cluster.provider(node).open(segment) for node in ("n2", "n3", "n4")]
        await asyncio.gather(*(view.seal() for view in views))
        ends = {(await view.find_tail()).offset for view in views}
        assert len(ends) == 1

    run(story)


def test_a_sequencer_does_not_go_on_behind_what_was_given_up() -> None:
    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 2)
        await has_tail(cluster, "s1", segment, 3)
        await cluster.stop_server("s1")
        await filled(loglet, 2)  # Acknowledged by two servers, both of which are lost now.
        assert isinstance(loglet, ReplicatedLoglet)
        loglet._replicator._release()  # Who is left is not to hear of it when it is back.
        await cluster.restart_server("s1")
        await lose(cluster, "s2", "s3")
        cluster.provider("n2").give_up(segment, ["s2", "s3"])
        await cluster.provider("n2").open(segment).seal()

        async def goes_on() -> None:
            while not (await loglet.find_tail()).sealed:
                await asyncio.sleep(0)

        with pytest.raises(LogClosedError, match="were given up"):
            await goes_on()

    run(story)
