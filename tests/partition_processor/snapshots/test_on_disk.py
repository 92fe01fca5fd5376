"""Snapshots of RocksDB in directories of the system, threads and all."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from perdure.core.storage.files import SystemFiles
from perdure.core.storage.kv import KvStore
from perdure.core.storage.rocks import RocksStore
from perdure.ingress.requests import Completed
from perdure.partition_processor.snapshots import writer
from perdure.partition_processor.snapshots.writer import SnapshotWriter
from perdure.partition_processor.tables import keys
from perdure.sdk import app
from perdure.testing import InProcessNode

from .machine import counter, digest, first, snapshot

VALUE = b"v" * 200


def node_in(directory: Path, store: str = "store") -> InProcessNode:
    """A node with one partition, all of it on disk."""
    stores: dict[str, KvStore] = {
        name: RocksStore.open(directory / folder)
        for name, folder in (("metadata", "metadata"), ("log", "log"), ("store", store))
    }
    options = [
        "partitions.count=1",
        f"snapshots.directory={directory / 'mounted' / 'snapshots'}",
        "snapshots.interval=0s",
    ]
    return InProcessNode(options=options, stores=stores)


def filled(store: KvStore, rows: int) -> None:
    """State that is not worth a call each."""
    for start in range(0, rows, 1000):
        store.write(
            [
                (keys.STATE + bytes(8) + b"%07d" % number, VALUE)
                for number in range(start, min(rows, start + 1000))
            ]
        )


def content(store: KvStore) -> dict[bytes, bytes]:
    """All rows but the progress."""
    return {key: value for key, value in store.scan(b"", b"\xff") if key[:1] != keys.PROGRESS}


def test_a_node_serves_while_its_snapshot_is_taken_and_is_built_anew_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FILE_BYTES", 200_000)
    served = threading.Event()
    step = SnapshotWriter.step

    def step_once_served(taking: SnapshotWriter) -> bool:
        served.wait()
        return step(taking)

    monkeypatch.setattr(SnapshotWriter, "step", step_once_served)

    async def scenario() -> None:
        async with node_in(tmp_path) as node:
            filled(node.stores["store"], 6000)
            await node.add_worker(app([counter]))
            task = asyncio.ensure_future(node.engine.snapshots.create(first(node)))
            calls = 0
            while not task.done():
                assert isinstance(await node.call("Counter", "add", b"1", key="k"), Completed)
                calls += 1
                if calls == 4:
                    served.set()
            manifest, created = task.result()
            assert created
            assert calls >= 4
            assert manifest.lsn < first(node).written_lsn
            before, rows = digest(node), content(node.stores["store"])
            assert len(rows) > 6000
        shutil.rmtree(tmp_path / "store")
        async with node_in(tmp_path) as node:
            assert digest(node) == before
            assert content(node.stores["store"]) == rows
            assert first(node).leading
        names = [path.name for path in (tmp_path / "mounted").rglob("*")]
        assert not [name for name in names if name.endswith("partial")]

    asyncio.run(scenario())


def test_a_store_is_closed_below_a_snapshot_and_opens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, given_up = threading.Event(), threading.Event()
    step, abandon = SnapshotWriter.step, SnapshotWriter.abandon

    def one_step(taking: SnapshotWriter) -> bool:
        if begun.is_set():
            given_up.wait()
        done = step(taking)
        begun.set()
        return done

    def tell(taking: SnapshotWriter) -> None:
        abandon(taking)
        given_up.set()

    monkeypatch.setattr(SnapshotWriter, "step", one_step)
    monkeypatch.setattr(SnapshotWriter, "abandon", tell)

    async def scenario() -> None:
        async with node_in(tmp_path) as node:
            filled(node.stores["store"], 20_000)
            await node.add_worker(app([counter]))
            await node.call("Counter", "add", b"1", key="k")
            task = asyncio.ensure_future(node.engine.snapshots.create(first(node)))
            await asyncio.to_thread(begun.wait)
            assert list((tmp_path / "mounted").rglob("rows-1*"))
        await asyncio.gather(task, return_exceptions=True)
        # A live iterator would keep the lock on the directory.
        async with node_in(tmp_path) as node:
            assert await node.engine.snapshots.list_complete([0]) == ([], [])
            manifest = await snapshot(node)
            assert manifest.rows > 20_000

    asyncio.run(scenario())


def test_a_bit_that_flips_in_a_file_is_found_at_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node_in(tmp_path) as node:
            await node.add_worker(app([counter]))
            await node.call("Counter", "add", b"1", key="k")
            manifest = await snapshot(node)
            await node.call("Counter", "add", b"1", key="k")
            before = digest(node)
        (path,) = (tmp_path / "mounted").rglob("rows-1")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        shutil.rmtree(tmp_path / "store")
        async with node_in(tmp_path) as node:
            # The log has it all.
            assert digest(node) == before
            assert node.engine.snapshots.last(0) is None, manifest.name

    asyncio.run(scenario())


def test_a_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Exception, match=str(tmp_path / "file")):
        SystemFiles().make_directory(str(tmp_path / "file" / "inner"))
