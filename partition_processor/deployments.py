"""Which code offers which services: pure values, kept in the metadata store."""

from typing import Final

import msgspec

from ..core.errors import PerdureError
from ..core.protocol.session import HandlerKind, HandlerManifest, ServiceKind, ServiceManifest
from .records import KIND_OBJECT_EXCLUSIVE, KIND_OBJECT_SHARED, KIND_SERVICE

SCHEMA_KEY: Final = "schema"
"""The metadata key of the `Schema` value."""


class DeploymentConflictError(PerdureError):
    """Other code is registered under the same deployment identity."""

    code = "PD0903"


class ServiceKindChangedError(PerdureError):
    """A service changed between plain service and virtual object."""

    code = "PD0904"


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


class Targets:
    """What a Schema offers, ready to be looked up: the newest deployment of a service decides."""

    def __init__(self, schema: Schema) -> None:
        """Index the schema."""
        self._kinds: dict[str, ServiceKind] = {}
        self._handlers: dict[str, dict[str, Target]] = {}
        for deployment in schema.deployments:
            for service in deployment.services:
                self._kinds[service.name] = service.ty
                self._handlers[service.name] = {
                    handler.name: _target(service, handler) for handler in service.handlers
                }

    def kind(self, service: str) -> ServiceKind | None:
        """What kind of service it is, None when nobody offers it."""
        return self._kinds.get(service)

    def handlers(self, service: str) -> dict[str, Target] | None:
        """The handlers of a service by name, None when nobody offers it."""
        return self._handlers.get(service)

    def service_names(self) -> list[str]:
        """All services, sorted."""
        return sorted(self._kinds)


def _target(service: ServiceManifest, handler: HandlerManifest) -> Target:
    if service.ty is ServiceKind.SERVICE:
        kind = KIND_SERVICE
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
    )
