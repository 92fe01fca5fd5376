"""The deployments over admin REST: which code is there, who runs it, what still needs it."""

import asyncio
from collections import Counter
from typing import Final, Literal
from urllib.parse import urlencode

import msgspec

from ...partition_processor.deployments import Deployment
from ...partition_processor.manager import PartitionManager
from ...partition_processor.tables.invocations import STATUS_COMPLETED
from ..elsewhere import Question
from ..errors import NoSuchResourceError
from ..view import AdminView
from .invocation_scan import confirm_leads, scan
from .missing import Missing
from .pacing import Pacer
from .parameters import Parameters, partitions_text
from .reach import Led, Reach, asked_partitions
from .routes import Request, Route
from .service_answers import (
    DeploymentDetail,
    DeploymentList,
    DeploymentRow,
    OfferedService,
)
from .services import KIND_TEXTS
from .times import time_text
from .workers import Workers, WorkersApi

COUNTED_MAX: Final = 200_000
"""So many invocations of a node are looked at to count those that are pinned."""
PINNED_PATH: Final = "/led/pinned"
"""Where another node asks for those of the partitions that this one leads."""
_TEXT_SHOWN: Final = 64


class LedPinned(Led, frozen=True, kw_only=True):
    """Of one node's partitions, how many invocations can go on on each deployment only.

    Attributes:
        all_counted: whether every invocation was looked at.
    """

    pinned: dict[str, int]
    all_counted: bool


class Pinned(msgspec.Struct, frozen=True):
    """The same of the cluster, and what could not be asked."""

    counts: Counter[str]
    all_counted: bool
    missing: list[Missing]


class DeploymentsApi:
    """``/deployments`` and what lies below it."""

    def __init__(self, view: AdminView, reach: Reach, workers: WorkersApi) -> None:
        """Take the node, how it answers for the whole cluster, and where workers are found."""
        self._view = view
        self._reach = reach
        self._workers = workers

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/deployments", self.list_deployments),
            Route("GET", "/deployments/{deployment}", self.describe),
        ]

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [Route("GET", PINNED_PATH, self._tell_pinned)]

    async def list_deployments(self, request: Request) -> DeploymentList:
        """Every deployment that was ever announced."""
        Parameters(request.query, ())
        workers = await self._workers.everywhere()
        pinned = await self._pinned_everywhere()
        return DeploymentList(
            [
                self._row(deployment, pinned, workers)
                for deployment in self._view.manager.schema.deployments
            ],
            [*workers.missing, *pinned.missing],
        )

    async def describe(self, request: Request) -> DeploymentDetail:
        """One deployment with its workers and services. Raises NoSuchResourceError."""
        Parameters(request.query, ())
        (name,) = request.parts
        manager = self._view.manager
        deployment = find_deployment(manager, name)
        if deployment is None:
            raise NoSuchResourceError(
                f"no deployment {name[:_TEXT_SHOWN]!r} is known; GET /deployments lists them"
            )
        workers = await self._workers.everywhere()
        pinned = await self._pinned_everywhere()
        return DeploymentDetail(
            deployment=self._row(deployment, pinned, workers),
            workers=workers.of(name),
            missing=[*workers.missing, *pinned.missing],
            services=[
                OfferedService(
                    name=service.name,
                    kind=KIND_TEXTS[service.ty],
                    latest=manager.targets.deployment(service.name) == name,
                    handlers=[handler.name for handler in service.handlers],
                )
                for service in deployment.services
            ],
        )

    async def _pinned_everywhere(self) -> Pinned:
        """The pinned invocations of the whole cluster."""
        gathered = await self._reach.of_partitions(
            range(len(self._view.manager.processors)),
            lambda partitions: Question(
                "GET", PINNED_PATH, urlencode({"partitions": partitions_text(partitions)})
            ),
            LedPinned,
            self._count_pinned,
        )
        counts: Counter[str] = Counter()
        for answer in gathered.answers:
            counts.update(answer.pinned)
        all_counted = not gathered.missing and all(item.all_counted for item in gathered.answers)
        return Pinned(counts, all_counted, gathered.missing)

    async def _tell_pinned(self, request: Request) -> LedPinned:
        parameters = Parameters(request.query, ("partitions",))
        return await self._count_pinned(asked_partitions(self._view, parameters))

    async def _count_pinned(self, partitions: list[int]) -> LedPinned:
        """Those of the partitions that this node leads."""
        manager = self._view.manager
        told = await confirm_leads(manager, partitions)
        pinned: Counter[str] = Counter()
        looked_at = 0
        pacer = Pacer(asyncio.get_running_loop())
        async for found in scan(manager, pacer, partitions=told):
            if looked_at == COUNTED_MAX:
                return LedPinned(told=told, pinned=dict(pinned), all_counted=False)
            looked_at += 1
            invocation = found.invocation
            if invocation.deployment is not None and invocation.status != STATUS_COMPLETED:
                pinned[invocation.deployment] += 1
        return LedPinned(told=told, pinned=dict(pinned), all_counted=True)

    def _row(self, deployment: Deployment, pinned: Pinned, workers: Workers) -> DeploymentRow:
        manager = self._view.manager
        name = deployment.name
        services = [service.name for service in deployment.services]
        status: Literal["active", "draining", "drained"] = "draining"
        if any(manager.targets.deployment(service) == name for service in services):
            status = "active"
        elif pinned.all_counted and not pinned.counts[name]:
            status = "drained"
        return DeploymentRow(
            name=name,
            status=status,
            workers=workers.taking(name),
            leaving_workers=workers.leaving(name),
            pinned=pinned.counts[name],
            pinned_all_counted=pinned.all_counted,
            services=services,
            registered=time_text(deployment.registered_ns),
            code_hash=deployment.code_hash,
        )


def find_deployment(manager: PartitionManager, name: str) -> Deployment | None:
    """The deployment of a name, None when none was announced."""
    for deployment in manager.schema.deployments:
        if deployment.name == name:
            return deployment
    return None
