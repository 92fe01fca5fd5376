"""What a node refuses before it joins a cluster: options that cannot be, and a wrong directory."""

from pathlib import Path

import pytest

from perdure.core.errors import OptionsError
from perdure.core.options import Assignment
from perdure.node.identity import WrongClusterError, check_base_dir
from perdure.node.options import load_node_options, metadata_servers, roles_of


def loaded(**values: str) -> object:
    """Load options, each ``section__name=value``."""
    return load_node_options(
        assignments=[
            Assignment(name.replace("__", "."), value, "--set") for name, value in values.items()
        ]
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cluster__metadata_servers": "a:1,b:2"}, "give 1, 3 or 5"),
        ({"cluster__metadata_servers": "a"}, "cluster.metadata_servers"),
        ({"cluster__metadata_servers": "a:0"}, "give the port"),
        ({"cluster__roles": "admin,cook"}, "there is no role 'cook'"),
        (
            {"cluster__metadata_servers": "127.0.0.1:5122", "listen__node": "127.0.0.1:0"},
            "give it a fixed port",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(values: dict[str, str], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        loaded(**values)


def test_servers_and_roles_are_read_from_one_text_each() -> None:
    options = load_node_options(
        assignments=[
            Assignment("cluster.metadata_servers", " a:1, b:2,a:1,c:3 ", "--set"),
            Assignment("cluster.roles", "worker, ingress", "--set"),
        ]
    )
    assert metadata_servers(options.cluster) == ("a:1", "b:2", "c:3")
    assert roles_of(options.cluster) == ("worker", "ingress")


@pytest.mark.parametrize("alone", [True, False])
def test_a_directory_of_the_other_kind_of_node_is_refused(tmp_path: Path, alone: bool) -> None:
    (tmp_path / "log").mkdir()
    if not alone:
        (tmp_path / "metadata").mkdir()
    with pytest.raises(WrongClusterError, match="give another --base-dir"):
        check_base_dir(tmp_path, alone=alone)
    check_base_dir(tmp_path, alone=not alone)
