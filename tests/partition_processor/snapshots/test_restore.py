"""A node that starts: its partitions are restored from snapshots, replayed, or parked."""

from typing import Any

import msgspec
import pytest

from perdure.core.errors import PerdureError, StorageError
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.partition_processor.context import WHOLE
from perdure.partition_processor.snapshots.archive import Archive
from perdure.partition_processor.snapshots.errors import (
    ForeignSnapshotError,
)
from perdure.partition_processor.snapshots.manifest import Manifest
from perdure.partition_processor.snapshots.restore import Situation, StoreRestore
from perdure.partition_processor.tables import keys
from perdure.testing import InProcessNode

from .lab import PLACE
from .machine import (
    ONE,
    OPTIONS,
    TAKES,
    TRIMS,
    Machine,
    busy,
    digest,
    first,
    grown,
    run,
    snapshot,
    trimmed,
    until_durable,
)


def test_a_wiped_store_is_built_from_the_snapshot_and_the_log_behind_it() -> None:
    async def scenario(machine: Machine) -> None:
        manifest, before = await grown(machine)
        rows = machine.rows()
        machine.wipe()
        async with machine.node(ONE, *TAKES) as node:
            assert first(node).leading
            assert digest(node) == before
            assert node.engine.snapshots.last(0) == manifest
            await busy(node, 1)
            completed = await node.call("Counter", "add", b"0", key="k")
            assert completed.value == b"28"
        # The node after it finds everything in its store.
        assert rows.keys() <= machine.rows().keys()
        machine.files.fail_at(0)
        async with machine.node(ONE, *TAKES) as node:
            assert first(node).leading

    run(scenario)


def test_a_wiped_store_has_the_rows_of_the_original() -> None:
    async def scenario(machine: Machine) -> None:
        _, before = await grown(machine)
        rows = machine.rows()
        machine.wipe()
        async with machine.node(ONE, *TAKES) as node:
            assert digest(node) == before
        assert machine.rows() == rows

    run(scenario)


def test_several_partitions_are_restored_each_from_its_own() -> None:
    async def scenario(machine: Machine) -> None:
        count = "partitions.count=3"
        async with machine.node(count, TRIMS, *TAKES) as node:
            for key in "abcdefgh":
                await busy(node, 3, key)
            for partition in range(3):
                manifest = await snapshot(node, partition)
                await trimmed(node, manifest.lsn, partition)
            before = [digest(node, partition) for partition in range(3)]
        rows = machine.rows()
        machine.wipe()
        async with machine.node(count, *TAKES) as node:
            assert [digest(node, partition) for partition in range(3)] == before
        assert machine.rows() == rows

    run(scenario)


def test_a_crash_at_any_write_of_a_restore_starts_it_again() -> None:
    async def scenario(machine: Machine) -> None:
        _, before = await grown(machine)
        rows = machine.rows()
        after = machine.stores
        where = 0
        while True:
            for survivor in (0, SeededRandom(where)):
                machine.stores = {name: store.reopen() for name, store in after.items()}
                # An older state of the store, which is to go: it does not reach the log.
                store = MemoryStore({keys.STATE + bytes(8) + b"old": b"1"})
                store.fail_after(where)
                machine.stores["store"] = store
                failed = await failed_start(machine, store)
                machine.stores["store"] = store.crash(survivor)
                async with machine.node(ONE, *TAKES) as node:
                    assert digest(node) == before
                assert machine.rows() == rows
            if not failed:
                break
            where += 1
        assert where >= 4

    async def failed_start(machine: Machine, store: MemoryStore) -> bool:
        """Start on this very store, which fails at its time; whether the start failed."""
        stores = {**machine.stores, "store": store}
        node = InProcessNode(
            options=[*OPTIONS, ONE, *TAKES],
            stores=dict(stores),
            files=machine.files,
            clock=machine.clock,
        )
        try:
            async with node:
                return bool(node.failures)
        except StorageError:
            node.engine.stop(PerdureError("the test ends"))
            return True
        finally:
            machine.stores["log"] = machine.stores["log"].reopen()
            machine.stores["metadata"] = machine.stores["metadata"].reopen()

    run(scenario)


def test_a_restore_reads_nothing_that_its_checksum_does_not_vouch_for() -> None:
    async def scenario(machine: Machine) -> None:
        manifest, _ = await grown(machine)
        path = f"{PLACE}/partition-0/{manifest.name}/rows-1"
        mark = f"{PLACE}/partition-0/{manifest.name}/damaged"
        for place in (3, 4, 20, manifest.files[0].bytes - 1):
            machine.files.damage(path, place)
            machine.wipe()
            async with machine.node(ONE, *TAKES) as node:
                error = first(node).error
                assert first(node).role == "stopped"
                assert "PD0924" in error
                assert path in error
                assert f"its metadata says {manifest.files[0].checksum}" in error
            machine.files.damage(path, place)
            machine.files.remove(mark)
        machine.files.cut(path, 100)
        async with machine.node(ONE, *TAKES) as node:
            assert "it was cut off" in first(node).error
        # What was found once is said again without a look.
        async with machine.node(ONE, *TAKES) as node:
            assert "it was cut off" in first(node).error
            assert f"remove {mark}" in first(node).error
        machine.files.remove(mark)
        machine.files.remove(path)
        async with machine.node(ONE, *TAKES) as node:
            assert "is not there" in first(node).error

    run(scenario)


def test_damage_between_the_two_readings_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(machine: Machine) -> None:
        manifest, _ = await grown(machine)
        path = f"{PLACE}/partition-0/{manifest.name}/rows-1"
        begin = StoreRestore.begin

        def damaged(self: StoreRestore, name: str) -> None:
            machine.files.damage(path, manifest.files[0].bytes - 1)
            begin(self, name)

        machine.wipe()
        with monkeypatch.context() as patch:
            patch.setattr(StoreRestore, "begin", damaged)
            async with machine.node(ONE, *TAKES) as node:
                assert "has checksum" in first(node).error
        machine.files.damage(path, manifest.files[0].bytes - 1)
        machine.files.remove(f"{PLACE}/partition-0/{manifest.name}/damaged")
        async with machine.node(ONE, *TAKES) as node:
            assert first(node).leading

    run(scenario)


def test_an_older_snapshot_is_used_while_the_log_reaches_back_to_it() -> None:
    async def scenario(machine: Machine) -> None:
        older, _ = await grown(machine)
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 5)
            newer = await snapshot(node)
            await busy(node, 5)
            before = digest(node)
        backup = {name: store.reopen() for name, store in machine.stores.items()}
        path = f"{PLACE}/partition-0/{newer.name}/rows-1"
        machine.files.damage(path, 30)
        machine.wipe()
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            assert older.lsn < newer.lsn
            assert digest(node) == before
            # The damaged one counts for nothing any more: the log stays as far as it is needed.
            assert node.engine.snapshots.archived_lsn(0) == older.lsn
            await until_durable(node)
            found, problems = await node.engine.snapshots.list_complete([0])
            assert found == [older]
            assert path in str(problems[0])
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            await until_durable(node)
            assert node.engine.snapshots.archived_lsn(0) == 0
            log = first(node).log
            assert log is not None
            assert log.trim_point_lsn == older.lsn
        machine.wipe()
        async with machine.node(ONE, *TAKES) as node:
            assert digest(node) == before
            third = await snapshot(node)
            assert node.engine.snapshots.archived_lsn(0) == third.lsn

        # Had the log been trimmed up to the damaged one, nothing would lead to its end.
        machine.stores = backup
        machine.files.remove(f"{PLACE}/partition-0/{newer.name}/damaged")
        machine.files.remove(f"{PLACE}/partition-0/{third.name}/metadata")
        machine.files.remove(f"{PLACE}/partition-0/latest")
        async with machine.node(ONE, *TAKES) as node:
            log = first(node).log
            assert log is not None
            await log.trim(newer.lsn)
        machine.wipe()
        async with machine.node(ONE, *TAKES) as node:
            assert first(node).role == "stopped"
            assert path in first(node).error
            assert f"{older.name} is too old" in first(node).error

    run(scenario)


def test_a_newer_snapshot_is_looked_for_when_those_found_are_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(machine: Machine) -> None:
        older, _ = await grown(machine)
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 5)
            newer = await snapshot(node)
            before = digest(node)
            log = first(node).log
            assert log is not None
            await log.trim(newer.lsn)
        machine.wipe()
        complete = Archive.complete
        looks: list[int] = []

        def taken_meanwhile(self: Archive, partition: int) -> tuple[list[Manifest], list[Any]]:
            looks.append(partition)
            if len(looks) > 1:
                return complete(self, partition)
            machine.files.remove(f"{PLACE}/partition-0/{older.name}/rows-1")
            return [older], []

        monkeypatch.setattr(Archive, "complete", taken_meanwhile)
        async with machine.node(ONE, *TAKES) as node:
            assert first(node).leading, first(node).error
            assert digest(node) == before
        assert looks == [0, 0]

    run(scenario)


def test_a_new_store_takes_the_whole_log_when_there_is_no_snapshot() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 5)
            before = digest(node)
        machine.wipe()
        async with machine.node(ONE, *TAKES) as node:
            assert digest(node) == before
        # Neither does a damaged one matter then, nor a restore that was begun.
        async with machine.node(ONE, *TAKES) as node:
            manifest = await snapshot(node)
        machine.files.damage(f"{PLACE}/partition-0/{manifest.name}/rows-1")
        for options in (TAKES, ()):
            mark = keys.RESTORING + bytes(8)
            left = keys.STATE + bytes(8) + b"left"
            machine.stores["store"] = MemoryStore({mark: b"x", left: b"1"})
            async with machine.node(ONE, *options) as node:
                assert digest(node) == before
            assert left not in machine.rows()
            assert mark not in machine.rows()

    run(scenario)


def test_a_partition_without_log_and_snapshot_stops_alone_and_says_what_to_do() -> None:
    async def scenario(machine: Machine) -> None:
        count = "partitions.count=2"
        async with machine.node(count, TRIMS) as node:
            for key in "abcdefgh":
                await busy(node, 3, key)
            lost, kept = node.engine.manager.processors
            await trimmed(node, lost.written_lsn, 0)
            before = digest(node, 1)
            span = (lost.own.first, lost.own.last)
        store = machine.stores["store"].reopen()
        for table in (*keys.TABLES, keys.PROGRESS):
            store.delete_range(table + span[0], keys.prefix_end(table + span[1]))
        for options, said in (
            ((), "no place for snapshots is set"),
            (TAKES, f"there is none in {PLACE}"),
        ):
            machine.stores["store"] = store.reopen()
            async with machine.node(count, *options) as node:
                lost, kept = node.engine.manager.processors
                assert (lost.role, kept.role) == ("stopped", "leader")
                assert "PD0924" in lost.error
                assert said in lost.error
                assert "snapshots.directory" in lost.error
                assert digest(node, 1) == before
                with pytest.raises(PerdureError):
                    await node.engine.snapshots.create(lost)
                assert not node.failures

    run(scenario)


def test_a_log_that_is_older_than_its_snapshots_stops_its_partition() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 3)
        backup = {name: store.reopen() for name, store in machine.stores.items()}
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 5)
            manifest = await snapshot(node)
        machine.stores = backup
        async with machine.node(ONE, *TAKES) as node:
            assert "PD0927" in first(node).error
            assert manifest.name in first(node).error
            assert not node.failures

    run(scenario)


def test_a_directory_of_another_cluster_stops_the_start() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 1)
            await snapshot(node)
        stranger = Machine()
        stranger.files = machine.files
        with pytest.raises(ForeignSnapshotError, match=r"set snapshots\.directory"):
            async with stranger.node(ONE, *TAKES):
                pass

    run(scenario)


def test_a_directory_that_cannot_be_reached_stops_nobody_who_does_not_need_it() -> None:
    async def scenario(machine: Machine) -> None:
        manifest, before = await grown(machine)
        machine.files.fail_at(0)
        machine.files._poison = "Input/output error"
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            assert digest(node) == before
            await busy(node, 20)
            with pytest.raises(PerdureError) as refused:
                await node.engine.snapshots.create(first(node))
            assert refused.value.code == "PD0921"
            assert node.engine.snapshots.failures == 1
            # Nothing is known of the archive, so nothing is trimmed.
            assert node.engine.snapshots.archived_lsn(0) == 0
            log = first(node).log
            assert log is not None
            assert log.trim_point_lsn == manifest.lsn
        machine.wipe()
        async with machine.node(ONE, *TAKES) as node:
            assert "Input/output error" in first(node).error

    run(scenario)


def test_a_restore_begins_and_ends_with_mark_and_progress_in_one_write() -> None:
    writes: list[list[tuple[bytes, bytes | None]]] = []

    class NotingStore(MemoryStore):
        def write(self, operations: list[tuple[bytes, bytes | None]]) -> None:
            writes.append(operations)
            super().write(operations)

    progress, mark = keys.PROGRESS + bytes(8), keys.RESTORING + bytes(8)
    old = keys.STATE + bytes(8) + b"old"
    aside = keys.ASIDE + bytes(8)
    store = NotingStore({progress: b"before", old: b"1", aside: b"as it differed"})
    restore = StoreRestore(store, WHOLE)
    restore.begin("name")
    assert restore.interrupted
    assert dict(store.scan(b"", b"\xff")) == {mark: b"name", aside: b"as it differed"}
    restore.add([(old, b"2")])
    restore.finish(b"after")

    assert not restore.interrupted
    assert dict(store.scan(b"", b"\xff")) == {progress: b"after", old: b"2"}
    assert [{key for key, _ in write} for write in writes] == [
        {mark, progress},
        {old},
        {mark, progress, aside},
    ]


def test_a_store_that_says_it_is_being_restored_is_never_taken_as_it_is() -> None:
    situation = Situation(0, 1, applied_lsn=5, interrupted=True, trim_point_lsn=3, tail_lsn=9)

    assert not situation.complete
    assert msgspec.structs.replace(situation, interrupted=False).complete
