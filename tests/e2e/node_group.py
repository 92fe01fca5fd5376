"""Several nodes of one cluster as real processes, workers of all of them, and clients.

``with NodeGroup(directory) as group`` leaves nothing running, and prints the ends of all logs when
its body fails. A client is a stranger to the cluster: it knows addresses and tries the next one.
"""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from ..ports import HOST, free_port
from .cluster import APPS, DOORS, LOST, PORT_CHANGES_MAX, Answer, HttpClient
from .processes import Process, wait_until

PARTITIONS = 4
LEADER_WAIT = "90s"
"""A busy machine may take long to notice that a node is gone, and calls wait for that."""
ASKED_SECONDS_MAX = 120.0
PAUSE_SECONDS = 0.05
UNAVAILABLE = (429, 503)


class AnyNodeClient:
    """Asks one node after the other until one answers. For one thread."""

    def __init__(self, ports: list[int]) -> None:
        """Connect to nobody yet."""
        self._clients = [HttpClient(port) for port in ports]
        self._next = 0

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """As `HttpClient.request`."""
        return self._ask(lambda client: client.request(method, path, body, **headers))

    def post(self, path: str, value: object, idempotency_key: str | None = None) -> Answer:
        """As `HttpClient.post`."""
        return self._ask(lambda client: client.post(path, value, idempotency_key))

    def _ask(self, ask: Callable[[HttpClient], Answer]) -> Answer:
        try:
            answer = ask(self._clients[self._next])
        except LOST:
            self._next = (self._next + 1) % len(self._clients)
            raise
        if answer.status in UNAVAILABLE:
            self._next = (self._next + 1) % len(self._clients)
        return answer

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()

    def __enter__(self) -> "AnyNodeClient":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def choose_ports(count: int) -> dict[str, dict[str, int]]:
    """Free ports by node and door."""
    return {f"n{number}": {door: free_port() for door in DOORS} for number in range(1, count + 1)}


class NodeGroup:
    """The nodes of a cluster: all of them have all roles unless said otherwise.

    Attributes:
        ports: by node and door.
        nodes: the nodes' latest processes, by name.
        node: one that is expected to live, for whoever watches one.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 3,
        *options: str,
        metadata_servers: tuple[str, ...] = (),
        nothing_else: tuple[str, ...] = (),
        program: list[str] | None = None,
    ) -> None:
        """Choose ports; nothing runs yet.

        Args:
            options: of all nodes.
            metadata_servers: the nodes that keep the metadata; all unless given.
            nothing_else: those of them that have no other role.
            program: what runs nodes in the place of ``perdure``.
        """
        self.directory = directory
        self._options = options
        self._program = program
        self._nothing_else = nothing_else
        self.ports = choose_ports(count)
        self._metadata_servers = metadata_servers or tuple(self.ports)
        self.nodes: dict[str, Process] = {}
        self.worker: Process | None = None
        self._processes: list[Process] = []

    def __enter__(self) -> "NodeGroup":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what runs; after a failure show how partitions are and what all have written."""
        try:
            if kind is not None:
                for name in self.ports:
                    print(name, self.partitions(name))
        finally:
            for process in self._processes:
                process.kill()
        if kind is not None:
            for process in {item.name: item for item in self._processes}.values():
                print(process.tail())

    # Processes

    def address(self, name: str, door: str) -> str:
        """The ``host:port`` of a node's door."""
        return f"{HOST}:{self.ports[name][door]}"

    @property
    def workers(self) -> list[str]:
        """The nodes that have partitions and front doors."""
        return [name for name in self.ports if name not in self._nothing_else]

    @property
    def node(self) -> Process | None:
        """Any node that runs."""
        return next((node for node in self.nodes.values() if node.status is None), None)

    def spawn(self, name: str) -> Process:
        """Start a node and wait for nothing."""
        servers = ",".join(self.address(each, "node") for each in self._metadata_servers)
        settings = [
            f"node.name={name}",
            f"cluster.metadata_servers={servers}",
            f"partitions.count={PARTITIONS}",
            f"forwarding.leader_wait={LEADER_WAIT}",
            *self._options,
        ]
        if name == "n1":
            settings.append("cluster.provision=true")
        if name in self._nothing_else:
            settings.append("cluster.roles=metadata-server")
        arguments = ["server", "--base-dir", str(self.directory / name)]
        for door in DOORS:
            arguments += [f"--{door}", self.address(name, door)]
        for setting in settings:
            arguments += ["--set", setting]
        node = self.nodes[name] = Process(name, arguments, self.directory, program=self._program)
        self._processes.append(node)
        return node

    def start(self) -> None:
        """Start all nodes and a worker of all of them, and wait for the first answer."""
        for _ in range(1 + PORT_CHANGES_MAX):
            for name in self.ports:
                self.spawn(name)
            wait_until(
                "all partitions to be led and followed", lambda: self._port_taken() or self.whole()
            )
            if not self._port_taken():
                break
            # A stranger took a port after it had been looked at; nobody knows ours yet.
            for name, node in self.nodes.items():
                node.kill()
                shutil.rmtree(self.directory / name, ignore_errors=True)
            self.ports = choose_ports(len(self.ports))
        nodes = ",".join(self.address(name, "node") for name in self.workers)
        arguments = ["worker", str(APPS / "counter.py"), "--connect", nodes]
        self.worker = Process("worker", arguments, self.directory)
        self._processes.append(self.worker)
        wait_until("a first answer", self.answers)

    def _port_taken(self) -> bool:
        return any(
            node.status is not None and "PD0203" in node.stderr for node in self.nodes.values()
        )

    def spawn_worker(self, app: str, name: str) -> None:
        """Start a worker of an app that is told of one node alone; wait for nothing."""
        arguments = ["worker", str(APPS / app), "--connect", self.address(name, "node")]
        self._processes.append(Process(f"worker of {app}", arguments, self.directory))

    def pause(self, name: str, seconds: float) -> None:
        """Have a node be slow for a while without dying."""
        self.nodes[name].signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.nodes[name].signal(signal.SIGCONT)

    # How it is

    def partitions(self, name: str) -> list[dict[str, Any]]:
        """How a node's partitions are, empty when it does not tell."""
        try:
            with HttpClient(self.ports[name]["admin"], timeout=30.0) as client:
                answer = client.request("GET", "/partitions")
        except LOST:
            return []
        if answer.status != 200:
            return []  # It has not joined yet.
        rows: list[dict[str, Any]] = answer.json()["partitions"]
        return rows

    def whole(self) -> bool:
        """Whether all nodes tell how they are, and each partition has one leader and a follower.

        Where there is one node alone, it leads everything.
        """
        tables = [self.partitions(name) for name in self.ports]
        wanted = ["follower", "leader"][-len(self.workers) :]
        if not all(tables):
            return False
        for rows in zip(*tables, strict=True):
            roles = sorted(row["role"] for row in rows if row["role"] != "absent")
            if roles != wanted:
                return False
        return True

    def wait_until_whole(self) -> None:
        """Wait until every node is back and every partition is led and followed."""
        wait_until("all partitions to be led and followed", self.whole)

    def leader(self, partition: int) -> str | None:
        """The node that leads a partition."""
        for name in self.ports:
            for row in self.partitions(name):
                if row["partition"] == partition and row["role"] == "leader":
                    return name
        return None

    def replicas_agree(self) -> bool:
        """Whether leader and follower of each partition are equally far, with the same digest.

        Raises AssertionError when two are equally far with different ones.
        """
        found: list[dict[int, str]] = [{} for _ in range(PARTITIONS)]
        for name in self.ports:
            before = self.partitions(name)
            with HttpClient(self.ports[name]["admin"]) as client:
                try:
                    details = [
                        client.request("GET", f"/partitions/{number}").json()
                        for number in range(PARTITIONS)
                    ]
                except LOST:
                    return False
            after = self.partitions(name)
            if not before or not after:
                return False
            for number, (row, detail) in enumerate(zip(before, details, strict=True)):
                if row["role"] == "absent" == after[number]["role"]:
                    continue
                lsn = row["applied_lsn"]
                if (row["role"], lsn) != (after[number]["role"], after[number]["applied_lsn"]):
                    return False  # What was read while records were applied says nothing.
                known = found[number].setdefault(lsn, detail["digest"])
                assert known == detail["digest"], (number, name, detail, found)
        return all(len(by_lsn) == 1 for by_lsn in found)

    # Clients

    def http(self) -> AnyNodeClient:
        """A client of all HTTP front doors."""
        return AnyNodeClient([self.ports[name]["ingress-http"] for name in self.workers])

    def client_of(self, name: str) -> HttpClient:
        """A client of one node's HTTP front door."""
        return HttpClient(self.ports[name]["ingress-http"])

    def answers(self) -> bool:
        """Whether a call gets its result."""
        try:
            with self.http() as client:
                return client.post("/Greeter/greet", "Ann").status == 200
        except LOST:
            return False

    def counter(self, key: str) -> int:
        """A counter's value."""
        deadline = time.monotonic() + ASKED_SECONDS_MAX
        with self.http() as client:
            while time.monotonic() < deadline:
                try:
                    answer = client.request("POST", f"/Counter/{key}/get")
                except LOST:
                    time.sleep(PAUSE_SECONDS)
                    continue
                if answer.status == 200:
                    value: int = answer.json()
                    return value
                assert answer.status in UNAVAILABLE, answer
                time.sleep(PAUSE_SECONDS)
        raise AssertionError(f"counter {key} cannot be read within {ASKED_SECONDS_MAX:g} s")
