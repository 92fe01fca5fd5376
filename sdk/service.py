"""Services and virtual objects: what users hang their handlers on."""

import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal, TypeVar

from ..core.protocol.session import HandlerKind, ServiceKind, ServiceManifest
from .entry_codec import JournalValueCodec, JournalValueCodecProvider
from .errors import (
    DuplicateServiceError,
    HandlerSignatureError,
    InvalidOptionError,
    NoServicesError,
)
from .handlers import Handler, HandlerKindName, HandlerSettings, register
from .handling import (
    ContextManagers,
    check_handler_name,
    check_service_name,
    checked_managers,
    checked_texts,
    checked_timeout,
    handling_options,
    refuse_unsupported,
)
from .retry_policy import InvocationRetryPolicy
from .serde import DEFAULT, JSON_CONTENT_TYPE, Serde
from .source_lines import caller_line, function_line

F = TypeVar("F", bound=Callable[..., Any])

_KINDS: Final = {"exclusive": HandlerKind.EXCLUSIVE, "shared": HandlerKind.SHARED}


class ServiceBase:
    """What services, virtual objects and workflows have in common.

    Attributes:
        kind: how its handlers are keyed.
        description: what it is for, for people who look at it.
        metadata: texts that are shown along with it.
        handlers: by name, in the order of their decoration.
    """

    kind: ClassVar[ServiceKind]

    def _set_up(
        self,
        name: str,
        description: str | None,
        metadata: dict[str, str] | None,
        managers: ContextManagers | None,
        options: dict[str, Any],
    ) -> None:
        where = caller_line(sys._getframe(2))
        check_service_name(where, name)
        owner = f"service {name}"
        checked_texts(where, owner, description, metadata)
        self._name = name
        self.description = description
        self.metadata = metadata
        self.handlers: dict[str, Handler] = {}
        self._options = handling_options(where, owner, options)
        self._managers = checked_managers(where, owner, managers)

    @property
    def name(self) -> str:
        """The name that callers use."""
        return self._name

    @property
    def main_handler(self) -> Handler | None:
        """The one that a workflow's run is; None where there is none."""
        for handler in self.handlers.values():
            if handler.kind is HandlerKind.WORKFLOW:
                return handler
        return None

    def manifest(self) -> ServiceManifest:
        """How the service is announced."""
        return ServiceManifest(
            self.name,
            self.kind,
            tuple(handler.manifest() for handler in self.handlers.values()),
            self._options,
            self.description,
            self.metadata,
        )

    def _decorator(
        self,
        name: str | None,
        kind: HandlerKind | None,
        formats: tuple[Serde[Any], Serde[Any], str, str],
        metadata: dict[str, str] | None,
        timeout: timedelta | None,
        managers: ContextManagers | None,
        options: dict[str, Any],
    ) -> Callable[[F], F]:
        def decorate(function: F) -> F:
            where = function_line(function)
            handler_name = name or str(getattr(function, "__name__", ""))
            owner = f"handler {self.name}/{handler_name}"
            check_handler_name(where, self.name, handler_name)
            self._check_addition(where, handler_name, kind, options)
            checked_texts(where, owner, None, metadata)
            own_managers = checked_managers(where, owner, managers)
            settings = HandlerSettings(
                *formats,
                handling_options(where, owner, options),
                metadata,
                checked_timeout(where, owner, timeout),
                (*self._managers, *own_managers),
            )
            handler = Handler(self.name, self.kind, handler_name, function, kind, settings)
            self.handlers[handler_name] = handler
            register(function, handler)
            return function

        return decorate

    def _check_addition(
        self, where: str, name: str, kind: HandlerKind | None, options: dict[str, Any]
    ) -> None:
        if name in self.handlers:
            raise HandlerSignatureError(
                f"{where}: {self.name} has a handler {name} already; give this one another name"
            )
        if kind is HandlerKind.WORKFLOW and self.main_handler is not None:
            raise HandlerSignatureError(
                f"{where}: workflow {self.name} has the main handler {self.main_handler.name} "
                "already; decorate this one with `.handler()`"
            )
        if self._options.ingress_private and options.get("ingress_private") is False:
            raise InvalidOptionError(
                f"{where}: option ingress_private of handler {self.name}/{name} cannot be False "
                "where the service has it True; make the other handlers private one by one"
            )


class Service(ServiceBase):
    """A service: handlers that share nothing but a name."""

    kind = ServiceKind.SERVICE

    def __init__(
        self,
        name: str,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> None:
        """Take the name that callers use, and options that hold for all handlers.

        Raises InvalidOptionError and UnsupportedOptionError.
        """
        self._set_up(
            name,
            description,
            metadata,
            invocation_context_managers,
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "idempotency_retention": idempotency_retention,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
            },
        )

    def handler(
        self,
        name: str | None = None,
        accept: str = JSON_CONTENT_TYPE,
        content_type: str = JSON_CONTENT_TYPE,
        input_serde: Serde[Any] = DEFAULT,
        output_serde: Serde[Any] = DEFAULT,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
        *,
        timeout: timedelta | None = None,
    ) -> Callable[[F], F]:
        """Make a function a handler: ``async def handler(ctx: Context, argument: T) -> R``.

        A plain ``def`` runs in a thread. `timeout` bounds the whole invocation. The function itself
        is returned. Raises HandlerSignatureError, InvalidOptionError and UnsupportedOptionError.
        """
        return self._decorator(
            name,
            None,
            (input_serde, output_serde, accept, content_type),
            metadata,
            timeout,
            invocation_context_managers,
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "idempotency_retention": idempotency_retention,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
            },
        )


class VirtualObject(ServiceBase):
    """A virtual object: handlers with a key, state under that key, and one writer at a time."""

    kind = ServiceKind.VIRTUAL_OBJECT

    def __init__(
        self,
        name: str,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        enable_lazy_state: bool | None = None,
        state_preload: bool | list[str] | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> None:
        """Take the name that callers use, and options that hold for all handlers.

        `state_preload` says whether all state is sent along with each attempt (True, the default)
        or read key by key (False); `enable_lazy_state` is its opposite, kept for older code.
        Raises InvalidOptionError and UnsupportedOptionError.
        """
        self._set_up(
            name,
            description,
            metadata,
            invocation_context_managers,
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "idempotency_retention": idempotency_retention,
                "enable_lazy_state": enable_lazy_state,
                "state_preload": state_preload,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
            },
        )

    def handler(
        self,
        name: str | None = None,
        kind: HandlerKindName | None = "exclusive",
        accept: str = JSON_CONTENT_TYPE,
        content_type: str = JSON_CONTENT_TYPE,
        input_serde: Serde[Any] = DEFAULT,
        output_serde: Serde[Any] = DEFAULT,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        enable_lazy_state: bool | None = None,
        state_preload: bool | list[str] | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
        *,
        timeout: timedelta | None = None,
    ) -> Callable[[F], F]:
        """Make a function a handler: ``async def handler(ctx: ObjectContext, argument: T) -> R``.

        An exclusive handler is the only one of its key while it runs; shared ones run beside it
        and read only. `timeout` bounds the whole invocation. The function itself is returned.
        Raises HandlerSignatureError, InvalidOptionError and UnsupportedOptionError.
        """
        return self._decorator(
            name,
            _kind_named(kind),
            (input_serde, output_serde, accept, content_type),
            metadata,
            timeout,
            invocation_context_managers,
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "idempotency_retention": idempotency_retention,
                "enable_lazy_state": enable_lazy_state,
                "state_preload": state_preload,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
            },
        )


def _kind_named(name: object) -> HandlerKind:
    kind = _KINDS.get("exclusive" if name is None else name)  # type: ignore[call-overload]
    if kind is None:
        raise InvalidOptionError(
            f"{caller_line(sys._getframe(1))}: option kind takes 'exclusive' or 'shared', not "
            f"{name!r}"
        )
    return kind  # type: ignore[no-any-return]


class App:
    """The services that one worker offers together.

    Attributes:
        services: by name, in the order given.
    """

    def __init__(self, services: Iterable[ServiceBase]) -> None:
        """Take the services.

        Raises DuplicateServiceError, NoServicesError for none, and HandlerSignatureError for a
        workflow without its main handler.
        """
        self.services: dict[str, ServiceBase] = {}
        for service in services:
            if not isinstance(service, ServiceBase):
                raise NoServicesError(
                    f"{service!r} is no service; give instances of Service, VirtualObject and "
                    "Workflow"
                )
            if self.services.get(service.name, service) is not service:
                raise DuplicateServiceError(
                    f"two services are named {service.name!r}; names are what callers use, so "
                    "rename one"
                )
            if service.kind is ServiceKind.WORKFLOW and service.main_handler is None:
                raise HandlerSignatureError(
                    f"workflow {service.name} has no main handler; decorate the function that it "
                    "runs with `.main()`"
                )
            self.services[service.name] = service
        if not self.services:
            raise NoServicesError("the app has no services; give it at least one")

    def manifest(self) -> tuple[ServiceManifest, ...]:
        """How the services are announced."""
        return tuple(service.manifest() for service in self.services.values())

    def handler_table(self) -> dict[tuple[str, str], Handler]:
        """Every handler by service and handler name."""
        return {
            (service.name, handler.name): handler
            for service in self.services.values()
            for handler in service.handlers.values()
        }


def app(
    services: Iterable[ServiceBase],
    protocol: Literal["bidi", "request_response"] | None = None,
    identity_keys: list[str] | None = None,
    journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
) -> App:
    """Put services together; `protocol` is taken for compatibility, a worker dials out.

    Raises DuplicateServiceError, NoServicesError, HandlerSignatureError for a workflow without its
    main handler, and UnsupportedOptionError for keys and codecs.
    """
    refuse_unsupported(
        caller_line(sys._getframe(1)),
        {"identity_keys": identity_keys or None, "journal_value_codec": journal_value_codec},
    )
    return App(services)
