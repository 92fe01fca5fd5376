"""The port for workers and other nodes: a node that cannot have it names the option."""

import asyncio
import socket
from pathlib import Path

import pytest

from perdure.core.errors import AddressInUseError
from perdure.core.options import Assignment
from perdure.node.options import load_node_options
from perdure.node.server import NodeServer


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_taken_node_port_is_named_with_its_option(tmp_path: Path, transport: str) -> None:
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        address = f"127.0.0.1:{taker.getsockname()[1]}"
        settings = {
            "node.base_dir": str(tmp_path / "data"),
            "partitions.count": "1",
            "listen.node": address,
            "listen.node_transport": transport,
        }
        options = load_node_options(
            assignments=[Assignment(key, value) for key, value in settings.items()]
        )
        with pytest.raises(AddressInUseError) as refused:
            asyncio.run(NodeServer(options).run())

    assert address in refused.value.message
    assert "--set listen.node=HOST:PORT" in refused.value.message
