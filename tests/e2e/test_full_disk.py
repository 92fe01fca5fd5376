"""A full disk: the node stops acknowledging and ends; with room again, nothing acked is missing."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .cluster import LOST, Cluster, HttpClient
from .load import Accounts, Add, check_all
from .processes import Process, wait_until

LIMIT_BYTES = 6 * 1024 * 1024
"""Of one file: RocksDB's log of writes gets there long before anything else does."""
DISK_BYTES = 24 * 1024 * 1024
ROOM_BYTES = 256 * 1024 * 1024
PADDING = "x" * 20_000
FILL_SECONDS_MAX = 120.0
THREADS = 4


class Disk:
    """A small file system of its own."""

    def __init__(self, path: Path) -> None:
        """Make the mount point."""
        self.path = path
        path.mkdir()

    def mount(self) -> bool:
        """Mount it; False when this process may not."""
        if sys.platform != "linux" or os.geteuid() != 0:
            return False
        return self._run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs")

    def give_room(self) -> None:
        """Make it larger."""
        assert self._run("mount", "-o", f"remount,size={ROOM_BYTES}")

    def unmount(self) -> None:
        """Take it away."""
        self._run("umount")

    def use_up(self) -> None:
        """Leave not a byte."""
        with (self.path / "rest").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def _run(self, *command: str) -> bool:
        try:
            ended = subprocess.run(
                [*command, str(self.path)], capture_output=True, timeout=120, check=False
            )
        except FileNotFoundError:
            return False
        return ended.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A mounted small disk; the test is skipped where none can be had."""
    mounted = Disk(tmp_path / "disk")
    if not mounted.mount():
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield mounted
    finally:
        mounted.unmount()


def limit_files() -> None:
    """In the node's process: no file may grow beyond the limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))


def fill(cluster: Cluster, node: Process) -> Accounts:
    """Add from several threads until the node has ended; nobody tries twice."""
    accounts = Accounts()
    deadline = time.monotonic() + FILL_SECONDS_MAX

    def run(number: int) -> None:
        with cluster.http() as client:
            count = 0
            while node.status is None and time.monotonic() < deadline:
                add = Add(f"k{count % 7}", f"{number}-{count}", "add", time.monotonic())
                count += 1
                accounts.adds.append(add)
                _try_padded(client, add, accounts)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(FILL_SECONDS_MAX + 60)
        assert not thread.is_alive(), "a client hangs"
    return accounts


def _try_padded(client: HttpClient, add: Add, accounts: Accounts) -> None:
    """One add whose headers fill the disk."""
    try:
        answer = client.request(
            "POST",
            f"/Counter/{add.key}/{add.handler}",
            b"1",
            content_type="application/json",
            idempotency_key=add.idempotency_key,
            padding=PADDING,
        )
    except LOST as error:
        accounts.refusals[type(error).__name__] += 1
        # The node is on its way out; a few more tries are enough.
        time.sleep(0.1)
        return
    if answer.status == 200:
        add.value = answer.json()
        add.ended = time.monotonic()
        return
    assert answer.status == 503, (answer, add)
    accounts.refusals[answer.json()["error"]] += 1


def check_ended(node: Process, reason: str) -> None:
    """The node ended by itself and says why in one line."""
    ended = node.finished()
    assert ended.status == 1, ended
    assert "Traceback" not in ended.stderr, ended
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error ")]
    assert len(errors) == 1, errors
    assert errors[0].startswith("error PD0101: "), errors
    assert reason in errors[0], errors
    assert "restart" in errors[0], errors


def run_out_of_room(
    cluster: Cluster,
    reason: str,
    between: Callable[[], None],
    in_child: Callable[[], None] | None = None,
) -> None:
    """Fill, fail, get room in `between`, restart, count."""
    node = cluster.start_node(in_child=in_child)
    cluster.start_worker()
    cluster.wait_for_answer()
    accounts = fill(cluster, node)
    print(accounts.summary())
    wait_until("the node to end", lambda: node.status is not None)
    check_ended(node, reason)
    acked = sum(add.acked for add in accounts.adds)
    assert 0 < acked < len(accounts.adds)
    between()
    cluster.start_node()
    cluster.wait_for_answer()
    check_all(cluster, accounts)
    assert cluster.node is not None
    assert cluster.node.stop() == 0


def test_file_size_limit(tmp_path: Path) -> None:
    """Writes fail because a file may not grow; runs without any privilege."""
    with Cluster(tmp_path) as cluster:
        run_out_of_room(cluster, "ulimit -f", lambda: None, limit_files)


def test_small_disk(tmp_path: Path, disk: Disk) -> None:
    """Writes fail because there is no space left; without a byte of it no start succeeds."""
    with Cluster(tmp_path, base_dir=disk.path / "data") as cluster:

        def between() -> None:
            disk.use_up()
            check_ended(cluster.spawn_node(), "the disk is full")
            disk.give_room()

        run_out_of_room(cluster, "the disk is full", between)
