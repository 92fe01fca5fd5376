"""The two systems under test behind one face: start, stop, where to call, whom to measure."""

import json
import os
import shutil
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from . import install
from .client import post, post_until_ok
from .errors import BenchError
from .paths import APPS, DATA, PERDURE_BIN, SCRATCH
from .processes import Program, Programs, run_tool

START_SECONDS = 60.0
"""How long a system may take to its first answer before the run is given up."""

PORT_BASE = int(os.environ.get("BENCH_PORT_BASE", "21700"))
"""First of the ten ports that a run uses: away from both systems' defaults, and below the range
from which the kernel takes the ports of outgoing connections."""

GREETING = "Hello, Ann!"

PACKAGE_VERSIONS = (
    "import json, sys; from importlib.metadata import version; "
    "print(json.dumps({name: version(name) for name in sys.argv[1:]} "
    "| {'python': sys.version.split()[0]}))"
)


class System(ABC):
    """One system under test on a fresh data folder: server, application and their ports.

    `start` returns after the first successful call. `programs` are measured under their names.
    """

    name: str

    def __init__(self, programs: Programs, round_number: int) -> None:
        self._programs = programs
        self._round = round_number
        self._data: Path | None = None
        self.programs: dict[str, Program] = {}
        self.start_seconds = 0.0

    @property
    @abstractmethod
    def ingress_port(self) -> int:
        """Where calls go, by HTTP on 127.0.0.1."""

    @abstractmethod
    def _ports(self) -> dict[str, int]:
        """Every port that this system listens on, by what it is for."""

    @abstractmethod
    def _spawn(self, data: Path) -> None:
        """Start server and application at once and return when calls may be tried."""

    @classmethod
    @abstractmethod
    def versions(cls) -> dict[str, str]:
        """What exactly was measured."""

    def start(self) -> None:
        """From the first process spawned to the first right answer of a call."""
        for use, port in self._ports().items():
            require_free(port, use)
        DATA.mkdir(parents=True, exist_ok=True)
        self._data = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=DATA))
        started = time.monotonic()
        self._spawn(self._data)
        post_until_ok(
            self.ingress_port,
            "/Greeter/greet",
            "Ann",
            seconds=START_SECONDS,
            alive=self.require_alive,
        )
        self.start_seconds = time.monotonic() - started

    def check_answers(self) -> None:
        """The work is done and not only acknowledged: measured calls give the right answers."""
        self._expect("/Greeter/greet", "Ann", GREETING)
        self._expect("/Greeter/greet3", "Ann", GREETING)
        # A key that the load does not use, so that this holds at any time.
        self._expect("/Counter/check/add", 1, 1)
        self._expect("/Counter/check/add", 2, 3)

    def require_alive(self) -> None:
        """Raise when a program of this system has ended by itself."""
        for program in self.programs.values():
            if not program.running():
                what = f"{program.name} ended by itself with status {program.popen.returncode}"
                raise BenchError(what, where=what)

    def log_tails(self) -> str:
        """What the programs wrote last, to stand under an error."""
        return "\n".join(program.log_tail() for program in self.programs.values())

    def stop(self) -> None:
        """Stop the server, then the application, and remove the data; the logs stay.

        In this order because hypercorn waits for its open connections, and the peer's server
        keeps one open for ever.
        """
        for program in self.programs.values():
            self._programs.stop(program)
        self.programs.clear()
        if self._data is not None:
            shutil.rmtree(self._data, ignore_errors=True)

    def _start_program(
        self, role: str, *command: str | Path, data: Path, **environment: str
    ) -> None:
        self.programs[role] = self._programs.start(
            f"{self.name}-{self._round}-{role}", command, cwd=data, environment=environment
        )

    def _expect(self, path: str, body: object, answer: object) -> None:
        status, got = post(self.ingress_port, path, body, seconds=START_SECONDS)
        if status != 200 or got != answer:
            raise BenchError(
                f"{self.name} answers POST {path} with status {status} and {got!r}, "
                f"not with 200 and {answer!r}",
                where=f"answers of {self.name}",
            )


class Perdure(System):
    """A node and a worker from the repository's own environment, with defaults where none is set.

    `options` are set on the node, by their names in its configuration. Its four ports begin at
    `first_port`.
    """

    name = "perdure"
    ingress_port: int = PORT_BASE
    session_port: int
    admin_port: int
    log_dir: Path
    worker_dir: Path

    def __init__(
        self,
        programs: Programs,
        round_number: int,
        *,
        app: str = "perdure_app.py",
        options: Mapping[str, object] | None = None,
        first_port: int = PORT_BASE,
    ) -> None:
        super().__init__(programs, round_number)
        self.ingress_port, self.session_port, self.admin_port = range(first_port, first_port + 3)
        self._node_port = first_port + 3
        self._app = app
        self._options = options or {}

    def _ports(self) -> dict[str, int]:
        return {
            "ingress HTTP": self.ingress_port,
            "ingress gRPC": self.session_port,
            "admin": self.admin_port,
            "node": self._node_port,
        }

    def _spawn(self, data: Path) -> None:
        perdure = install.require_perdure()
        self.log_dir, self.worker_dir = data / "node" / "log", data
        address = {use: f"127.0.0.1:{port}" for use, port in self._ports().items()}
        self._start_program(
            "node",
            *(perdure, "server", "--base-dir", data / "node"),
            *("--ingress-http", address["ingress HTTP"]),
            *("--ingress-grpc", address["ingress gRPC"]),
            *("--admin", address["admin"]),
            *("--node", address["node"]),
            *(f"--set={name}={value}" for name, value in self._options.items()),
            data=data,
        )
        # At the same moment as the node: a worker waits for its node by itself.
        self._start_program(
            "worker",
            *(perdure, "worker", APPS / self._app, "--connect", address["node"]),
            data=data,
        )

    @classmethod
    def versions(cls) -> dict[str, str]:
        """The product and what its speed hangs on."""
        return _package_versions(
            PERDURE_BIN / "python",
            *("perdure", "grpcio", "protobuf", "granian", "rocksdict", "uvloop", "msgspec"),
        )


class Peer(System):
    """Restate's server on one node, and its Python SDK served by hypercorn."""

    name = "peer"
    ingress_port = PORT_BASE + 5

    def _ports(self) -> dict[str, int]:
        return {
            "ingress HTTP": self.ingress_port,
            "admin": PORT_BASE + 6,
            "node": PORT_BASE + 7,
            "application": PORT_BASE + 8,
        }

    def _spawn(self, data: Path) -> None:
        ports = self._ports()
        application = f"127.0.0.1:{ports['application']}"
        self._start_program(
            "server",
            *(install.peer_server(), "--no-logo", "--base-dir", data / "server"),
            data=data,
            # Addresses, a name that is not the machine's, and no reports to its makers. All else
            # is the default, also that each commit waits for the disk.
            RESTATE_BIND_ADDRESS=f"127.0.0.1:{ports['node']}",
            RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{ports['ingress HTTP']}",
            RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{ports['admin']}",
            RESTATE_LISTEN_MODE="tcp",
            RESTATE_NODE_NAME="bench",
            RESTATE_DISABLE_TELEMETRY="true",
            DO_NOT_TRACK="1",
        )
        self._start_program(
            "app",
            *(install.peer_python(), "-m", "hypercorn", "--config", APPS / "hypercorn.toml"),
            *("--bind", application, "peer_app:app"),
            data=data,
            PYTHONPATH=str(APPS),
        )
        post_until_ok(
            ports["admin"],
            "/deployments",
            {"uri": f"http://{application}"},
            seconds=START_SECONDS,
            alive=self.require_alive,
        )

    @classmethod
    def versions(cls) -> dict[str, str]:
        """The server by its own word, the application's side by its packages."""
        server = run_tool(
            (install.peer_server(), "--version"), cwd=SCRATCH, seconds=30, what="peer version"
        )
        return {"restate-server": server.split()[-1]} | _package_versions(
            install.peer_python(), "restate-sdk", "hypercorn", "uvloop", "h2"
        )


SYSTEMS: dict[str, type[System]] = {system.name: system for system in (Perdure, Peer)}


def _package_versions(python: Path, *packages: str) -> dict[str, str]:
    output = run_tool(
        (python, "-c", PACKAGE_VERSIONS, *packages),
        cwd=SCRATCH,
        seconds=30,
        what="reading package versions",
    )
    versions: dict[str, str] = json.loads(output)
    return versions


def require_free(port: int, use: str) -> None:
    with socket.socket() as probe:
        # As servers do it: a port of a connection that has just ended is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise BenchError(
                f"port {port} ({use}) is in use. Stop what listens there, or move the run: "
                f"BENCH_PORT_BASE={PORT_BASE + 100} bench/run.sh",
                where="ports",
            ) from None
