"""The workers of all nodes: a worker is connected to each node, and takes work of each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from ..elsewhere import Question
from ..view import AdminView
from .missing import Missing
from .parameters import Parameters
from .reach import Reach
from .routes import Request, Route
from .service_answers import WorkerView

PATH: Final = "/led/workers"
"""Where another node asks for the workers that are connected to this one."""


class ConnectedWorker(msgspec.Struct, frozen=True):
    """A worker's connection to one node.

    Attributes:
        attempts: that it runs for this node.
        leaving: it takes nothing new.
    """

    deployment: str
    name: str
    attempts: int
    leaving: bool


class NodeWorkers(msgspec.Struct, frozen=True):
    """The workers that are connected to a node."""

    workers: list[ConnectedWorker]


class Workers(msgspec.Struct, frozen=True):
    """The workers of the cluster, by deployment, and the nodes that did not tell."""

    by_deployment: Mapping[str, list[WorkerView]]
    missing: list[Missing]

    def of(self, deployment: str) -> list[WorkerView]:
        """Those of a deployment, by name."""
        return self.by_deployment.get(deployment, [])

    def taking(self, deployment: str) -> int:
        """How many of a deployment take work."""
        return sum(1 for worker in self.of(deployment) if not worker.leaving)

    def leaving(self, deployment: str) -> int:
        """How many of a deployment finish what they have."""
        return sum(1 for worker in self.of(deployment) if worker.leaving)


class WorkersApi:
    """Finds the workers of this node, and of all."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it answers for the whole cluster."""
        self._view = view
        self._reach = reach

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [Route("GET", PATH, self._tell)]

    async def everywhere(self) -> Workers:
        """The workers of all nodes that are not dead. Cancelling is safe."""
        gathered = await self._reach.of_nodes(Question("GET", PATH), NodeWorkers, self._here)
        merged = _merged(answer.workers for answer in gathered.answers)
        return Workers(merged, gathered.missing)

    async def _tell(self, request: Request) -> NodeWorkers:
        Parameters(request.query, ())
        return await self._here()

    async def _here(self) -> NodeWorkers:
        invoker = self._view.manager.invoker
        return NodeWorkers(
            [
                ConnectedWorker(
                    session.deployment, session.worker, len(session.attempts), session.draining
                )
                for session in (*invoker.sessions, *invoker.draining)
            ]
        )


def _merged(nodes: Iterable[list[ConnectedWorker]]) -> dict[str, list[WorkerView]]:
    """Each worker once, with what it does for all nodes.

    Workers are told apart by their names, and those of one name by how many of them one node has.
    As long as a worker takes work of one node, it is not leaving.
    """
    found: dict[tuple[str, str, int], WorkerView] = {}
    for workers in nodes:
        of_name: Counter[tuple[str, str]] = Counter()
        for worker in sorted(workers, key=lambda item: item.leaving):
            name = worker.deployment, worker.name
            identity = *name, of_name[name]
            of_name[name] += 1
            known = found.get(identity)
            found[identity] = WorkerView(
                worker.name,
                worker.attempts + (0 if known is None else known.attempts),
                worker.leaving and (known is None or known.leaving),
            )
    by_deployment: dict[str, list[WorkerView]] = {}
    for (deployment, _, _), view in sorted(found.items(), key=lambda item: item[0]):
        by_deployment.setdefault(deployment, []).append(view)
    return by_deployment
