"""Nodes and workers that cannot start: exit status 1, a code, the fix, and no traceback."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from perdure.core.storage.rocks import RocksStore
from perdure.metadata.api import VersionedValue
from perdure.metadata.local import LocalMetadataStore
from perdure.metadata.values import read_modify_write

from ..ports import HOST
from .cluster import APPS, DOORS, Cluster
from .load import Load, check_all
from .processes import Finished, run_perdure

ABSENT = HOST + ":9"
"""An address that workers which fail before they connect never get to."""


def refused(ended: Finished, code: str, *fixes: str) -> None:
    """Check how a process that refuses to run ends."""
    assert ended.status == 1, ended
    assert ended.stdout == "", ended
    assert "Traceback" not in ended.stderr, ended
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error ")]
    assert len(errors) == 1, ended
    assert errors[0].startswith(f"error {code}: "), ended
    for fix in fixes:
        assert fix in ended.stderr, ended


def start_and_fail(cluster: Cluster, *extra: str) -> Finished:
    """Start a node that must not come up."""
    return cluster.spawn_node(*extra).finished()


def set_up(cluster: Cluster) -> None:
    """Give the base directory to a cluster, then stop its node."""
    cluster.start_node()
    assert cluster.node is not None
    assert cluster.node.stop() == 0


def still_starts(cluster: Cluster) -> None:
    """The refused start has changed nothing: the right one works."""
    cluster.start_node()
    assert cluster.node is not None
    assert cluster.node.stop() == 0


def test_partition_count_changed(tmp_path: Path) -> None:
    """The count is fixed at first start."""
    with Cluster(tmp_path) as cluster:
        set_up(cluster)
        ended = start_and_fail(cluster, "--set", "partitions.count=4")
        refused(ended, "PD1102", "partitions.count=8", "--base-dir")
        still_starts(cluster)


@pytest.mark.parametrize("option", ["node.cluster", "node.name"])
def test_base_dir_of_another(tmp_path: Path, option: str) -> None:
    """A base directory belongs to one node of one cluster."""
    with Cluster(tmp_path) as cluster:
        set_up(cluster)
        ended = start_and_fail(cluster, "--set", f"{option}=other")
        refused(ended, "PD1101", "--base-dir", f"set {option}")
        still_starts(cluster)


async def _raise_format(base_dir: Path) -> None:
    store = RocksStore.open(base_dir / "metadata")

    def change(current: VersionedValue | None) -> bytes:
        assert current is not None
        return json.dumps({**json.loads(current.value), "format": 99}).encode()

    try:
        await read_modify_write(LocalMetadataStore(store), "cluster", change)
        store.sync()
    finally:
        store.close()


def test_base_dir_of_a_newer_format(tmp_path: Path) -> None:
    """An older release does not touch what a newer one wrote."""
    with Cluster(tmp_path) as cluster:
        set_up(cluster)
        asyncio.run(_raise_format(cluster.base_dir))
        refused(start_and_fail(cluster), "PD0103", "format 99", "run the release that wrote it")


def test_base_dir_in_use(tmp_path: Path) -> None:
    """Two nodes never share a base directory; the first one does not notice."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        second_directory = tmp_path / "second"
        second_directory.mkdir()
        with Cluster(second_directory, base_dir=cluster.base_dir) as second:
            refused(start_and_fail(second), "PD0104", "stop that process")
        assert cluster.answers()


@pytest.mark.parametrize("door", DOORS)
def test_port_in_use(tmp_path: Path, door: str) -> None:
    """Each listener says which port is taken; nothing is left behind, and the next start works."""
    with Cluster(tmp_path) as cluster:
        with socket.socket() as taker:
            taker.bind((HOST, cluster.ports[door]))
            taker.listen()
            ended = start_and_fail(cluster)
            refused(ended, "PD0203", cluster.address(door), "another process")
        still_starts(cluster)


def test_base_dir_that_cannot_be_made(tmp_path: Path) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "file").write_text("")
    with Cluster(tmp_path, base_dir=tmp_path / "file" / "data") as cluster:
        refused(start_and_fail(cluster), "PD0101", str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("option", "fix"),
    [("partitions.cuont=4", "did you mean partitions.count"), ("partitions.count=0", "from 1")],
)
def test_wrong_options(tmp_path: Path, option: str, fix: str) -> None:
    """An option that does not exist, and one out of range."""
    with Cluster(tmp_path) as cluster:
        refused(start_and_fail(cluster, "--set", option), "PD0301", "--set", fix)
        assert not cluster.base_dir.exists()


@pytest.mark.parametrize(
    ("app", "code", "fixes"),
    [
        ("absent.py", "PD0701", ["give the path"]),
        ("no_services.py", "PD0703", ["Service('Greeter')"]),
        ("broken.py", "PD0702", ["broken.py", "line 3", "the database is not there"]),
    ],
)
def test_app_files(app: str, code: str, fixes: list[str]) -> None:
    """Missing, without services, failing to import: said before anything is connected."""
    ended = run_perdure("worker", str(APPS / app), "--connect", ABSENT)
    refused(ended, code, *fixes)


def test_other_code_under_one_deployment_name(tmp_path: Path) -> None:
    """The worker with other code is refused and ends; the one that was first goes on."""
    other = tmp_path / "counter.py"
    other.write_text((APPS / "counter.py").read_text() + "\nCHANGED = True\n")
    with Cluster(tmp_path) as cluster:
        cluster.start_node()
        cluster.start_worker("first", deployment="release-1")
        cluster.wait_for_answer()
        ended = cluster.start_worker("second", app=other, deployment="release-1").finished()
        refused(ended, "PD0712", "PD0903", "release-1", "new --deployment name")
        assert cluster.answers()
        # The same code is welcome under the name, as often as it likes.
        third = cluster.start_worker("third", deployment="release-1")
        third.wait_for_line("connected to node")
        assert cluster.workers["first"].stop() == 0
        assert cluster.answers()
        assert third.stop() == 0


def test_a_refused_start_beside_a_loaded_node(tmp_path: Path) -> None:
    """Attempts to take ports and directory of a node under load do it no harm."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with Load(cluster, 1, threads=2) as load:
            for _ in range(2):
                ended = run_perdure(*cluster.node_arguments())
                refused(ended, "PD0104", "stop that process")
        assert load.accounts.retries == 0
        check_all(cluster, load.accounts)
