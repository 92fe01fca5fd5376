"""What a handler holds of its invocation: steps, state and the request."""

from __future__ import annotations

from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

import msgspec

from ..core.ids import invocation_id_text
from ..core.protocol.messages import ENTRY_BYTES_MAX
from ..core.protocol.session import HandlerKind
from .durable_tasks import DurableFuture
from .serde import DEFAULT, JSON, DefaultSerde, Serde, serde_of, serde_of_result
from .steps import RunOptions
from .texts import short_text
from .wire import too_large

if TYPE_CHECKING:
    from .attempt import Attempt

T = TypeVar("T")
P = ParamSpec("P")

RestateDurableFuture = DurableFuture
"""What `run` and lazy reads give: a future that can be awaited, gathered and given to tasks."""

_get_running_loop = events._get_running_loop
_DEFAULT_OPTIONS: Final[RunOptions[Any]] = RunOptions()


class Request(msgspec.Struct, frozen=True):
    """The request that started the invocation.

    Attributes:
        id: the invocation's id as text.
        attempt_headers: kept for compatibility; the worker session has none.
    """

    id: str
    headers: dict[str, str]
    body: bytes
    attempt_headers: dict[str, str] = {}


class Context:
    """The context of a service's handler.

    Every method acts when it is called, not when its result is awaited, and only while the
    handler runs: a step, a thread or a finalizer that uses it gets OutsideHandlerError.
    """

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        """Speak for one attempt; made by the SDK."""
        self._attempt = attempt

    def request(self) -> Request:
        """The request: id, headers and raw body."""
        machine = self._attempt.machine
        return Request(invocation_id_text(machine.invocation_id), machine.headers, machine.input)

    @overload
    def run(
        self,
        name: str,
        action: Callable[..., Coroutine[Any, Any, T]],
        serde: Serde[T] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[T] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> RestateDurableFuture[T]: ...

    @overload
    def run(
        self,
        name: str,
        action: Callable[..., T],
        serde: Serde[T] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[T] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> RestateDurableFuture[T]: ...

    def run(
        self,
        name: str,
        action: Callable[..., Any],
        serde: Serde[Any] = DEFAULT,
        max_attempts: int | None = None,
        max_retry_duration: timedelta | None = None,
        type_hint: type[Any] | None = None,
        args: tuple[Any, ...] | None = None,
    ) -> RestateDurableFuture[Any]:
        """Do something that cannot be repeated, once, and record its result under a name.

        `action` may be a plain function, which runs in a thread, or ``async def``. It is run when
        the handler waits and never again once its result is recorded. Raising TerminalError in it
        raises the same here; any other exception has it tried again.
        """
        options = _DEFAULT_OPTIONS
        if max_attempts is not None or max_retry_duration is not None:
            options = RunOptions(max_attempts=max_attempts, max_duration=max_retry_duration)
        return self._run(name, action, options, serde, type_hint, args or (), {})

    @overload
    def run_typed(
        self,
        name: str,
        action: Callable[P, Coroutine[Any, Any, T]],
        options: RunOptions[T] = _DEFAULT_OPTIONS,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]: ...

    @overload
    def run_typed(
        self,
        name: str,
        action: Callable[P, T],
        options: RunOptions[T] = _DEFAULT_OPTIONS,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> RestateDurableFuture[T]: ...

    def run_typed(
        self,
        name: str,
        action: Callable[..., Any],
        options: RunOptions[Any] = _DEFAULT_OPTIONS,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> RestateDurableFuture[Any]:
        """As `run`, with options and with the closure's arguments checked by type checkers."""
        return self._run(name, action, options, options.serde, options.type_hint, args, kwargs)

    def _run(
        self,
        name: str,
        action: Callable[..., Any],
        options: RunOptions[Any],
        serde: Serde[Any],
        type_hint: Any,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> RestateDurableFuture[Any]:
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        if not callable(action):
            raise TypeError(
                f"step {name!r} needs a function to call, not {type(action).__name__}; give the "
                "function itself and its arguments as args"
            )
        if not isinstance(serde, DefaultSerde):
            chosen = serde
        elif type_hint is not None or serde.type_hint is not None:
            chosen = serde_of(serde.type_hint if type_hint is None else type_hint)
        else:
            chosen = serde_of_result(action)
        return attempt.run(name, action, arguments, keywords, options, chosen)


class ObjectSharedContext(Context):
    """The context of a virtual object's shared handler: it reads state as it was at the start."""

    __slots__ = ()

    def key(self) -> str:
        """The object's key."""
        return self._attempt.machine.key

    @overload
    def get(self, name: str, *, entry_name: str | None = None) -> Awaitable[Any]: ...

    @overload
    def get(
        self,
        name: str,
        serde: Serde[T] = DEFAULT,
        type_hint: type[T] | None = None,
        entry_name: str | None = None,
    ) -> Awaitable[T | None]: ...

    def get(
        self,
        name: str,
        serde: Serde[Any] = DEFAULT,
        type_hint: type[Any] | None = None,
        entry_name: str | None = None,
    ) -> Awaitable[Any]:
        """The value of one state, None when there is none; JSON unless `type_hint` says more."""
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        chosen = serde
        if isinstance(serde, DefaultSerde):
            hint = serde.type_hint if type_hint is None else type_hint
            chosen = JSON if hint is None else serde_of(hint)
        completion_id, value = attempt.machine.get_state(name.encode(), entry_name)
        if completion_id:
            return attempt.expect(completion_id, chosen.deserialize)
        return attempt.known(None if value is None else chosen.deserialize(value))


class ObjectContext(ObjectSharedContext):
    """The context of a virtual object's exclusive handler: it reads and writes state."""

    __slots__ = ()

    def set(
        self, name: str, value: T, serde: Serde[T] = DEFAULT, entry_name: str | None = None
    ) -> None:
        """Set one state: bytes as they are, anything else as JSON.

        Raises TerminalError 413 for a value over 32 MiB.
        """
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        if isinstance(value, bytes) and isinstance(serde, DefaultSerde):
            body = bytes(value)
        else:
            body = serde.serialize(value)
        if len(body) > ENTRY_BYTES_MAX:
            raise too_large(f"ctx.set({short_text(name)})", len(body))
        attempt.machine.set_state(name.encode(), body, entry_name)

    def clear(self, name: str, entry_name: str | None = None) -> None:
        """Remove one state."""
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        attempt.machine.clear_state(name.encode(), entry_name)


CONTEXT_CLASSES: Final[dict[HandlerKind | None, type[Context]]] = {
    None: Context,
    HandlerKind.SHARED: ObjectSharedContext,
    HandlerKind.EXCLUSIVE: ObjectContext,
}
