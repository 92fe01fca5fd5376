"""A node under load that loses its partition store, killed with no warning, again and again."""

import json
import shutil
import time
from pathlib import Path

from perdure.core.random import SeededRandom
from perdure.partition_processor.log_trimmer import LogTrimmer

from .cluster import Cluster
from .load import Load, check_all
from .processes import run_perdure, wait_until
from .test_sigkill import chosen_seed

LOSSES = 3
LOAD_SECONDS_MAX = 0.6


def options(directory: Path) -> tuple[str, ...]:
    """Snapshots and trims as often as can be."""
    settings = (
        f"snapshots.directory={directory / 'snapshots'}",
        "snapshots.interval_records=50",
        "log.trim_interval=100ms",
        "log.keep_records=0",
    )
    return tuple(part for setting in settings for part in ("--set", setting))


def test_stores_are_lost_under_load(tmp_path: Path) -> None:
    """Each acked add is counted once, each other at most once, from snapshots and logs alone."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    random = SeededRandom(seed)
    settings = options(tmp_path)
    with Cluster(tmp_path) as cluster:
        cluster.start(*settings)
        with Load(cluster, seed) as load:
            for _ in range(LOSSES):
                time.sleep(random.fraction() * LOAD_SECONDS_MAX)
                assert cluster.node is not None
                cluster.node.kill()
                shutil.rmtree(cluster.base_dir / "store")
                load.wait_for_acks(cluster.spawn_node(*settings).started)
            # A slow machine has not come far by now, and a short log is left alone.
            wait_until("a log worth trimming", lambda: longest(cluster) > LogTrimmer.RECORDS_MIN)
        check_all(cluster, load.accounts)

        # What was trimmed is in a snapshot and nowhere else; the digests say that all is there.
        admin = ("--admin", f"http://{cluster.address('admin')}", "-o", "json")
        taken = run_perdure("snapshots", "create", "--all", *admin)
        assert taken.status == 0, taken
        lsns = {item["partition"]: item["snapshot"]["lsn"] for item in read(taken.stdout)}
        wait_until("a log to be trimmed", lambda: any(trim_points(cluster)))
        digests = [cluster.admin(f"/partitions/{number}")["digest"] for number in lsns]
        assert cluster.node is not None
        cluster.node.kill()
        shutil.rmtree(cluster.base_dir / "store")
        cluster.start_node(*settings)
        assert [cluster.admin(f"/partitions/{n}")["digest"] for n in lsns] == digests
        assert all(
            cluster.admin(f"/partitions/{number}")["snapshot"]["lsn"] >= lsn
            for number, lsn in lsns.items()
            if lsn
        )
        cluster.wait_for_answer()
        assert cluster.node.stop() == 0
        assert "Traceback" not in cluster.node.stderr


def read(text: str) -> list[dict[str, dict[str, int]]]:
    """The outcomes that a command has printed."""
    found: list[dict[str, dict[str, int]]] = json.loads(text)["snapshots"]
    return found


def longest(cluster: Cluster) -> int:
    """How many records the longest log has had."""
    return max(int(row["applied_lsn"]) for row in cluster.admin("/partitions")["partitions"])


def trim_points(cluster: Cluster) -> list[int]:
    """How far each log is trimmed."""
    return [row["trim_point"] for row in cluster.admin("/logs")["logs"]]
