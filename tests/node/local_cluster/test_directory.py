"""The directory of a local cluster keeps its plan and has one launcher at a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.core.errors import AddressInUseError
from perdure.node.local_cluster.directory import (
    LOCK_FILE,
    PLAN_FILE,
    ClusterDirectory,
    plan_cluster,
    read_plan,
)
from perdure.node.local_cluster.errors import DirectoryInUseError, ForeignDirectoryError
from perdure.node.local_cluster.ports import PortClaim, addresses_from, every

from ...ports import free_ports


@contextmanager
def opened(
    path: Path, count: int | None = None, port_base: int | None = None
) -> Iterator[ClusterDirectory]:
    directory = ClusterDirectory(path, count=count, port_base=port_base)
    try:
        yield directory
    finally:
        directory.release()


@pytest.mark.parametrize(
    ("count", "servers"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)]
)
def test_one_three_or_five_nodes_serve_metadata(count: int, servers: int) -> None:
    plan = plan_cluster(addresses_from(20_000, count))

    assert [node.name for node in plan.nodes] == [f"n{number}" for number in range(1, count + 1)]
    assert plan.metadata_addresses() == [node.addresses["node"] for node in plan.nodes[:servers]]


def test_second_start_has_the_nodes_and_ports_of_the_first(tmp_path: Path) -> None:
    with opened(tmp_path / "a", 2, free_ports(20)) as first:
        assert first.is_new
    with opened(tmp_path / "a") as second:
        assert not second.is_new
        assert second.plan == first.plan


def test_one_launcher_at_a_time(tmp_path: Path) -> None:
    base = free_ports(30)
    with (
        opened(tmp_path, port_base=base),
        pytest.raises(DirectoryInUseError, match="runs already"),
    ):
        ClusterDirectory(tmp_path)
    with opened(tmp_path):
        pass


def test_directory_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    with pytest.raises(ForeignDirectoryError, match="metadata, for one"):
        ClusterDirectory(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["metadata"]


@pytest.mark.parametrize("leftover", [LOCK_FILE, f"{PLAN_FILE}.new"])
def test_first_start_that_was_cut_short_is_begun_again(tmp_path: Path, leftover: str) -> None:
    (tmp_path / leftover).write_text("{")
    with opened(tmp_path, 1) as directory:
        assert directory.is_new


def test_other_count_or_ports_than_at_first_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path, 2, free_ports(20)) as directory:
        addresses = [node.addresses for node in directory.plan.nodes]
    with opened(tmp_path, 2):
        pass
    with pytest.raises(ForeignDirectoryError, match="2 nodes, not 3"):
        ClusterDirectory(tmp_path, count=3)
    with pytest.raises(ForeignDirectoryError, match=addresses[0]["ingress_http"]):
        ClusterDirectory(tmp_path, port_base=40_000)


def test_taken_port_base_names_the_port_and_leaves_no_plan(tmp_path: Path) -> None:
    port = free_ports(10)
    [addresses] = addresses_from(port, 1)
    taken = PortClaim([addresses["ingress_grpc"]])
    with pytest.raises(AddressInUseError, match=f"{addresses['ingress_grpc']}.*--port-base"):
        ClusterDirectory(tmp_path, count=1, port_base=port)
    taken.release()

    assert read_plan(tmp_path) is None
    with opened(tmp_path, 1):
        pass


def test_port_of_an_old_cluster_that_is_taken_now_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, 1, free_ports(10)) as directory:
        addresses = every(node.addresses for node in directory.plan.nodes)
    taken = PortClaim(addresses[-1:])
    with pytest.raises(AddressInUseError, match=f"{addresses[-1]}.*since its first start"):
        ClusterDirectory(tmp_path)
    taken.release()
    with opened(tmp_path):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"nodes": []}, "without its addresses"),
        ({"nodes": [{"name": "n1", "addresses": {}}]}, "without its addresses"),
        ({"nodes": 3}, "not what `perdure up` writes"),
    ],
)
def test_plan_that_makes_no_sense_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with opened(tmp_path, 1):
        pass
    file = tmp_path / PLAN_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    with pytest.raises(ForeignDirectoryError, match=said):
        ClusterDirectory(tmp_path)
