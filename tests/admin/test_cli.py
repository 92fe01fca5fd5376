"""The command line: what it prints where, its exit codes, and what it hands on."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure import __version__
from perdure.admin.cli.main import run
from perdure.admin.http import AdminServer
from perdure.core.errors import StorageError
from perdure.core.ids import invocation_id_text
from perdure.core.metrics import Metrics
from perdure.core.net.tcp import TcpTransport
from perdure.ingress.grpc import GrpcIngress
from perdure.node.options import NodeOptions

from ..ingress.fake_dispatcher import INVOCATION_ID, FakeDispatcher
from .fake_view import FakeView

ID_TEXT = invocation_id_text(INVOCATION_ID)
NOBODY = "127.0.0.1:1"
"""Port 1 is never listened on here."""


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        """Take its exit code and what it printed."""
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process."""

    def start(*arguments: str) -> Ended:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return start


def on_node(work: Callable[[str, str], Ended]) -> tuple[Ended, FakeDispatcher]:
    """Run `work(gRPC address, admin URL)` in a thread beside the real front doors."""
    dispatcher = FakeDispatcher()

    async def serve() -> Ended:
        ingress = GrpcIngress(dispatcher, stop_grace_seconds=0.2)
        admin = AdminServer(FakeView(), Metrics())
        address = await ingress.start("127.0.0.1:0")
        url = "http://" + await admin.start("127.0.0.1:0")
        try:
            return await asyncio.to_thread(work, address, url)
        finally:
            await admin.stop()
            await ingress.stop()

    return asyncio.run(serve()), dispatcher


def process(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run the command as a process of its own."""
    line = [sys.executable, "-m", "perdure.admin.cli.main", *arguments]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        line, capture_output=True, text=True, timeout=120, check=False, **options
    )


def test_process_prints_version_help_and_usage() -> None:
    version = process("--version")
    wrong = process("call", "Greeter")

    assert (version.returncode, version.stdout) == (0, f"perdure {__version__}\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Service/handler" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    "name",
    [
        "server",
        "worker",
        "dev",
        "call",
        "send",
        "partitions",
        "snapshots",
        "cluster",
        "nodes",
        "metadata",
        "doctor",
    ],
)
def test_help_shows_every_command_with_an_example(command: Run, name: str) -> None:
    top = command("--help")
    own = command(name, "--help")

    assert top.code == own.code == 0
    assert f"perdure {name}" in top.out or name in top.out
    assert f"perdure {name}" in own.out


def test_bare_install_names_the_install_line(tmp_path: Path) -> None:
    # A module that fails the way an absent one does stands in for a bare install.
    (tmp_path / "typer.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')"
    )
    ended = process("--version", env={**os.environ, "PYTHONPATH": str(tmp_path)})

    assert ended.returncode == 1
    assert "pip install 'perdure[server]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_closed_pipe_ends_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    line = [sys.executable, "-m", "perdure.admin.cli.main", "--help"]
    try:
        ended = subprocess.run(
            line, stdout=write_end, stderr=subprocess.PIPE, timeout=120, check=False
        )
    finally:
        os.close(write_end)

    assert ended.returncode == 1
    assert ended.stderr == b""


def test_call_prints_the_result(command: Run) -> None:
    ended, dispatcher = on_node(
        lambda ingress, _: command(
            "call", "Counter/a/b/echo", '{"a": 1}', "--ingress", ingress, "--idempotency-key", "i"
        )
    )
    [request] = dispatcher.requests

    assert (ended.code, ended.out, ended.err) == (0, '{"a": 1}\n', "")
    assert (request.service, request.key, request.handler) == ("Counter", "a/b", "echo")
    assert (request.body, request.idempotency_key) == (b'{"a": 1}', "i")


def test_call_prints_the_result_with_its_id_as_json(command: Run) -> None:
    ended, _ = on_node(
        lambda ingress, _: command(
            "call", "Greeter/echo", "[1]", "--ingress", ingress, "-o", "json"
        )
    )

    assert ended.code == 0
    assert json.loads(ended.out) == {"invocation_id": ID_TEXT, "value": [1]}


def test_call_without_input_sends_none_and_prints_nothing_for_nothing(command: Run) -> None:
    ended, dispatcher = on_node(
        lambda ingress, _: command("call", "Greeter/empty", "--ingress", ingress)
    )

    assert (ended.code, ended.out) == (0, "")
    assert dispatcher.requests[0].body == b""


def test_failure_of_a_handler_goes_to_stderr(command: Run) -> None:
    ended, _ = on_node(lambda ingress, _: command("call", "Greeter/teapot", "--ingress", ingress))

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "failed: [418] short and stout\n"


def test_refusal_is_one_line_and_a_next_step(command: Run) -> None:
    ended, _ = on_node(lambda ingress, _: command("call", "Nobody/echo", "--ingress", ingress))
    first, second = ended.err.splitlines()

    assert (ended.code, ended.out) == (1, "")
    assert first == "error PD0501: no service Nobody"
    assert "perdure worker" in second


def test_send_prints_id_and_status(command: Run) -> None:
    def both(ingress: str, _: str) -> Ended:
        line = ["send", "Greeter/echo", "1", "--ingress", ingress, "--idempotency-key", "i"]
        table = command(*line)
        as_json = command(*line, "-o", "json")
        return Ended(table.code + as_json.code, table.out + "\n" + as_json.out, as_json.err)

    ended, dispatcher = on_node(both)
    table, _, as_json = ended.out.partition("\n\n")

    assert (ended.code, ended.err) == (0, "")
    assert table.split() == ["INVOCATION", "STATUS", ID_TEXT, "accepted"]
    assert json.loads(as_json) == {"invocation_id": ID_TEXT, "status": "previously accepted"}
    assert len(dispatcher.sent) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["call", "Greeter"], "Service/handler"),
        (["call", "Greeter/echo", "Ada"], "quotes of its own"),
        (["call", "Greeter/echo", "1", "-o", "xml"], "xml"),
        (["call"], "TARGET"),
        (["worker", "a.py", "--connect", "nowhere"], "host:port"),
        (["worker", "a.py", "--connect", ","], "HOST:PORT"),
        (["partitions", "inspect", "x"], "'ID'"),
        (["partitions", "list", "--admin", "nowhere"], "is not a URL"),
        (["partitions", "list", "--admin", "ftp://127.0.0.1:9070"], "is not a URL"),
        (["call", "Greeter/echo", "--ingress", "http://127.0.0.1:8080"], "is not HOST:PORT"),
        (["call", "Greeter/echo", "--ingress", "nowhere"], "is not HOST:PORT"),
        (["nothing"], "nothing"),
    ],
)
def test_wrong_usage_exits_2(command: Run, arguments: list[str], words: str) -> None:
    ended = command(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["call", "Greeter/echo", "--ingress", NOBODY],
        ["send", "Greeter/echo", "--ingress", NOBODY],
        ["partitions", "list", "--admin", f"http://{NOBODY}"],
    ],
)
def test_node_that_is_not_there_is_said(command: Run, arguments: list[str]) -> None:
    ended = command(*arguments)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error PD0201: no node answers at")
    assert "perdure server" in ended.err


@contextmanager
def door_of_another(answer: bytes) -> Iterator[str]:
    """The address of a server that gives everybody this answer, and is no node."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x00\x00\x12\x04\x00\n", "does not speak HTTP"),
        (b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", "answered /cluster with HTTP 400"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "with what no node says"),
    ],
)
def test_an_address_that_is_no_admin_rest_is_said(command: Run, answer: bytes, words: str) -> None:
    with door_of_another(answer) as address:
        ended = command("partitions", "list", "--admin", address)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error PD0204: {address} ")
    assert words in ended.err
    assert "--admin" in ended.err


def test_an_address_that_is_no_grpc_front_door_is_said(command: Run) -> None:
    import grpc

    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    try:
        ended = command("call", "Greeter/echo", "--ingress", f"127.0.0.1:{port}")
    finally:
        other.stop(None).wait()

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error PD0204: 127.0.0.1:{port} is not the gRPC front door")


def test_partitions_are_listed(command: Run) -> None:
    table, _ = on_node(lambda _, admin: command("partitions", "list", "--admin", admin))
    as_json, _ = on_node(
        lambda _, admin: command("partitions", "list", "--admin", admin, "-o", "json")
    )
    heading, first, second = table.out.splitlines()

    assert table.code == as_json.code == 0
    assert heading.split()[:3] == ["PARTITION", "NODE", "ROLE"]
    assert " ".join(first.split()) == "0 node-1 leader 4 9 10 0 completed=5 running=2 -"
    assert second.endswith("PD0901: parked at 7")
    assert json.loads(as_json.out)["partitions"][1]["lag"] == 3


def test_partition_is_inspected(command: Run) -> None:
    table, _ = on_node(lambda _, admin: command("partitions", "inspect", "1", "--admin", admin))
    as_json, _ = on_node(
        lambda _, admin: command("partitions", "inspect", "1", "--admin", admin, "-o", "json")
    )
    missing, _ = on_node(lambda _, admin: command("partitions", "inspect", "7", "--admin", admin))

    assert "0000000000000000-ffffffffffffffff" in table.out
    assert json.loads(as_json.out)["digest"] == "ab12"
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.startswith("error PD1001:")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[NodeOptions]:
    """The options that servers were started with."""
    options: list[NodeOptions] = []

    def run_server(given: NodeOptions) -> int:
        options.append(given)
        if given.node.name == "broken":
            raise StorageError("the disk is gone")
        return 3 if given.node.name == "three" else 0

    module = types.ModuleType("perdure.node.main")
    module.run_server = run_server  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "perdure.node.main", module)
    return options


def test_server_builds_its_options_from_every_layer(
    command: Run, started: list[NodeOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[node]\ncluster = 'file'\nname = 'file'\n[partitions]\ncount = 2\n")
    monkeypatch.setenv("PERDURE__NODE__NAME", "environment")
    ended = command(
        "server", "--config", str(file), "--set", "partitions.count=3", "--set", "retry.factor=3",
        "--base-dir", "data", "--ingress-http", "0.0.0.0:1", "--ingress-grpc", "127.0.0.1:2",
        "--admin", "127.0.0.1:3", "--node", "127.0.0.1:4", "--insecure",
    )  # fmt: skip
    [options] = started

    assert ended.code == 0
    assert options.node == type(options.node)("environment", "data", "file")
    assert (options.partitions.count, options.retry.factor) == (3, 3.0)
    listen = options.listen
    assert (listen.ingress_http, listen.ingress_grpc) == ("0.0.0.0:1", "127.0.0.1:2")
    assert (listen.admin, listen.node, listen.insecure) == ("127.0.0.1:3", "127.0.0.1:4", True)


def test_server_hands_its_exit_code_on(command: Run, started: list[NodeOptions]) -> None:
    assert command("server", "--set", "node.name=three").code == 3


def test_server_that_cannot_start_is_one_line(command: Run, started: list[NodeOptions]) -> None:
    broken = command("server", "--set", "node.name=broken")
    wrong = command("server", "--admin", "0.0.0.0:1")

    assert (broken.code, broken.err) == (1, "error PD0101: the disk is gone\n")
    assert wrong.code == 1
    assert wrong.err.startswith('error PD0301: listen.admin = "0.0.0.0:1" (--admin) lets')
    assert len(started) == 1


def test_worker_serves_an_app(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[str, list[str], str | None]] = []

    def serve_app(
        path: str, addresses: list[str], deployment: str | None, transport: object
    ) -> int:
        assert isinstance(transport, TcpTransport)
        served.append((path, addresses, deployment))
        return 4

    module = types.ModuleType("perdure.sdk.run_worker")
    module.serve_app = serve_app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "perdure.sdk.run_worker", module)
    ended = command("worker", "a.py", "--connect", "a:1, b:2", "--deployment", "d")

    assert ended.code == 4
    assert served == [("a.py", ["a:1", "b:2"], "d")]
