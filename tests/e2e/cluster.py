"""One node and its workers as real processes on free ports, and clients to talk to them.

``with Cluster(directory) as cluster`` leaves nothing running, and prints the ends of all logs when
its body fails.
"""

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import grpc

from perdure.proto.generated import ingress_pb2 as wire
from perdure.proto.generated.ingress_pb2_grpc import IngressStub

from ..ports import HOST, free_port
from .processes import Process, wait_until

APPS = Path(__file__).resolve().parent / "apps"
DOORS = ("ingress-http", "ingress-grpc", "admin", "node")
ANSWER_SECONDS_MAX = 120.0
"""Bound on every answer: what takes longer hangs."""
IDLE_SECONDS_MAX = 15.0
"""A connection that was not used for longer is made anew: nodes close theirs after 30 seconds."""
PORT_CHANGES_MAX = 5


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


LOST = (OSError, http.client.HTTPException)
"""What a request raises when no answer came."""


class HttpClient:
    """One keep-alive connection, made anew after it was lost. For one thread."""

    def __init__(self, port: int, timeout: float = ANSWER_SECONDS_MAX) -> None:
        """Nothing is connected before the first request."""
        self._connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
        self._used = time.monotonic()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Ask once. Raises one of `LOST` when no answer came; whether it arrived is unknown."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if time.monotonic() - self._used > IDLE_SECONDS_MAX:
            self._connection.close()
        try:
            self._connection.request(method, path, body, names)
            response = self._connection.getresponse()
            content = response.read()
        except BaseException:
            self._connection.close()
            raise
        finally:
            self._used = time.monotonic()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)

    def post(self, path: str, value: object, idempotency_key: str | None = None) -> Answer:
        """POST a value as JSON."""
        headers = {"content_type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency_key"] = idempotency_key
        return self.request("POST", path, json.dumps(value).encode(), **headers)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> "HttpClient":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class Cluster:
    """A node, its base directory and any number of workers.

    Attributes:
        base_dir: where the node stores.
        ports: by door.
        node: the node's latest process.
        workers: by name.
    """

    def __init__(self, directory: Path, base_dir: Path | None = None) -> None:
        """Choose ports; nothing runs yet."""
        self.directory = directory
        self.base_dir = base_dir or directory / "data"
        self.ports = {door: free_port() for door in DOORS}
        self.node: Process | None = None
        self.workers: dict[str, Process] = {}
        self._processes: list[Process] = []
        self._served = False

    def __enter__(self) -> "Cluster":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what runs; after a failure show what the node says and what all have written."""
        if kind is not None:
            self._show_partitions()
        for process in self._processes:
            process.kill()
        if kind is not None:
            # Processes of one name share their files.
            for process in {item.name: item for item in self._processes}.values():
                print(process.tail())

    def _show_partitions(self) -> None:
        try:
            for row in self.partitions():
                print({**row, **self.admin(f"/partitions/{row['partition']}")})
        except (*LOST, ValueError) as error:
            print(f"the node tells nothing: {error!r}")

    # Processes

    def address(self, door: str) -> str:
        """The ``host:port`` of a door."""
        return f"{HOST}:{self.ports[door]}"

    def node_arguments(self, *extra: str) -> list[str]:
        """The command line of the node."""
        doors = [part for door in DOORS for part in (f"--{door}", self.address(door))]
        return ["server", "--base-dir", str(self.base_dir), *doors, *extra]

    def spawn_node(self, *extra: str, in_child: Callable[[], None] | None = None) -> Process:
        """Start the node and do not wait for anything."""
        self.node = Process("node", self.node_arguments(*extra), self.directory, in_child=in_child)
        self._processes.append(self.node)
        return self.node

    def start_node(self, *extra: str, in_child: Callable[[], None] | None = None) -> Process:
        """Start the node and wait until every partition has a leader."""
        node = self.spawn_node(*extra, in_child=in_child)
        for _ in range(PORT_CHANGES_MAX):
            wait_until("the node to lead", self._leads_or_ended)
            if node.status is None or self._served or "PD0203" not in node.stderr:
                break
            # Somebody took a port after it had been looked at; nobody knows ours yet.
            self.ports = {door: free_port() for door in DOORS}
            node = self.spawn_node(*extra, in_child=in_child)
        assert node.status is None, f"the node ended with status {node.status}"
        self._served = True
        return node

    def _leads_or_ended(self) -> bool:
        assert self.node is not None
        return self.node.status is not None or self.leads()

    def leads(self) -> bool:
        """Whether all partitions of the node lead."""
        try:
            rows = self.partitions()
        except LOST:
            return False
        return bool(rows) and all(row["role"] == "leader" for row in rows)

    def start_worker(
        self, name: str = "worker", app: Path | None = None, deployment: str | None = None
    ) -> Process:
        """Start a worker and do not wait for its connection."""
        arguments = ["worker", str(app or APPS / "counter.py"), "--connect", self.address("node")]
        if deployment is not None:
            arguments += ["--deployment", deployment]
        worker = self.workers[name] = Process(name, arguments, self.directory)
        self._processes.append(worker)
        return worker

    def start(self, *extra: str) -> None:
        """Start the node and one worker and wait for the first answer."""
        self.start_node(*extra)
        self.start_worker()
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        """Wait until a call gets its result."""
        wait_until("a first answer", self.answers)

    def answers(self) -> bool:
        """Whether a call gets its result."""
        try:
            with self.http() as client:
                return client.post("/Greeter/greet", "Ann").status == 200
        except LOST:
            return False

    # Clients

    def http(self, timeout: float = ANSWER_SECONDS_MAX) -> HttpClient:
        """A client of the HTTP front door."""
        return HttpClient(self.ports["ingress-http"], timeout)

    @contextlib.contextmanager
    def grpc(self) -> Iterator[IngressStub]:
        """A client of the gRPC front door."""
        options = (
            ("grpc.max_send_message_length", 64 << 20),
            ("grpc.enable_http_proxy", 0),
        )
        with grpc.insecure_channel(self.address("ingress-grpc"), options=options) as channel:
            yield IngressStub(channel)  # type: ignore[no-untyped-call]

    def call(
        self,
        service: str,
        handler: str,
        value: object,
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> wire.CallResponse:
        """Call over gRPC. Raises grpc.RpcError."""
        request = wire.InvocationRequest(
            target=wire.Target(service=service, handler=handler, key=key),
            body=json.dumps(value).encode(),
            idempotency_key=idempotency_key,
        )
        with self.grpc() as stub:
            response: wire.CallResponse = stub.Call(
                wire.CallRequest(invocation=request), timeout=ANSWER_SECONDS_MAX
            )
        return response

    def admin(self, path: str) -> Any:
        """GET a resource of admin REST. Raises one of `LOST`."""
        with HttpClient(self.ports["admin"]) as client:
            return client.request("GET", path).json()

    def partitions(self) -> list[dict[str, Any]]:
        """How all partitions are. Raises one of `LOST`."""
        rows: list[dict[str, Any]] = self.admin("/partitions")["partitions"]
        return rows

    def counter(self, key: str) -> int:
        """A counter's value, waiting for a worker if need be."""
        with self.http() as client:
            answer = client.request("POST", f"/Counter/{key}/get")
        assert answer.status == 200, answer
        value: int = answer.json()
        return value

    def wait_for_quiet(self) -> None:
        """Wait until no invocation is under way."""

        def quiet() -> bool:
            return all(
                not count
                for row in self.partitions()
                for status, count in row["invocations"].items()
                if status != "completed"
            )

        wait_until("all invocations to complete", quiet)

    def first_answer_seconds(self, since: float) -> float:
        """Seconds from `since` to the first answered call, asking without pause."""
        self.wait_for_answer()
        return time.monotonic() - since
