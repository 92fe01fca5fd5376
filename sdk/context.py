"""The contexts of handlers, one class per kind of handler: what each of them may do."""

from __future__ import annotations

from asyncio import events
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Generic, TypeVar, overload

from ..core.protocol import messages
from ..core.protocol.session import HandlerKind, ServiceKind
from . import wire_commands
from .attempt_base import AttemptBase
from .calls import RestateDurableCallFuture, SendHandle
from .context_base import RestateDurableFuture, RestateDurableSleepFuture, body_of, serde_to_read
from .context_calls import CallingContext
from .durable_tasks import CommandFuture
from .request import AttemptFinishedEvent, Request
from .serde import DEFAULT, JSON, DefaultSerde, Serde, serde_of
from .steps import RunOptions
from .texts import short_text
from .wire import too_large

# What apps import from here, wherever it is at home.
__all__ = [
    "CONTEXT_CLASSES",
    "AttemptFinishedEvent",
    "Context",
    "DurablePromise",
    "ObjectContext",
    "ObjectSharedContext",
    "Request",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RunOptions",
    "SendHandle",
    "WorkflowContext",
    "WorkflowSharedContext",
]

T = TypeVar("T")

_get_running_loop = events._get_running_loop


class Context(CallingContext):
    """The context of a service's handler."""

    __slots__ = ()


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

    def state_keys(self, entry_name: str | None = None) -> Awaitable[list[str]]:
        """The names of all states, sorted."""
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        completion_id, keys = attempt.machine.state_keys(entry_name)
        if completion_id:
            return attempt.expect(completion_id, bytes)
        return attempt.known([key.decode() for key in keys])


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
        if len(body) > messages.ENTRY_BYTES_MAX:
            raise too_large(f"ctx.set({short_text(name)})", len(body))
        attempt.machine.set_state(name.encode(), body, entry_name)

    def clear(self, name: str, entry_name: str | None = None) -> None:
        """Remove one state."""
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        attempt.machine.clear_state(name.encode(), entry_name)

    def clear_all(self, entry_name: str | None = None) -> None:
        """Remove every state."""
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        attempt.machine.clear_all_state(entry_name)


class DurablePromise(Generic[T]):
    """A promise of a workflow: one value under a name, set once, seen by all its handlers.

    Attributes:
        name: the promise's name.
        serde: writes and reads its value.
    """

    __slots__ = ("_attempt", "name", "serde")

    def __init__(self, attempt: AttemptBase, name: str, serde: Serde[Any]) -> None:
        """Speak for one promise; made by `promise`."""
        self._attempt = attempt
        self.name = name
        self.serde = serde

    def value(self) -> RestateDurableFuture[T]:
        """The value, once the promise is resolved; TerminalError when it is rejected."""
        return self._issue(messages.GET_PROMISE_COMMAND, "the value of", wire_commands.get_promise)

    def peek(self) -> RestateDurableFuture[T | None]:
        """The value, None when there is none yet; TerminalError when it is rejected."""
        return self._issue(messages.PEEK_PROMISE_COMMAND, "a look at", wire_commands.peek_promise)

    def resolve(self, value: T) -> RestateDurableFuture[None]:
        """Set the value; awaiting it raises TerminalError 409 when the promise was complete."""
        body = body_of(value, self.serde) if self.serde is JSON else self.serde.serialize(value)
        if len(body) > messages.ENTRY_BYTES_MAX:
            raise too_large(f"promise {short_text(self.name)}", len(body))

        def command(name: str, completion_id: int) -> bytes:
            return wire_commands.resolve_promise(name, body, completion_id)

        return self._issue(messages.COMPLETE_PROMISE_COMMAND, "resolving", command)

    def reject(self, message: str, code: int = 500) -> RestateDurableFuture[None]:
        """Set a failure; awaiting it raises TerminalError 409 when the promise was complete."""

        def command(name: str, completion_id: int) -> bytes:
            return wire_commands.reject_promise(name, code, message, completion_id)

        return self._issue(messages.COMPLETE_PROMISE_COMMAND, "rejecting", command)

    def __await__(self) -> Generator[Any, None, T]:
        """The same as awaiting `value`."""
        return self.value().__await__()

    def _issue(
        self, message_type: int, what: str, command: Callable[[str, int], bytes]
    ) -> CommandFuture[Any]:
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        machine = attempt.machine
        machine.completions += 1
        machine.command(message_type, command(self.name, machine.completions))
        future: CommandFuture[Any] = attempt.expect_command(
            CommandFuture,
            f"{what} promise {short_text(self.name)}",
            machine.completions,
            self.serde.deserialize,
        )
        # Completing it has its effect without being awaited.
        future.awaited = message_type == messages.COMPLETE_PROMISE_COMMAND
        return future


def _promise(
    attempt: AttemptBase, name: str, serde: Serde[Any] | None, type_hint: type[Any] | None
) -> DurablePromise[Any]:
    if not isinstance(name, str) or not name:
        raise TypeError(f"a promise's name is a text that is not empty, got {short_text(name)}")
    return DurablePromise(attempt, name, serde_to_read(serde, type_hint))


class WorkflowContext(ObjectContext):
    """The context of a workflow's main handler."""

    __slots__ = ()

    def promise(
        self, name: str, serde: Serde[T] | None = DEFAULT, type_hint: type[T] | None = None
    ) -> DurablePromise[T]:
        """The promise of that name of this workflow."""
        return _promise(self._attempt, name, serde, type_hint)


class WorkflowSharedContext(ObjectSharedContext):
    """The context of a workflow's other handlers: they read state and use promises."""

    __slots__ = ()

    def promise(
        self, name: str, serde: Serde[T] | None = DEFAULT, type_hint: type[T] | None = None
    ) -> DurablePromise[T]:
        """The promise of that name of this workflow."""
        return _promise(self._attempt, name, serde, type_hint)


CONTEXT_CLASSES: Final[dict[ServiceKind, dict[HandlerKind | None, type[Context]]]] = {
    ServiceKind.SERVICE: {None: Context},
    ServiceKind.VIRTUAL_OBJECT: {
        HandlerKind.SHARED: ObjectSharedContext,
        HandlerKind.EXCLUSIVE: ObjectContext,
    },
    ServiceKind.WORKFLOW: {
        HandlerKind.SHARED: WorkflowSharedContext,
        HandlerKind.WORKFLOW: WorkflowContext,
    },
}
