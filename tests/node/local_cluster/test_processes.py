"""Processes are started, killed, brought back, and what they print is kept."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from perdure.node.local_cluster import processes
from perdure.node.local_cluster.directory import ClusterDirectory
from perdure.node.local_cluster.errors import NodeEndedError
from perdure.node.local_cluster.launcher import LocalCluster
from perdure.node.local_cluster.picture import Condition
from perdure.node.local_cluster.processes import ManagedProcess


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagedProcess]:
    """A process that says "up" and stays, whatever SIGTERM says, when its argument is so."""
    program = tmp_path / "sleeper.py"
    program.write_text(
        "import signal, sys\n"
        "if 'obstinate' in sys.argv:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    monkeypatch.setattr(processes, "_CHILD", "sleeper")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = ManagedProcess("sleeper", [], tmp_path / "sleeper.log", environment)
    yield process
    process.kill()


def until_it_says(process: ManagedProcess, lines: int) -> None:
    pause = threading.Event()
    while len(process.last_lines(100)) < lines:
        assert process.runs, process.last_lines(100)
        pause.wait(0.01)


def test_killed_process_can_be_brought_back(sleeper: ManagedProcess) -> None:
    assert (sleeper.pid, sleeper.status, sleeper.runs, sleeper.ending()) == (None, None, False, "")
    sleeper.start()
    until_it_says(sleeper, 1)
    first = sleeper.pid
    sleeper.kill()
    sleeper.kill()

    assert (sleeper.runs, sleeper.asked) == (False, True)
    assert sleeper.ending() == "killed by SIGKILL"
    sleeper.start()
    until_it_says(sleeper, 2)
    assert (sleeper.pid != first, sleeper.starts, sleeper.asked) == (True, 2, False)
    assert sleeper.last_lines(1) == ["up"]


def test_process_that_ends_by_itself_was_not_asked_to(sleeper: ManagedProcess) -> None:
    sleeper.start()
    until_it_says(sleeper, 1)
    assert sleeper.pid is not None
    os.kill(sleeper.pid, signal.SIGUSR1)
    pause = threading.Event()
    while sleeper.runs:
        pause.wait(0.01)
    sleeper.terminate()

    assert (sleeper.ending(), sleeper.asked) == ("killed by SIGUSR1", False)


def test_long_log_is_put_aside_at_a_start(
    sleeper: ManagedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES_MAX", 10)
    sleeper.log.write_text("what was said before\n")
    sleeper.start()
    until_it_says(sleeper, 1)

    assert sleeper.last_lines(5) == ["up"]
    assert sleeper.log.with_name("sleeper.log.1").read_text() == "what was said before\n"


def test_processes_end_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    """The real child, whose launcher is killed: nothing is left behind."""
    if sys.platform != "linux":
        pytest.skip("only the kernel of Linux tells a process that its starter has ended")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from perdure.node.local_cluster.processes import ManagedProcess\n"
        "directory = Path(sys.argv[1])\n"
        "arguments = ['server', '--base-dir', str(directory / 'data')]\n"
        "for door in ('ingress-http', 'ingress-grpc', 'admin', 'node'):\n"
        "    arguments += [f'--{door}', '127.0.0.1:0']\n"
        "process = ManagedProcess('n', arguments, directory / 'n.log', os.environ)\n"
        "process.start()\n"
        "while not any('node ready' in line for line in process.last_lines(50)):\n"
        "    assert process.runs, process.last_lines(50)\n"
        "print(process.pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        # A descriptor of the process: its number may be somebody else's once it has ended.
        handle = os.pidfd_open(pid)
        try:
            launcher.kill()
            launcher.wait()
            assert select.select([handle], [], [], 60.0)[0], f"{pid} still runs"
        finally:
            os.close(handle)


def test_cluster_kills_what_does_not_end_in_time(tmp_path: Path, sleeper: ManagedProcess) -> None:
    directory = ClusterDirectory(tmp_path / "cluster", count=2)
    with LocalCluster(directory, environment=os.environ | {"PYTHONPATH": str(tmp_path)}) as cluster:
        cluster.nodes["n2"]._arguments.append("obstinate")
        cluster.start()
        for process in cluster.nodes.values():
            until_it_says(process, 1)
        late = cluster.stop(seconds=1.0)
        assert not any(process.runs for process in cluster.nodes.values())
    directory.release()

    assert "n2" in late


def test_who_is_in_a_hurry_does_not_wait(tmp_path: Path, sleeper: ManagedProcess) -> None:
    directory = ClusterDirectory(tmp_path / "cluster", count=1)
    hurry = threading.Event()
    hurry.set()
    with LocalCluster(directory, environment=os.environ | {"PYTHONPATH": str(tmp_path)}) as cluster:
        cluster.nodes["n1"]._arguments.append("obstinate")
        cluster.start()
        until_it_says(cluster.nodes["n1"], 1)
        late = cluster.stop(seconds=1e6, hurry=hurry)
    directory.release()

    assert late == ["n1"]


def test_node_that_cannot_start_is_told_with_its_last_lines(tmp_path: Path) -> None:
    directory = ClusterDirectory(tmp_path / "cluster", count=1)
    with LocalCluster(directory, settings=["partitions.count=0"]) as cluster:
        cluster.start()
        with pytest.raises(NodeEndedError, match=r"(?s)n1 ended .*exit status 1.*partitions.count"):
            cluster.wait_until_ready(60.0)
        [node] = cluster.picture().nodes
    directory.release()

    assert node.condition is Condition.ENDED
    assert any("partitions.count" in line for line in node.last_lines)
    # One that was killed on demand is brought back on demand, and ends nothing.
    killed = msgspec.structs.replace(node, asked=True)
    cluster.check_started(msgspec.structs.replace(cluster.picture(), nodes=(killed,)))
