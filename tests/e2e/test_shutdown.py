"""SIGTERM of node and workers under load, and what a start costs."""

import threading
import time
from pathlib import Path

import pytest

from .cluster import ANSWER_SECONDS_MAX, LOST, Answer, Cluster
from .load import Load, check_all
from .processes import wait_until
from .test_sigkill import chosen_seed

STOPS = 3
IDLE_SECONDS = 2.0


def test_node_stopped_under_load(tmp_path: Path) -> None:
    """Exit status 0 each time; whatever was acked is there after the restart."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with Load(cluster, seed) as load:
            for _ in range(STOPS):
                time.sleep(0.3)
                assert cluster.node is not None
                assert cluster.node.stop() == 0
                assert "Traceback" not in cluster.node.stderr
                load.wait_for_acks(cluster.spawn_node().started)
        print(load.accounts.summary())
        check_all(cluster, load.accounts)


def test_calls_under_way_are_answered(tmp_path: Path) -> None:
    """A stopping node waits for what it took, and refuses what comes later."""
    with Cluster(tmp_path) as cluster:
        cluster.start("--set", "limits.stop_grace=2m")
        answers: list[Answer] = []
        go_on = tmp_path / "go on"

        def call() -> None:
            with cluster.http() as client:
                answers.append(client.post("/Greeter/held", str(go_on), "held"))

        caller = threading.Thread(target=call)
        caller.start()
        wait_until("the call to run", lambda: running(cluster) == 1)
        assert cluster.node is not None
        with cluster.http() as late:
            cluster.node.terminate()
            refused = late.post("/Greeter/greet", "Ann")
            while refused.status == 200:
                refused = late.post("/Greeter/greet", "Ann")
        assert (refused.status, refused.json()["error"]) == (503, "PD0509")
        go_on.touch()
        caller.join(ANSWER_SECONDS_MAX)
        assert not caller.is_alive()
        assert [(answer.status, answer.body) for answer in answers] == [(200, b'"done"')]
        assert cluster.node.wait() == 0


def running(cluster: Cluster) -> int:
    """How many invocations run now."""
    return sum(row["invocations"]["running"] for row in cluster.partitions())


def test_a_call_beyond_the_grace_is_refused_and_finished_later(tmp_path: Path) -> None:
    """It is answered 503 in time; after the restart its result is there under its key."""
    with Cluster(tmp_path) as cluster:
        cluster.start("--set", "limits.stop_grace=200ms")
        outcomes: list[Answer | BaseException] = []
        go_on = tmp_path / "go on"

        def call() -> None:
            with cluster.http() as client:
                try:
                    outcomes.append(client.post("/Greeter/held", str(go_on), "long"))
                except LOST as error:
                    outcomes.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        wait_until("the call to run", lambda: running(cluster) == 1)
        assert cluster.node is not None
        assert cluster.node.stop() == 0
        caller.join(ANSWER_SECONDS_MAX)
        assert not caller.is_alive()
        (outcome,) = outcomes
        assert isinstance(outcome, Answer), outcome
        assert outcome.status == 503
        assert outcome.json()["error"] == "PD0509"
        go_on.touch()
        cluster.start_node()
        with cluster.http() as client:
            answer = client.post("/Greeter/held", str(go_on), "long")
        assert (answer.status, answer.json()) == (200, "done")


def test_worker_stopped_under_load(tmp_path: Path) -> None:
    """Calls go on on the other worker, and no client sees anything of it."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with Load(cluster, seed) as load:
            for _ in range(STOPS):
                for leaving, coming in (("worker", "other"), ("other", "worker")):
                    worker = cluster.start_worker(coming)
                    worker.wait_for_line("connected to node")
                    assert cluster.workers[leaving].stop() == 0
                    assert "Traceback" not in cluster.workers[leaving].stderr
                    load.wait_for_acks(time.monotonic())
        print(load.accounts.summary())
        assert load.accounts.retries == 0
        check_all(cluster, load.accounts)


@pytest.mark.parametrize("order", ["node first", "worker first"])
def test_both_stopped_while_idle(tmp_path: Path, order: str) -> None:
    """Nothing hangs on the other one."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        assert cluster.node is not None
        both = [cluster.node, cluster.workers["worker"]]
        for process in both if order == "node first" else reversed(both):
            assert process.stop() == 0
            assert "Traceback" not in process.stderr


def test_start_and_idle_figures(tmp_path: Path) -> None:
    """Prints start to first answer, idle memory and CPU; judges none of them."""
    with Cluster(tmp_path) as cluster:
        node = cluster.spawn_node()
        worker = cluster.start_worker()
        print(f"start to first answer: {cluster.first_answer_seconds(node.started):.3f} s")
        time.sleep(0.5)
        before = node.cpu_seconds(), worker.cpu_seconds(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        elapsed = time.monotonic() - before[2]
        for process, cpu in ((node, before[0]), (worker, before[1])):
            share = (process.cpu_seconds() - cpu) / elapsed
            print(
                f"{process.name} idle: {process.resident_bytes() / 1e6:.0f} MB resident, "
                f"{share:.1%} of a core"
            )
