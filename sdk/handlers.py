"""One handler: its function, what it takes and gives, and its line in the manifest."""

import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec

from ..core.protocol.session import (
    NO_OPTIONS,
    HandlerKind,
    HandlerManifest,
    HandlingOptions,
    ServiceKind,
)
from .errors import (
    HandlerSignatureError,
    NotAHandlerError,
    SerializationError,
    TerminalError,
)
from .handling import ContextManagers
from .serde import (
    BYTES,
    JSON_CONTENT_TYPE,
    DefaultSerde,
    Serde,
    content_type_of,
    needs_bytes,
    serde_of,
)
from .source_lines import function_line

CODE_MALFORMED_INPUT: Final = 400
HandlerKindName = Literal["exclusive", "shared"]

_HANDLER_ATTRIBUTE: Final = "__perdure_handler__"


class HandlerSettings(msgspec.Struct, frozen=True):
    """What a decorator was given for one handler, checked.

    Attributes:
        timeout: how long a whole invocation may take; None is for ever.
        context_managers: entered around every attempt, in this order, its service's first.
    """

    input_serde: Serde[Any]
    output_serde: Serde[Any]
    accept: str
    content_type: str
    options: HandlingOptions = NO_OPTIONS
    metadata: dict[str, str] | None = None
    timeout: timedelta | None = None
    context_managers: ContextManagers = ()


class Handler:
    """A handler, looked up once and ready to be called.

    Attributes:
        service_name: of the service it was added to.
        service_kind: how that service is keyed.
        kind: how its invocations exclude one another; None in plain services.
        target: ``Service/handler``, for messages.
        function: what the user wrote.
        is_async: whether the function is ``async def``; a ``def`` runs in a thread.
        timeout: how long a whole invocation may take; None is for ever.
        context_managers: entered around every attempt, in this order.
        context_class: what makes its context; None until the first attempt has looked it up.
        takes_input: whether it has a second parameter.
        empty_input_means_default: no bytes: call it without the argument, which has a default.
    """

    __slots__ = (
        "_run",
        "context_class",
        "context_managers",
        "empty_input_means_default",
        "function",
        "input_content_type",
        "input_serde",
        "is_async",
        "kind",
        "name",
        "output_content_type",
        "output_serde",
        "service_kind",
        "service_name",
        "settings",
        "takes_input",
        "target",
        "timeout",
    )

    def __init__(
        self,
        service_name: str,
        service_kind: ServiceKind,
        name: str,
        function: Callable[..., Any],
        kind: HandlerKind | None,
        settings: HandlerSettings,
    ) -> None:
        """Check the function's signature. Raises HandlerSignatureError."""
        self.service_name = service_name
        self.service_kind = service_kind
        self.name = name
        self.target = f"{service_name}/{name}"
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.kind = kind
        self.context_class: Any = None
        self.settings = settings
        self.timeout = settings.timeout
        self.context_managers = settings.context_managers
        self._run = self._run_within if self.context_managers else function
        where = function_line(function)
        if self.context_managers and not self.is_async:
            raise HandlerSignatureError(
                f"{where}: handler {self.target} is a `def`, which invocation_context_managers "
                "cannot go around; make it `async def`"
            )
        parameter, returns = _signature(function, self.target, where)
        self.takes_input = parameter is not None
        self.empty_input_means_default = (
            parameter is not None and parameter.default is not inspect.Parameter.empty
        )
        try:
            self.input_serde = _chosen(
                settings.input_serde, type(None) if parameter is None else parameter.annotation
            )
            self.output_serde = _chosen(
                settings.output_serde, type(None) if returns is None else returns
            )
        except SerializationError as error:
            raise HandlerSignatureError(f"{where}: handler {self.target}: {error}") from None
        self.input_content_type = _content_type(settings.accept, self.input_serde)
        self.output_content_type = _content_type(settings.content_type, self.output_serde)

    def call(self, context: Any, body: bytes) -> Any:
        """What one run gives: the coroutine of an ``async def``, the result of a ``def``.

        Raises TerminalError 400 when the body is not what it takes.
        """
        if not self.takes_input or (self.empty_input_means_default and not body):
            return self._run(context)
        serde = self.input_serde
        if serde is BYTES:
            return self._run(context, body)
        try:
            value = serde.deserialize(body)
        except Exception as error:
            raise TerminalError(
                f"malformed input for {self.target}: {_first_sentence(error)}"
                + ("" if body else " (the body is empty)")
                + f"; send what the handler's annotation asks for [{SerializationError.code}]",
                CODE_MALFORMED_INPUT,
            ) from error
        return self._run(context, value)

    async def _run_within(self, *arguments: Any) -> Any:
        async with AsyncExitStack() as stack:
            for manager in self.context_managers:
                await stack.enter_async_context(manager())
            return await self.function(*arguments)

    def manifest(self) -> HandlerManifest:
        """How it is announced."""
        return HandlerManifest(
            self.name,
            self.kind,
            self.input_content_type,
            self.output_content_type,
            input_required=(
                self.takes_input
                and not self.empty_input_means_default
                and needs_bytes(self.input_serde)
            ),
            options=self.settings.options,
            documentation=inspect.getdoc(self.function),
            metadata=self.settings.metadata,
        )


def _signature(
    function: Callable[..., Any], target: str, where: str
) -> tuple[inspect.Parameter | None, Any]:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise HandlerSignatureError(
            f"{where}: handler {target} is a generator; return one value instead of yielding many"
        )
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception as error:
        raise HandlerSignatureError(
            f"{where}: an annotation of handler {target} cannot be resolved: {error}"
        ) from None
    parameters = list(signature.parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not 1 <= len(parameters) <= 2 or any(each.kind not in positional for each in parameters):
        raise HandlerSignatureError(
            f"{where}: handler {target} takes {signature}; it must take a context and at most one "
            "argument, as in `async def greet(ctx: Context, name: str)`"
        )
    return (parameters[1] if len(parameters) == 2 else None), signature.return_annotation


def _chosen(given: Serde[Any], annotation: Any) -> Serde[Any]:
    if not isinstance(given, DefaultSerde):
        return given
    return serde_of(annotation if given.type_hint is None else given.type_hint)


def _content_type(given: str, serde: Serde[Any]) -> str | None:
    return content_type_of(serde) if given == JSON_CONTENT_TYPE else given


def _first_sentence(error: Exception) -> str:
    if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
        return f"not JSON: {error}"
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic: one line for the first of what it found
        try:
            first = errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            return f"{first['msg']} - at `$.{path}`" if path else str(first["msg"])
        except (LookupError, TypeError):
            pass
    return str(error) or repr(error)


def register(function: Callable[..., Any], handler: Handler) -> None:
    """Let `handler_of` find the handler of a function; a later one takes the place."""
    vars(getattr(function, "__func__", function))[_HANDLER_ATTRIBUTE] = handler


def handler_of(function: Callable[..., Any]) -> Handler:
    """The handler that a function was made by a decorator; callers name handlers by function.

    Raises NotAHandlerError.
    """
    try:
        handler: Handler = vars(getattr(function, "__func__", function))[_HANDLER_ATTRIBUTE]
    except (TypeError, KeyError):
        name = getattr(function, "__qualname__", None) or repr(function)
        raise NotAHandlerError(
            f"{function_line(function)}: {name} is no handler; decorate it: `@service.handler()`"
            " or `@workflow.main()`, or call by name with the generic_ methods"
        ) from None
    return handler
