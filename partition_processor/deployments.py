"""Which code offers which services: pure values, kept in the metadata store."""

import re
from collections.abc import Collection
from typing import Final

import msgspec

from ..core.errors import PerdureError
from ..core.protocol.session import (
    NO_OPTIONS,
    HandlerKind,
    HandlerManifest,
    ServiceKind,
    ServiceManifest,
)
from .handling import Handling, HandlingDefaults, resolve_handling
from .records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_OBJECT_SHARED,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
)

SCHEMA_KEY: Final = "schema"
"""The metadata key of the `Schema` value."""
DEFAULTS: Final = HandlingDefaults()


class DeploymentConflictError(PerdureError):
    """Other code is registered under the same deployment identity."""

    code = "PD0903"


class ServiceKindChangedError(PerdureError):
    """A service changed between plain service and virtual object."""

    code = "PD0904"


class MalformedNameError(PerdureError):
    """A service or handler has a name that cannot be served."""

    code = "PD0908"


_SERVICE_NAME: Final = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]{0,254}")
_HANDLER_NAME: Final = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]{0,254}")


class Deployment(msgspec.Struct, frozen=True):
    """Code that was announced once; it never changes under its name.

    Attributes:
        code_hash: of the app's source, hex.
        services: what it offers.
        registered_ns: wall clock of the first announcement.
    """

    name: str
    code_hash: str
    services: tuple[ServiceManifest, ...]
    registered_ns: int


class Schema(msgspec.Struct, frozen=True):
    """All deployments, oldest first."""

    deployments: tuple[Deployment, ...] = ()

    def register(self, deployment: Deployment) -> "Schema":
        """This schema with the deployment; itself when it is there already.

        Raises DeploymentConflictError or ServiceKindChangedError.
        """
        for known in self.deployments:
            if known.name == deployment.name:
                if (known.code_hash, known.services) == (
                    deployment.code_hash,
                    deployment.services,
                ):
                    return self
                raise DeploymentConflictError(
                    f"deployment {deployment.name!r} is registered with other code (hash "
                    f"{known.code_hash[:12]}, this worker has {deployment.code_hash[:12]}): a "
                    "deployment never changes, so start the worker with a new --deployment name "
                    "or without one, which derives the name from the code"
                )
        _check_names(deployment)
        targets = Targets(self)
        for service in deployment.services:
            known_kind = targets.kind(service.name)
            if known_kind is not None and known_kind is not service.ty:
                raise ServiceKindChangedError(
                    f"service {service.name!r} is a {known_kind.value} in an earlier deployment "
                    f"and a {service.ty.value} in {deployment.name!r}: give the new one another "
                    "name"
                )
        return Schema((*self.deployments, deployment))


class Target(msgspec.Struct, frozen=True, gc=False):
    """A handler that can be called."""

    service: str
    handler: str
    target_kind: int
    input_content_type: str | None
    output_content_type: str | None
    input_required: bool
    handling: Handling


class Targets:
    """What a Schema offers, ready to be looked up.

    The newest connected deployment of a service decides, as it is the one that runs what is new;
    while none is connected, the newest of all does.
    """

    def __init__(
        self,
        schema: Schema,
        connected: Collection[str] = (),
        defaults: HandlingDefaults = DEFAULTS,
    ) -> None:
        """Index the schema; `connected` are the names of deployments that have a worker now."""
        self._kinds: dict[str, ServiceKind] = {}
        self._handlers: dict[str, dict[str, Target]] = {}
        self._deployments: dict[str, str] = {}
        self._unknown = resolve_handling(NO_OPTIONS, NO_OPTIONS, defaults, workflow_run=False)
        for deployment in sorted(schema.deployments, key=lambda item: item.name in connected):
            for service in deployment.services:
                self._kinds[service.name] = service.ty
                self._deployments[service.name] = deployment.name
                self._handlers[service.name] = {
                    handler.name: _target(service, handler, defaults)
                    for handler in service.handlers
                }

    def kind(self, service: str) -> ServiceKind | None:
        """What kind of service it is, None when nobody offers it."""
        return self._kinds.get(service)

    def handlers(self, service: str) -> dict[str, Target] | None:
        """The handlers of a service by name, None when nobody offers it."""
        return self._handlers.get(service)

    def handling(self, service: str, handler: str) -> Handling:
        """How invocations of a handler are handled; by the defaults when nobody offers it."""
        target = self._handlers.get(service, {}).get(handler)
        return self._unknown if target is None else target.handling

    def deployment(self, service: str) -> str | None:
        """The deployment that new invocations of a service run on."""
        return self._deployments.get(service)

    def service_names(self) -> list[str]:
        """All services, sorted."""
        return sorted(self._kinds)


def _check_names(deployment: Deployment) -> None:
    """Raise MalformedNameError for names that do not fit into paths and keys."""
    services = [service.name for service in deployment.services]
    for name in services:
        if _SERVICE_NAME.fullmatch(name) is None or services.count(name) > 1:
            raise MalformedNameError(
                f"service {name[:64]!r} cannot be offered: a service's name begins with a letter, "
                "goes on with letters, digits, '.', '_' and '-', has 255 characters at most and "
                "occurs once per deployment"
            )
    for service in deployment.services:
        handlers = [handler.name for handler in service.handlers]
        for name in handlers:
            if _HANDLER_NAME.fullmatch(name) is None or handlers.count(name) > 1:
                raise MalformedNameError(
                    f"handler {name[:64]!r} of {service.name!r} cannot be offered: a handler's "
                    "name begins with a letter, goes on with letters, digits and '_', has 255 "
                    "characters at most and occurs once per service"
                )


def _target(
    service: ServiceManifest, handler: HandlerManifest, defaults: HandlingDefaults
) -> Target:
    if service.ty is ServiceKind.SERVICE:
        kind = KIND_SERVICE
    elif service.ty is ServiceKind.WORKFLOW:
        # As everywhere, a workflow's handler that does not say what it is is a shared one.
        runs = handler.ty is HandlerKind.WORKFLOW
        kind = KIND_WORKFLOW_RUN if runs else KIND_WORKFLOW_SHARED
    elif handler.ty is HandlerKind.SHARED:
        kind = KIND_OBJECT_SHARED
    else:
        kind = KIND_OBJECT_EXCLUSIVE
    return Target(
        service.name,
        handler.name,
        kind,
        handler.input_content_type,
        handler.output_content_type,
        handler.input_required,
        resolve_handling(
            handler.options,
            service.options,
            defaults,
            workflow_run=kind == KIND_WORKFLOW_RUN,
        ),
    )
