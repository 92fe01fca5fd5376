"""What a node refuses before it joins a cluster: options that cannot be, and a wrong directory."""

import asyncio
from pathlib import Path

import pytest

from perdure.core.clock import ManualClock
from perdure.core.errors import OptionsError
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.options import Assignment
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.node.cluster_runtime import ClusterRuntime
from perdure.node.identity import WrongClusterError, check_base_dir
from perdure.node.options import (
    Door,
    advertised,
    load_node_options,
    metadata_servers,
    roles_of,
)


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
        ({"cluster__log_zones": "3"}, "cannot be in more zones"),
        ({"cluster__roles": "admin,cook"}, "there is no role 'cook'"),
        (
            {"cluster__metadata_servers": "127.0.0.1:5122", "listen__node": "127.0.0.1:0"},
            "give it a fixed port",
        ),
        (
            {
                "cluster__metadata_servers": "a:5122",
                "listen__node": "0.0.0.0:5122",
                "listen__insecure": "true",
            },
            "listen.advertise",
        ),
        # Its admin routes would be none, so that nobody could take it out again.
        ({"node__name": "a/b"}, 'node.name = "a/b" .* is no name'),
        ({"node__name": "a,b"}, "is no name"),
        ({"node__name": "a b"}, "is no name"),
        ({"node__name": ".."}, "is no name"),
        ({"node__name": "--yes"}, "is no name"),
        ({"node__name": "a\nb"}, r'node.name = "a\\nb" .* is no name'),
        # No metadata server would understand its hello.
        ({"node__name": "a" * 101}, "give up to 100 of"),
        ({"node__cluster": "a\nb"}, "node.cluster"),
        ({"cluster__zone": "a,b"}, "cluster.zone"),
        ({"listen__advertise": "a:5122"}, "without a port"),
        ({"listen__advertise": "::"}, "without a port"),
        ({"listen__advertise": "a b"}, "without a port"),
        ({"listen__advertise": "http://a"}, "without a port"),
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


@pytest.mark.parametrize(
    ("node", "advertise", "told"),
    [
        ("n1:5122", "", ("n1:5122", "n1:8080", "127.0.0.1:9070")),
        ("0.0.0.0:5122", "n1", ("n1:5122", "n1:8080", "n1:9070")),
        ("[::]:5122", "fd00::7", ("[fd00::7]:5122", "[fd00::7]:8080", "[fd00::7]:9070")),
    ],
)
def test_others_are_told_no_wildcard(node: str, advertise: str, told: tuple[str, ...]) -> None:
    options = load_node_options(
        assignments=[
            Assignment(key, value, "--set")
            for key, value in {
                "cluster.metadata_servers": "n1:5122",
                "listen.insecure": "true",
                "listen.node": node,
                "listen.ingress_http": "0.0.0.0:8080",
                "listen.advertise": advertise,
            }.items()
        ]
    )
    doors: tuple[Door, ...] = ("node", "ingress_http", "admin")
    assert tuple(advertised(options.listen, door) for door in doors) == told


@pytest.mark.parametrize(
    ("servers", "advertise", "keeps"),
    [
        ("127.0.0.1:5122", "", True),
        ("127.0.0.1:5123", "", False),
        ("127.0.0.1:5122", "n1", False),
        ("n1:5122", "n1", True),
    ],
)
def test_a_node_keeps_metadata_where_others_look_for_it(
    servers: str, advertise: str, keeps: bool
) -> None:
    """A role that it does not carry out is not told: nobody adds it as a metadata server."""

    async def scenario() -> None:
        runtime = ClusterRuntime(
            load_node_options(
                assignments=[
                    Assignment("cluster.metadata_servers", servers, "--set"),
                    Assignment("listen.advertise", advertise, "--set"),
                ]
            ),
            transport=InProcTransport(InProcNetwork()),
            metadata_disk=MemoryStore,
            loop=asyncio.get_running_loop(),
            clock=ManualClock(),
            random=SeededRandom(1),
            on_failure=lambda _error: None,
        )
        assert (runtime.metadata_server is not None) is keeps
        assert ("metadata-server" in runtime.roles) is keeps
        assert "log-server" in runtime.roles

    asyncio.run(scenario())
