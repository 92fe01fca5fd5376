"""Three nodes of each system on one machine, with replication 2: start, kill, bring back."""

import http.client
import json
import os
import re
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

from . import install
from .client import get, post, post_until_ok
from .errors import BenchError
from .paths import APPS, DATA
from .processes import Program, Programs
from .systems import GREETING, PORT_BASE, START_SECONDS, require_free

NODES = (1, 2, 3)
APP_PORT = PORT_BASE + 90

SETTLED_SECONDS = 3.0
"""Leads that have not moved for so long are where they are to be."""

SETTLE_SECONDS_MAX = 30.0
ASK_SECONDS = 5.0


def port(node: int, door: int) -> int:
    """A node's door: 0 ingress HTTP, 1 ingress gRPC, 2 admin, 3 between nodes."""
    return PORT_BASE + 10 * node + door


def address(node: int, door: int) -> str:
    """The same as ``host:port``."""
    return f"127.0.0.1:{port(node, door)}"


class NodeGroup(ABC):
    """A cluster of three on fresh folders, and one program that serves its handlers.

    Attributes:
        numbers: of its nodes.
        nodes: the processes of the nodes that run, by number.
    """

    name: str
    numbers: tuple[int, ...] = NODES

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self.nodes: dict[int, Program] = {}
        self._application: Program | None = None
        self._starts = 0
        self._data: Path | None = None

    @abstractmethod
    def _spawn_node(self, node: int, data: Path, name: str) -> Program:
        """Start a node's process."""

    @abstractmethod
    def _serve(self, data: Path) -> Program:
        """Start the handlers' process and make the cluster know it."""

    @abstractmethod
    def _leads_of(self, node: int) -> int:
        """How many partitions a node leads by its own word. Raises what `get` raises."""

    @property
    def programs(self) -> dict[str, Program]:
        """What is measured: each node, and the program with the handlers."""
        found = {f"n{node}": program for node, program in sorted(self.nodes.items())}
        if self._application is not None:
            found["app"] = self._application
        return found

    def start(self) -> None:
        """Start everything, and wait until each node answers a call."""
        for node in self.numbers:
            for door in range(4):
                require_free(port(node, door), f"node {node}")
        DATA.mkdir(parents=True, exist_ok=True)
        self._data = Path(tempfile.mkdtemp(prefix=f"{self.name}-group-", dir=DATA))
        for node in self.numbers:
            self.spawn(node)
        self._application = self._serve(self._data)
        for node in self.numbers:
            post_until_ok(
                port(node, 0),
                "/Greeter/greet",
                "Ann",
                seconds=START_SECONDS,
                alive=lambda: None,
            )

    def leads(self) -> dict[int, int]:
        """How many partitions each node leads. Raises BenchError when one does not say."""
        try:
            return {node: self._leads_of(node) for node in self.nodes}
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"a node of {self.name} does not say what it leads: {error}") from None

    def settle(self) -> dict[int, int]:
        """Wait until all lead what they are to lead, as far as can be seen; gives how many each.

        Raises BenchError when leads do not come to rest.
        """
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        last: dict[int, int] = {}
        since = time.monotonic()
        while (now := time.monotonic()) < deadline:
            self.require_alive()
            found = self.leads()
            if found != last:
                last, since = found, now
            elif now - since >= SETTLED_SECONDS and sum(found.values()):
                return found
            time.sleep(SETTLED_SECONDS / 10)
        raise BenchError(f"leads of {self.name} move for {SETTLE_SECONDS_MAX:g} s: {last}")

    def check_answers(self) -> None:
        """Each node gives the right answers, and all of them those of one counter."""
        for node in self.numbers:
            self._expect(node, "/Greeter/greet", "Ann", GREETING)
            # A key that the load does not use.
            self._expect(node, "/Counter/check/add", 1, node)

    def _expect(self, node: int, path: str, body: object, answer: object) -> None:
        found = post(port(node, 0), path, body, seconds=START_SECONDS)
        if found != (200, answer):
            raise BenchError(
                f"n{node} of {self.name} answers POST {path} with {found}, not 200 and {answer!r}",
                where=f"answers of {self.name}",
            )

    def require_alive(self) -> None:
        """Raise BenchError when a program has ended by itself."""
        for program in self.programs.values():
            if not program.running():
                what = f"{program.name} ended by itself with status {program.popen.returncode}"
                raise BenchError(f"{what}\n{program.log_tail()}", where=what)

    def spawn(self, node: int) -> None:
        """Start a node, for the first time or again, and wait for nothing."""
        assert self._data is not None
        self._starts += 1
        name = f"{self.name}-n{node}-{self._starts}"
        self.nodes[node] = self._spawn_node(node, self._data, name)

    def signal(self, node: int, number: signal.Signals) -> None:
        """Send a signal to a node and all that belongs to it."""
        os.killpg(self.nodes[node].pid, number)

    def forget(self, node: int) -> None:
        """Wait for the end of a node that was told to end."""
        self._programs.stop(self.nodes.pop(node))

    def stop(self) -> None:
        """Stop everything and remove the data; logs stay."""
        for node in self.nodes:
            self._programs.stop(self.nodes[node])
        self.nodes.clear()
        if self._application is not None:
            self._programs.stop(self._application)
        if self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)


class PerdureGroup(NodeGroup):
    """Perdure: metadata on all three, two replicas, two copies of the log."""

    name = "perdure"
    settings: tuple[str, ...] = ()

    def _spawn_node(self, node: int, data: Path, name: str) -> Program:
        servers = ",".join(address(each, 3) for each in self.numbers)
        settings = [f"node.name=n{node}", f"cluster.metadata_servers={servers}", *self.settings]
        if node == 1:
            settings.append("cluster.provision=true")
        return self._programs.start(
            name,
            (
                *(install.require_perdure(), "server", "--base-dir", data / f"n{node}"),
                *("--ingress-http", address(node, 0), "--ingress-grpc", address(node, 1)),
                *("--admin", address(node, 2), "--node", address(node, 3)),
                *(f"--set={setting}" for setting in settings),
            ),
            cwd=data,
        )

    def _serve(self, data: Path) -> Program:
        nodes = ",".join(address(each, 3) for each in self.numbers)
        app = APPS / "perdure_app.py"
        command = (install.require_perdure(), "worker", app, "--connect", nodes)
        return self._programs.start("perdure-group-worker", command, cwd=data)

    def _leads_of(self, node: int) -> int:
        rows = json.loads(get(port(node, 2), "/partitions", seconds=ASK_SECONDS))["partitions"]
        return sum(1 for row in rows if row["role"] == "leader")


class PerdureAlone(PerdureGroup):
    """Perdure: a cluster of one node, whose logs may be on its own disk."""

    numbers = (1,)
    settings = ("cluster.replicas=1", "cluster.log_copies=1")


class PeerGroup(NodeGroup):
    """The peer: metadata on all three, replicated loglets, replication 2."""

    name = "peer"

    def _spawn_node(self, node: int, data: Path, name: str) -> Program:
        servers = ",".join(f'"http://{address(each, 3)}"' for each in self.numbers)
        return self._programs.start(
            name,
            (install.peer_server(), "--no-logo", "--base-dir", data / f"n{node}"),
            cwd=data,
            environment={
                "RESTATE_CLUSTER_NAME": "bench",
                "RESTATE_NODE_NAME": f"n{node}",
                "RESTATE_AUTO_PROVISION": "true" if node == 1 else "false",
                "RESTATE_DEFAULT_REPLICATION": "2",
                "RESTATE_BIFROST__DEFAULT_PROVIDER": "replicated",
                "RESTATE_METADATA_SERVER__TYPE": "replicated",
                "RESTATE_METADATA_CLIENT__ADDRESSES": f"[{servers}]",
                "RESTATE_BIND_ADDRESS": address(node, 3),
                "RESTATE_ADVERTISED_ADDRESS": f"http://{address(node, 3)}",
                "RESTATE_INGRESS__BIND_ADDRESS": address(node, 0),
                "RESTATE_ADMIN__BIND_ADDRESS": address(node, 2),
                "RESTATE_LISTEN_MODE": "tcp",
                "RESTATE_DISABLE_TELEMETRY": "true",
                "DO_NOT_TRACK": "1",
            },
        )

    def _serve(self, data: Path) -> Program:
        config = APPS / "hypercorn.toml"
        application = self._programs.start(
            "peer-group-app",
            (
                *(install.peer_python(), "-m", "hypercorn", "--config", config),
                *("--bind", f"127.0.0.1:{APP_PORT}", "peer_app:app"),
            ),
            cwd=data,
            environment={"PYTHONPATH": str(APPS)},
        )
        post_until_ok(
            port(1, 2),
            "/deployments",
            {"uri": f"http://127.0.0.1:{APP_PORT}"},
            seconds=START_SECONDS,
            alive=lambda: None,
        )
        return application

    def _leads_of(self, node: int) -> int:
        text = get(port(node, 3), "/metrics", seconds=ASK_SECONDS)
        found = re.search(r"^restate_num_active_partition_leaders\{.*\} (\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 0


GROUPS: dict[str, type[NodeGroup]] = {group.name: group for group in (PerdureGroup, PeerGroup)}
