"""One handler: its function, what it takes and gives, and its line in the manifest."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec

from ..core.protocol.session import HandlerKind, HandlerManifest, ServiceKind
from .errors import (
    HandlerSignatureError,
    NotAHandlerError,
    SerializationError,
    TerminalError,
    UnsupportedOptionError,
)
from .serde import BYTES, JSON_CONTENT_TYPE, DefaultSerde, Serde, content_type_of, serde_of
from .source_lines import function_line

CODE_MALFORMED_INPUT: Final = 400
HandlerKindName = Literal["exclusive", "shared"]
ContextManagers = Sequence[Callable[[], AbstractAsyncContextManager[None]]]

_HANDLER_ATTRIBUTE: Final = "__perdure_handler__"


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
        takes_input: whether it has a second parameter.
        empty_input_means_default: no bytes: call it without the argument, which has a default.
    """

    __slots__ = (
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
        input_serde: Serde[Any],
        output_serde: Serde[Any],
        accept: str,
        content_type: str,
        timeout: timedelta | None = None,
        context_managers: ContextManagers = (),
    ) -> None:
        """Check the function's signature. Raises HandlerSignatureError."""
        self.service_name = service_name
        self.service_kind = service_kind
        self.name = name
        self.target = f"{service_name}/{name}"
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.kind = kind
        self.timeout = timeout
        self.context_managers = tuple(context_managers)
        where = function_line(function)
        parameter, returns = _signature(function, self.target, where)
        self.takes_input = parameter is not None
        self.empty_input_means_default = (
            parameter is not None and parameter.default is not inspect.Parameter.empty
        )
        try:
            self.input_serde = _chosen(
                input_serde, type(None) if parameter is None else parameter.annotation
            )
            self.output_serde = _chosen(output_serde, type(None) if returns is None else returns)
        except SerializationError as error:
            raise HandlerSignatureError(f"{where}: handler {self.target}: {error}") from None
        self.input_content_type = _content_type(accept, self.input_serde)
        self.output_content_type = _content_type(content_type, self.output_serde)

    def call(self, context: Any, body: bytes) -> Any:
        """What one run gives: the coroutine of an ``async def``, the result of a ``def``.

        Raises TerminalError 400 when the body is not what it takes.
        """
        if not self.takes_input or (self.empty_input_means_default and not body):
            return self.function(context)
        serde = self.input_serde
        if serde is BYTES:
            return self.function(context, body)
        try:
            value = serde.deserialize(body)
        except Exception as error:
            raise TerminalError(
                f"malformed input for {self.target}: {_first_sentence(error)}"
                + ("" if body else " (the body is empty)")
                + f"; send what the handler's annotation asks for [{SerializationError.code}]",
                CODE_MALFORMED_INPUT,
            ) from error
        return self.function(context, value)

    def manifest(self) -> HandlerManifest:
        """How it is announced."""
        return HandlerManifest(
            self.name, self.kind, self.input_content_type, self.output_content_type
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


def refuse_options(options: dict[str, Any], where: str) -> None:
    """Raise UnsupportedOptionError for an option that was given and is not implemented."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise UnsupportedOptionError(
                f"{where}: option {name} is not supported by this release; leave it out"
            )
