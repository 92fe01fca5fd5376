"""SIGKILL of the node and of the worker at random moments under load.

Each acked add is counted once, each other at most once. ``PERDURE_E2E_KILLS`` sets the kills of
each kind, ``PERDURE_E2E_SEED`` repeats the choices of a run.
"""

import os
import statistics
import time
from pathlib import Path

from perdure.core.random import SeededRandom, SystemRandom

from .cluster import Cluster
from .load import Load, check_all

KILLS = int(os.environ.get("PERDURE_E2E_KILLS", "6"))
LOAD_SECONDS_MAX = 0.6
DOWN_SECONDS_MAX = 0.05


def chosen_seed() -> int:
    """The seed of this run."""
    given = os.environ.get("PERDURE_E2E_SEED")
    return SystemRandom().bits(24) if given is None else int(given)


def report(what: str, seconds: list[float]) -> None:
    """Print how long first answers took; figures are for reading, no test depends on them."""
    print(
        f"{what}: {len(seconds)} kills, first answer after the restart: median "
        f"{statistics.median(seconds):.3f} s, max {max(seconds):.3f} s, over 2 s: "
        f"{sum(value > 2 for value in seconds)}"
    )


def test_node_killed_under_load(tmp_path: Path) -> None:
    """The node dies with no warning, at random moments of its work and of its start."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    random = SeededRandom(seed)
    first_answers: list[float] = []
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with Load(cluster, seed) as load:
            for _ in range(KILLS):
                time.sleep(random.fraction() * LOAD_SECONDS_MAX)
                assert cluster.node is not None
                cluster.node.kill()
                time.sleep(random.fraction() * DOWN_SECONDS_MAX)
                if random.bits(2) == 0:
                    # Now and then a start is cut short as well, somewhere in its replay.
                    starting = cluster.spawn_node()
                    time.sleep(random.fraction())
                    starting.kill()
                restarted = cluster.spawn_node().started
                first_answers.append(load.wait_for_acks(restarted) - restarted)
        print(load.accounts.summary())
        report("node", first_answers)
        check_all(cluster, load.accounts)
        assert cluster.node is not None
        assert cluster.node.stop() == 0
        assert "Traceback" not in cluster.node.stderr


def test_worker_killed_under_load(tmp_path: Path) -> None:
    """The only worker dies with no warning; what it ran is run again by the next one."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    random = SeededRandom(seed)
    first_answers: list[float] = []
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with Load(cluster, seed) as load:
            for _ in range(KILLS):
                time.sleep(random.fraction() * LOAD_SECONDS_MAX)
                cluster.workers["worker"].kill()
                time.sleep(random.fraction() * DOWN_SECONDS_MAX)
                restarted = cluster.start_worker().started
                first_answers.append(load.wait_for_acks(restarted) - restarted)
        print(load.accounts.summary())
        report("worker", first_answers)
        check_all(cluster, load.accounts)
        # A worker's death is not the clients' business: nobody saw an error.
        assert load.accounts.retries == 0
        assert cluster.node is not None
        assert cluster.node.stop() == 0
        assert "Traceback" not in cluster.node.stderr


def test_node_and_worker_killed_together(tmp_path: Path) -> None:
    """Both die at once, as they do when a machine stops."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    random = SeededRandom(seed)
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with Load(cluster, seed) as load:
            for _ in range(max(1, KILLS // 3)):
                time.sleep(random.fraction() * LOAD_SECONDS_MAX)
                assert cluster.node is not None
                cluster.node.kill()
                cluster.workers["worker"].kill()
                cluster.start_worker()
                restarted = cluster.spawn_node().started
                load.wait_for_acks(restarted)
        print(load.accounts.summary())
        check_all(cluster, load.accounts)
