"""The deployments over admin REST: which code is there, who runs it, what still needs it."""

import asyncio
from collections import Counter
from typing import Final, Literal

from ...partition_processor.deployments import Deployment
from ...partition_processor.manager import PartitionManager
from ...partition_processor.tables.invocations import STATUS_COMPLETED
from ..errors import NoSuchResourceError
from ..view import AdminView
from .invocation_scan import scan
from .pacing import Pacer
from .parameters import Parameters
from .routes import Request, Route
from .service_answers import (
    DeploymentDetail,
    DeploymentList,
    DeploymentRow,
    OfferedService,
    WorkerView,
)
from .services import KIND_TEXTS, workers_of
from .times import time_text

COUNTED_MAX: Final = 200_000
"""So many invocations are looked at to count those that are pinned."""
_TEXT_SHOWN: Final = 64


class DeploymentsApi:
    """``/deployments`` and what lies below it."""

    def __init__(self, view: AdminView) -> None:
        """Take the node."""
        self._view = view

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/deployments", self.list_deployments),
            Route("GET", "/deployments/{deployment}", self.describe),
        ]

    async def list_deployments(self, request: Request) -> DeploymentList:
        """Every deployment that was ever announced."""
        Parameters(request.query, ())
        pinned, all_counted = await self._count_pinned()
        return DeploymentList(
            [
                self._row(deployment, pinned, all_counted=all_counted)
                for deployment in self._view.manager.schema.deployments
            ]
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
        pinned, all_counted = await self._count_pinned()
        invoker = manager.invoker
        return DeploymentDetail(
            deployment=self._row(deployment, pinned, all_counted=all_counted),
            workers=[
                WorkerView(session.worker, len(session.attempts), session.draining)
                for session in (*invoker.sessions, *invoker.draining)
                if session.deployment == name
            ],
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

    async def _count_pinned(self) -> tuple[Counter[str], bool]:
        """Pinned invocations by deployment, and whether all were counted."""
        pinned: Counter[str] = Counter()
        looked_at = 0
        pacer = Pacer(asyncio.get_running_loop())
        async for found in scan(self._view.manager, pacer):
            if looked_at == COUNTED_MAX:
                return pinned, False
            looked_at += 1
            invocation = found.invocation
            if invocation.deployment is not None and invocation.status != STATUS_COMPLETED:
                pinned[invocation.deployment] += 1
        return pinned, True

    def _row(
        self, deployment: Deployment, pinned: Counter[str], *, all_counted: bool
    ) -> DeploymentRow:
        manager = self._view.manager
        name = deployment.name
        services = [service.name for service in deployment.services]
        status: Literal["active", "draining", "drained"] = "draining"
        if any(manager.targets.deployment(service) == name for service in services):
            status = "active"
        elif all_counted and not pinned[name]:
            status = "drained"
        return DeploymentRow(
            name=name,
            status=status,
            workers=workers_of(manager, name),
            leaving_workers=sum(
                1 for session in manager.invoker.draining if session.deployment == name
            ),
            pinned=pinned[name],
            pinned_all_counted=all_counted,
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
