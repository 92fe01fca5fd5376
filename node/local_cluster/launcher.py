"""A local cluster from start to stop.

Everything here is called from one thread, the program's main one; only `Watch` has threads.
"""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from ...core.clock import Clock, SystemClock
from .answers import ClusterAnswer
from .directory import ClusterDirectory, ClusterPlan, NodePlan
from .errors import NodeEndedError
from .picture import (
    ClusterPicture,
    Condition,
    NodePicture,
    WorkerPicture,
    merge_partitions,
    merge_states,
    merge_warnings,
)
from .ports import DOORS
from .processes import ManagedProcess
from .watch import Sight, Watch

STOP_SECONDS: Final = 10.0
"""How long processes may take to end in good order before they are killed."""
LINES_SHOWN: Final = 8
_POLL_SECONDS: Final = 0.05


class LocalCluster:
    """Nodes and workers on this machine.

    ``with LocalCluster(directory) as cluster`` leaves nothing running behind.

    Attributes:
        directory: what it keeps, and its plan.
        nodes: the nodes' processes, by name, in order.
        workers: the workers' processes, by name.
    """

    def __init__(
        self,
        directory: ClusterDirectory,
        *,
        apps: Sequence[Path] = (),
        settings: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take a directory; it stays the caller's to release, after `stop`.

        Args:
            apps: a worker is made of each, connected to every node.
            settings: options for every node, as ``KEY=VALUE``.
            environment: of the processes; ours unless given.
        """
        self.directory = directory
        self._clock = clock or SystemClock()
        environment = os.environ if environment is None else environment
        plan = directory.plan
        self._plans = {node.name: node for node in plan.nodes}
        self.nodes = {
            node.name: ManagedProcess(
                node.name,
                node_arguments(plan, node, directory.base_dir(node), settings),
                directory.log_file(node.name),
                environment,
            )
            for node in plan.nodes
        }
        self.workers = {
            name: ManagedProcess(
                name, worker_arguments(plan, app, settings), directory.log_file(name), environment
            )
            for name, app in _worker_names(apps)
        }
        doors = {node.name: node.addresses["admin"] for node in plan.nodes}
        self._watch = Watch(doors, self._pid_of, self._clock)
        self._heard: dict[str, int] = {}

    def __enter__(self) -> "LocalCluster":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what still runs; `stop` before that ends it in good order."""
        for process in self._all():
            process.kill()
        self._watch.stop()

    # Life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every node, all at once, and begin to watch them."""
        for process in self.nodes.values():
            process.start()
        self._watch.start()

    def start_workers(self) -> None:
        """Start the workers that do not run."""
        for process in self.workers.values():
            if not process.runs:
                process.start()

    def wait_until_ready(self, seconds: float) -> ClusterPicture:
        """Wait until every partition is led. Raises NodeEndedError or TimeoutError."""
        deadline = self._clock.monotonic_ns() + int(seconds * 1e9)
        pause = threading.Event()
        while not (picture := self.picture()).ready:
            self.check_started(picture)
            if self._clock.monotonic_ns() > deadline:
                raise TimeoutError(f"the cluster is not ready after {seconds:g} s")
            pause.wait(_POLL_SECONDS)
        return picture

    def check_started(self, picture: ClusterPicture) -> None:
        """Raise NodeEndedError if a node has ended by itself, with the last that it printed."""
        for node in picture.nodes:
            if node.condition is Condition.ENDED and not node.asked:
                lines = "".join(f"\n  {line}" for line in node.last_lines)
                raise NodeEndedError(
                    f"node {node.name} ended before the cluster was ready ({node.ending}); the "
                    f"last of {self.directory.log_file(node.name)}:{lines}"
                )

    def kill(self, name: str) -> None:
        """SIGKILL a node. Raises KeyError for a name that is none."""
        self.nodes[name].kill()

    def bring_back(self, name: str) -> None:
        """Start a node that has ended; nothing happens while it runs. Raises KeyError."""
        if not self.nodes[name].runs:
            self.nodes[name].start()

    def stop(
        self, seconds: float = STOP_SECONDS, hurry: threading.Event | None = None
    ) -> list[str]:
        """End the workers, then all nodes, in good order; give the names of those it had to kill.

        Args:
            seconds: that each of the two may take.
            hurry: once it is set all are killed at once.
        """
        killed: list[str] = []
        for processes in (self.workers.values(), self.nodes.values()):
            killed += self._end(list(processes), seconds, hurry or threading.Event())
        self._watch.stop()
        return killed

    def _end(
        self, processes: list[ManagedProcess], seconds: float, hurry: threading.Event
    ) -> list[str]:
        for process in processes:
            process.terminate()
        deadline = self._clock.monotonic_ns() + int(seconds * 1e9)
        while any(process.runs for process in processes):
            # Set once, it is set for ever: the wait then takes no time.
            if hurry.wait(_POLL_SECONDS) or self._clock.monotonic_ns() > deadline:
                break
        late = [process for process in processes if process.runs]
        for process in late:
            process.kill()
        return [process.name for process in late]

    def _all(self) -> Iterable[ManagedProcess]:
        return (*self.workers.values(), *self.nodes.values())

    # Looking ---------------------------------------------------------------------------

    def _pid_of(self, name: str) -> int | None:
        process = self.nodes[name]
        return process.pid if process.runs else None

    def picture(self) -> ClusterPicture:
        """How everything is, as far as the nodes have told."""
        sights = {name: self._watch.sight(name) for name in self.nodes}
        answers: dict[str, ClusterAnswer] = {}
        for name, sight in sights.items():
            if sight.answer is not None and sight.answer.cluster is not None:
                answers[name] = sight.answer.cluster
        states = merge_states(answers.values())
        return ClusterPicture(
            cluster=self.directory.plan.cluster,
            nodes=tuple(
                self._node_picture(name, sights[name], answers.get(name), states.get(name, ""))
                for name in self.nodes
            ),
            partitions=merge_partitions(answers),
            workers=tuple(
                WorkerPicture(
                    process.name,
                    process.pid,
                    process.starts,
                    process.runs,
                    process.ending(),
                    _last_lines(process),
                )
                for process in self.workers.values()
            ),
            warnings=merge_warnings(answers.values()),
        )

    def _node_picture(
        self, name: str, sight: Sight, cluster: ClusterAnswer | None, seen_as: str
    ) -> NodePicture:
        process = self.nodes[name]
        rows = () if cluster is None else cluster.partitions
        return NodePicture(
            name=name,
            pid=process.pid,
            starts=process.starts,
            condition=self._condition(process, sight),
            ending=process.ending(),
            asked=process.asked,
            addresses=self._plans[name].addresses,
            seen_as=seen_as,
            leads=sum(row.role == "leader" for row in rows),
            follows=sum(row.role == "follower" for row in rows),
            lag=sum(row.lag for row in rows),
            records_per_second=sight.records_per_second,
            last_lines=_last_lines(process),
        )

    def _condition(self, process: ManagedProcess, sight: Sight) -> Condition:
        if process.status is not None:
            return Condition.ENDED
        if sight.answer is None:
            # One that has answered since its start does so no more.
            heard = self._heard.get(process.name) == process.starts
            return Condition.SILENT if heard else Condition.STARTING
        self._heard[process.name] = process.starts
        return Condition.JOINING if sight.answer.cluster is None else Condition.READY


def _last_lines(process: ManagedProcess) -> tuple[str, ...]:
    if process.status is None or process.asked:
        return ()
    return tuple(process.last_lines(LINES_SHOWN))


def node_arguments(
    plan: ClusterPlan, node: NodePlan, base_dir: Path, settings: Sequence[str]
) -> list[str]:
    """The command line of one node; what is set by `settings` is set for every node."""
    options = {
        "node.name": node.name,
        "node.cluster": plan.cluster,
        "cluster.metadata_servers": ",".join(plan.metadata_addresses()),
    }
    if node is plan.nodes[0]:
        options["cluster.provision"] = "true"
    if len(plan.nodes) == 1:
        # Nobody else is there to have a copy.
        options |= {"cluster.replicas": "1", "cluster.log_copies": "1"}
    arguments = ["server", "--base-dir", str(base_dir)]
    for door in DOORS:
        arguments += [f"--{door.replace('_', '-')}", node.addresses[door]]
    for assignment in (*(f"{key}={value}" for key, value in options.items()), *settings):
        arguments += ["--set", assignment]
    return arguments


def worker_arguments(plan: ClusterPlan, app: Path, settings: Sequence[str] = ()) -> list[str]:
    """The command line of a worker that serves every node, in what `settings` has them speak."""
    nodes = ",".join(node.addresses["node"] for node in plan.nodes)
    arguments = ["worker", str(app), "--connect", nodes]
    for assignment in settings:
        key, _, value = assignment.partition("=")
        if key.strip() == "listen.node_transport":
            arguments += ["--transport", value.strip()]
    return arguments


def _worker_names(apps: Sequence[Path]) -> Iterable[tuple[str, Path]]:
    for number, app in enumerate(apps, 1):
        yield f"worker-{number}-{app.stem}", app
