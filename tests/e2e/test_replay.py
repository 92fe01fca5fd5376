"""The log of each partition, applied to an empty store, gives the node's own store again."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from perdure.core.ids import LogId
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.log import Logs, open_logs
from perdure.partition_processor.machine import Machine
from perdure.partition_processor.manager import partition_range
from perdure.partition_processor.tables import keys
from perdure.partition_processor.tables.progress import (
    Progress,
    decode_progress,
    encode_progress,
)
from perdure.partition_processor.transaction import Transaction

from .cluster import Cluster
from .load import Accounts, Load, check_all, check_counts
from .test_sigkill import chosen_seed

PARTITIONS = 8
KILLS = 2


def progress_row(partition: int) -> bytes:
    """The key of a partition's progress: the first partition key of its range."""
    return keys.PROGRESS + keys.PARTITION_KEY.pack(-(-(partition << 64) // PARTITIONS))


async def replay(logs: Logs, partition: int, store: MemoryStore, last_lsn: int) -> Progress:
    """Apply a partition's log up to `last_lsn` to `store`, batch by batch, and give the progress.

    Raises AssertionError when the log ends before.
    """
    log = await logs.open(LogId(partition))
    transaction = Transaction(store)
    machine = Machine(transaction, Progress(), partition_range(partition, PARTITIONS))
    while (progress := machine.progress()).applied_lsn < last_lsn:
        batches = await log.read(progress.applied_lsn + 1)
        assert batches, f"the log of partition {partition} ends at {progress.applied_lsn}"
        for item in batches:
            if item.first_lsn > last_lsn:
                break
            machine.apply_batch(item.batch, item.base_lsn)
            operations = transaction.take()
            operations.append((progress_row(partition), encode_progress(machine.progress())))
            store.write(operations)
            machine.take_effects()
    return progress


def make_history(cluster: Cluster, seed: int) -> Accounts:
    """Load with kills of both processes in between, so that attempts fail and start again."""
    random = SeededRandom(seed)
    cluster.start("--set", f"partitions.count={PARTITIONS}")
    with Load(cluster, seed) as load:
        for _ in range(KILLS):
            time.sleep(0.1 + random.fraction() * 0.3)
            cluster.workers["worker"].kill()
            cluster.start_worker()
            time.sleep(random.fraction() * 0.3)
            assert cluster.node is not None
            cluster.node.kill()
            load.wait_for_acks(cluster.spawn_node().started)
    check_counts(cluster, load.accounts)
    return load.accounts


@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_the_log_gives_the_store_again(tmp_path: Path, ending: str) -> None:
    """Digest and every row, of a node that was stopped in order and of one that was killed."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    with Cluster(tmp_path) as cluster:
        make_history(cluster, seed)
        assert cluster.node is not None
        if ending == "stopped":
            # What was given up may still run, and would write between the digests and the stop.
            cluster.wait_for_quiet()
            digests = [cluster.admin(f"/partitions/{n}")["digest"] for n in range(PARTITIONS)]
            assert cluster.node.stop() == 0
        else:
            digests = []
            cluster.node.kill()
        copy = tmp_path / "copy"
        shutil.copytree(cluster.base_dir, copy)
        node_store = RocksStore.open(copy / "store")
        try:
            asyncio.run(_compare(node_store, copy, digests))
        finally:
            node_store.close()


def test_a_lost_partition_store_comes_back_from_the_log(tmp_path: Path) -> None:
    """The node itself replays: without its partition store it has everything that was acked."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    with Cluster(tmp_path) as cluster:
        accounts = make_history(cluster, seed)
        cluster.wait_for_quiet()
        assert cluster.node is not None
        counts = [row["invocations"] for row in cluster.partitions()]
        assert cluster.node.stop() == 0
        shutil.rmtree(cluster.base_dir / "store")
        cluster.start_node()
        assert [row["invocations"] for row in cluster.partitions()] == counts
        check_all(cluster, accounts)


async def _compare(node_store: RocksStore, base_dir: Path, digests: list[str]) -> None:
    """Replay every partition; its digest, progress and rows must be those of `node_store`."""
    replayed = MemoryStore()
    records = 0
    async with open_logs(base_dir) as logs:
        for partition in range(PARTITIONS):
            row = node_store.get(progress_row(partition))
            assert row is not None, f"partition {partition} has no progress"
            stored = decode_progress(row)
            progress = await replay(logs, partition, replayed, stored.applied_lsn)
            records += progress.applied_lsn
            assert progress.digest == stored.digest, f"digest of partition {partition}"
            assert progress == stored, f"progress of partition {partition}"
            if digests:
                assert progress.digest.hex() == digests[partition]
                log = await logs.open(LogId(partition))
                assert (await log.find_tail()).lsn == stored.applied_lsn + 1
    rows = dict(node_store.scan(b"", b"\xff"))
    assert dict(replayed.scan(b"", b"\xff")) == rows
    assert {key[:1] for key in rows} >= {keys.INVOCATIONS, keys.STATE, keys.PROGRESS}
    print(f"{records} records, {len(rows)} rows")
    replayed.close()
