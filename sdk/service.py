"""Services and virtual objects: what users hang their handlers on."""

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal, TypeVar

from ..core.protocol.session import HandlerKind, ServiceKind, ServiceManifest
from .errors import DuplicateServiceError, HandlerSignatureError, NoServicesError
from .handlers import Handler, HandlerKindName, refuse_options, register
from .serde import DEFAULT, JSON_CONTENT_TYPE, Serde
from .source_lines import caller_line, function_line

F = TypeVar("F", bound=Callable[..., Any])
ContextManagers = list[Callable[[], AbstractAsyncContextManager[None]]]

_KINDS: Final = {"exclusive": HandlerKind.EXCLUSIVE, "shared": HandlerKind.SHARED}


class _Handlers:
    """What services and virtual objects have in common."""

    kind: ClassVar[ServiceKind]

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
        invocation_retry_policy: Any = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> None:
        """Take the name that callers use. Raises UnsupportedOptionError for timeouts and such."""
        refuse_options(
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "idempotency_retention": idempotency_retention,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
                "invocation_context_managers": invocation_context_managers,
            },
            caller_line(sys._getframe(1)),
        )
        self._name = name
        self.description = description
        self.metadata = metadata
        self.handlers: dict[str, Handler] = {}

    @property
    def name(self) -> str:
        """The name that callers use."""
        return self._name

    def manifest(self) -> ServiceManifest:
        """How the service is announced."""
        handlers = tuple(handler.manifest() for handler in self.handlers.values())
        return ServiceManifest(self.name, self.kind, handlers)

    def _add(
        self,
        function: F,
        name: str | None,
        kind: HandlerKind | None,
        serdes: tuple[Serde[Any], Serde[Any]],
        content_types: tuple[str, str],
        options: dict[str, Any],
    ) -> F:
        where = function_line(function)
        refuse_options(options, where)
        handler_name = name or str(getattr(function, "__name__", ""))
        if handler_name in self.handlers:
            raise HandlerSignatureError(
                f"{where}: {self.name} has a handler {handler_name} already; give this one another "
                "name"
            )
        handler = Handler(
            self.name, self.kind, handler_name, function, kind, *serdes, *content_types
        )
        self.handlers[handler_name] = handler
        register(function, handler)
        return function


class Service(_Handlers):
    """A service: handlers that share nothing but a name."""

    kind = ServiceKind.SERVICE

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
        invocation_retry_policy: Any = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> Callable[[F], F]:
        """Make a function a handler: ``async def handler(ctx: Context, argument: T) -> R``.

        The function itself is returned. Raises HandlerSignatureError and UnsupportedOptionError.
        """
        options = {
            "inactivity_timeout": inactivity_timeout,
            "abort_timeout": abort_timeout,
            "journal_retention": journal_retention,
            "idempotency_retention": idempotency_retention,
            "ingress_private": ingress_private,
            "invocation_retry_policy": invocation_retry_policy,
            "invocation_context_managers": invocation_context_managers,
        }

        def decorate(function: F) -> F:
            serdes = (input_serde, output_serde)
            return self._add(function, name, None, serdes, (accept, content_type), options)

        return decorate


class VirtualObject(_Handlers):
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
        invocation_retry_policy: Any = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> None:
        """Take the name that callers use. Raises UnsupportedOptionError for timeouts and such."""
        refuse_options(
            {"enable_lazy_state": enable_lazy_state, "state_preload": state_preload},
            caller_line(sys._getframe(1)),
        )
        super().__init__(
            name,
            description,
            metadata,
            inactivity_timeout,
            abort_timeout,
            journal_retention,
            idempotency_retention,
            ingress_private,
            invocation_retry_policy,
            invocation_context_managers,
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
        invocation_retry_policy: Any = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> Callable[[F], F]:
        """Make a function a handler: ``async def handler(ctx: ObjectContext, argument: T) -> R``.

        An exclusive handler is the only one of its key while it runs; shared ones run beside it
        and read only. The function itself is returned. Raises HandlerSignatureError and
        UnsupportedOptionError.
        """
        options = {
            "inactivity_timeout": inactivity_timeout,
            "abort_timeout": abort_timeout,
            "journal_retention": journal_retention,
            "idempotency_retention": idempotency_retention,
            "enable_lazy_state": enable_lazy_state,
            "state_preload": state_preload,
            "ingress_private": ingress_private,
            "invocation_retry_policy": invocation_retry_policy,
            "invocation_context_managers": invocation_context_managers,
        }

        def decorate(function: F) -> F:
            lock = _KINDS.get(kind or "exclusive")
            if lock is None:
                raise HandlerSignatureError(
                    f"{function_line(function)}: kind is 'exclusive' or 'shared', not {kind!r}"
                )
            serdes = (input_serde, output_serde)
            return self._add(function, name, lock, serdes, (accept, content_type), options)

        return decorate


class App:
    """The services that one worker offers together.

    Attributes:
        services: by name, in the order given.
    """

    def __init__(self, services: Iterable[Service | VirtualObject]) -> None:
        """Take the services. Raises DuplicateServiceError, and NoServicesError for none."""
        self.services: dict[str, Service | VirtualObject] = {}
        for service in services:
            if not isinstance(service, Service | VirtualObject):
                raise NoServicesError(
                    f"{service!r} is no service; give Service and VirtualObject instances"
                )
            if self.services.get(service.name, service) is not service:
                raise DuplicateServiceError(
                    f"two services are named {service.name!r}; names are what callers use, so "
                    "rename one"
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
    services: Iterable[Service | VirtualObject],
    protocol: Literal["bidi", "request_response"] | None = None,
    identity_keys: list[str] | None = None,
    journal_value_codec: Any = None,
) -> App:
    """Put services together; `protocol` is taken for compatibility, a worker dials out.

    Raises DuplicateServiceError, NoServicesError, and UnsupportedOptionError for keys and codecs.
    """
    refuse_options(
        {"identity_keys": identity_keys or None, "journal_value_codec": journal_value_codec},
        caller_line(sys._getframe(1)),
    )
    return App(services)
