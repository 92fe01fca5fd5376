"""What admin REST tells about services and deployments; the command line reads the same types."""

from typing import Literal

import msgspec

from .missing import Missing


class ServiceRow(msgspec.Struct, frozen=True):
    """One service, as ``perdure services list`` shows it.

    Attributes:
        kind: ``service``, ``virtual object`` or ``workflow``.
        public: whether the front doors take calls of it.
        deployment: what new invocations run on.
        workers: of that deployment, connected to any node.
    """

    name: str
    kind: str
    public: bool
    deployment: str
    workers: int
    handlers: list[str]


class ServiceList(msgspec.Struct, frozen=True):
    """All services, by name; `missing` has the nodes that did not tell of their workers."""

    services: list[ServiceRow]
    missing: list[Missing] = []


class HandlerOptions(msgspec.Struct, frozen=True):
    """How invocations of a handler are handled, handler, service and node put together.

    Durations are texts such as ``1h30m``.

    Attributes:
        retry_max_attempts: None for no end.
        on_max_attempts: ``pause`` or ``kill``.
        result_retention: of calls with an idempotency key, or of a workflow's run.
        plain_retention: of results and journals of other calls.
    """

    retry_initial_interval: str
    retry_factor: float
    retry_max_interval: str
    retry_max_attempts: int | None
    on_max_attempts: Literal["pause", "kill"]
    inactivity_timeout: str
    abort_timeout: str
    result_retention: str
    journal_retention: str
    plain_retention: str
    lazy_state: bool


class HandlerView(msgspec.Struct, frozen=True):
    """One handler.

    Attributes:
        kind: ``service``, ``exclusive``, ``shared`` or ``run``.
        input: content type of what it takes, None for nothing.
        output: content type of what it gives, None for nothing.
    """

    name: str
    kind: str
    public: bool
    input: str | None
    input_required: bool
    output: str | None
    documentation: str | None
    metadata: dict[str, str]
    options: HandlerOptions


class ServiceDetail(msgspec.Struct, frozen=True):
    """One service in full, as ``perdure services describe`` shows it."""

    name: str
    kind: str
    public: bool
    deployment: str
    workers: int
    documentation: str | None
    metadata: dict[str, str]
    handlers: list[HandlerView]
    missing: list[Missing] = []


class DeploymentRow(msgspec.Struct, frozen=True):
    """One deployment, as ``perdure deployments list`` shows it.

    Attributes:
        status: ``active`` while new invocations run on it, ``draining`` while only old ones do,
            ``drained`` when none does.
        workers: connected to any node and taking work.
        leaving_workers: connected, finishing what they have.
        pinned: invocations that have not completed and can go on here only.
        pinned_all_counted: whether every invocation of the cluster was looked at for that.
        registered: ISO 8601.
    """

    name: str
    status: Literal["active", "draining", "drained"]
    workers: int
    leaving_workers: int
    pinned: int
    pinned_all_counted: bool
    services: list[str]
    registered: str
    code_hash: str


class DeploymentList(msgspec.Struct, frozen=True):
    """All deployments, oldest first; `missing` has what could not be asked."""

    deployments: list[DeploymentRow]
    missing: list[Missing] = []


class WorkerView(msgspec.Struct, frozen=True):
    """A connected worker; `attempts` are those that it runs for all nodes."""

    name: str
    attempts: int
    leaving: bool


class OfferedService(msgspec.Struct, frozen=True):
    """A service of a deployment; `latest` when new invocations of it run there."""

    name: str
    kind: str
    latest: bool
    handlers: list[str]


class DeploymentDetail(msgspec.Struct, frozen=True):
    """One deployment in full, as ``perdure deployments describe`` shows it."""

    deployment: DeploymentRow
    workers: list[WorkerView]
    services: list[OfferedService]
    missing: list[Missing] = []
