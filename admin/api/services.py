"""The services over admin REST: what can be called, and how calls are handled."""

from typing import Final

from ...core.protocol.session import HandlerManifest, ServiceKind, ServiceManifest
from ...core.quantities import format_duration
from ...partition_processor.deployments import Deployment, Target
from ...partition_processor.handling import Handling
from ...partition_processor.manager import PartitionManager
from ...partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_OBJECT_SHARED,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
)
from ..errors import NoSuchResourceError
from ..view import AdminView
from .parameters import Parameters
from .routes import Request, Route
from .service_answers import HandlerOptions, HandlerView, ServiceDetail, ServiceList, ServiceRow
from .workers import WorkersApi

KIND_TEXTS: Final = {
    ServiceKind.SERVICE: "service",
    ServiceKind.VIRTUAL_OBJECT: "virtual object",
    ServiceKind.WORKFLOW: "workflow",
}
HANDLER_KIND_TEXTS: Final = {
    KIND_SERVICE: "service",
    KIND_OBJECT_EXCLUSIVE: "exclusive",
    KIND_OBJECT_SHARED: "shared",
    KIND_WORKFLOW_RUN: "run",
    KIND_WORKFLOW_SHARED: "shared",
}
_TEXT_SHOWN: Final = 64


class ServicesApi:
    """``/services`` and what lies below it."""

    def __init__(self, view: AdminView, workers: WorkersApi) -> None:
        """Take the node, and where the workers of the cluster are found."""
        self._view = view
        self._workers = workers

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/services", self.list_services),
            Route("GET", "/services/{service}", self.describe),
        ]

    async def list_services(self, request: Request) -> ServiceList:
        """Every service that some deployment offers, as its newest one does."""
        Parameters(request.query, ())
        manager = self._view.manager
        workers = await self._workers.everywhere()
        rows = []
        for name in manager.targets.service_names():
            deployment, manifest = _offer(manager, name)
            rows.append(
                ServiceRow(
                    name=name,
                    kind=KIND_TEXTS[manifest.ty],
                    public=not manifest.options.ingress_private,
                    deployment=deployment.name,
                    workers=workers.taking(deployment.name),
                    handlers=[handler.name for handler in manifest.handlers],
                )
            )
        return ServiceList(rows, workers.missing)

    async def describe(self, request: Request) -> ServiceDetail:
        """One service with its handlers. Raises NoSuchResourceError."""
        Parameters(request.query, ())
        (name,) = request.parts
        manager = self._view.manager
        handlers = manager.targets.handlers(name)
        if handlers is None:
            known = ", ".join(manager.targets.service_names()[:20]) or "none at all"
            raise NoSuchResourceError(
                f"no deployment offers a service {name[:_TEXT_SHOWN]!r}; there are: {known}"
            )
        deployment, manifest = _offer(manager, name)
        workers = await self._workers.everywhere()
        return ServiceDetail(
            name=name,
            kind=KIND_TEXTS[manifest.ty],
            public=not manifest.options.ingress_private,
            deployment=deployment.name,
            workers=workers.taking(deployment.name),
            documentation=manifest.documentation,
            metadata=manifest.metadata or {},
            handlers=[
                _handler_view(handler, handlers[handler.name]) for handler in manifest.handlers
            ],
            missing=workers.missing,
        )


def _offer(manager: PartitionManager, service: str) -> tuple[Deployment, ServiceManifest]:
    """The deployment that new invocations of a known service run on, and what it announced."""
    name = manager.targets.deployment(service)
    for deployment in manager.schema.deployments:
        if deployment.name == name:
            for manifest in deployment.services:
                if manifest.name == service:
                    return deployment, manifest
    raise AssertionError(f"nobody offers the known service {service!r}")


def _handler_view(manifest: HandlerManifest, target: Target) -> HandlerView:
    return HandlerView(
        name=manifest.name,
        kind=HANDLER_KIND_TEXTS[target.target_kind],
        public=not target.handling.private,
        input=manifest.input_content_type,
        input_required=manifest.input_required,
        output=manifest.output_content_type,
        documentation=manifest.documentation,
        metadata=manifest.metadata or {},
        options=_options(target.handling),
    )


def _duration(nanoseconds: int) -> str:
    # What a worker announces is not bound to make sense.
    return format_duration(max(0, nanoseconds))


def _options(handling: Handling) -> HandlerOptions:
    retry = handling.retry
    return HandlerOptions(
        retry_initial_interval=_duration(retry.initial_interval_ns),
        retry_factor=retry.factor,
        retry_max_interval=_duration(retry.interval_max_ns),
        retry_max_attempts=retry.attempts_max,
        on_max_attempts="pause" if handling.pause_when_exhausted else "kill",
        inactivity_timeout=_duration(handling.inactivity_timeout_ns),
        abort_timeout=_duration(handling.abort_timeout_ns),
        result_retention=_duration(handling.completion_retention_ns),
        journal_retention=_duration(handling.journal_retention_ns),
        plain_retention=_duration(handling.plain_retention_ns),
        lazy_state=handling.lazy_state,
    )
