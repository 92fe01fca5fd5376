"""What every handler's context has: the request, steps, time and chance."""

from __future__ import annotations

from asyncio import events
from collections.abc import Callable, Coroutine
from datetime import timedelta
from random import Random  # noqa: TID251 - seeded by the invocation: the same in every replay
from typing import Any, Final, ParamSpec, TypeVar, overload
from uuid import UUID  # noqa: TID251 - made of the seeded generator's bits

from ..core.ids import invocation_id_text
from .attempt_base import AttemptBase
from .durable_tasks import CommandFuture, DurableFuture
from .request import AttemptFinishedEvent, Request
from .serde import DEFAULT, JSON, DefaultSerde, Serde, serde_of, serde_of_result
from .steps import RunOptions

T = TypeVar("T")
P = ParamSpec("P")

RestateDurableFuture = DurableFuture
"""What ctx methods give: a future that can be awaited, gathered and given to tasks."""


class RestateDurableSleepFuture(CommandFuture[None]):
    """The end of a sleep."""

    __slots__ = ()


_get_running_loop = events._get_running_loop
_DEFAULT_OPTIONS: Final[RunOptions[Any]] = RunOptions()

_STATE: Final = "state belongs to virtual objects and workflows"
_WRITES: Final = (
    "state is written by exclusive handlers of virtual objects and by the main handler of a "
    "workflow only"
)
_PROMISES: Final = "promises belong to the handlers of workflows"
_ELSEWHERE: Final = {
    "key": "only virtual objects and workflows have a key",
    "get": _STATE,
    "state_keys": _STATE,
    "set": _WRITES,
    "clear": _WRITES,
    "clear_all": _WRITES,
    "promise": _PROMISES,
}


def serde_to_read(serde: Serde[Any] | None, type_hint: Any) -> Serde[Any]:
    """What reads a value: JSON unless a serde or a type says more."""
    if serde is None:
        return JSON
    if not isinstance(serde, DefaultSerde):
        return serde
    hint = serde.type_hint if type_hint is None else type_hint
    return JSON if hint is None else serde_of(hint)


def body_of(value: Any, serde: Serde[Any] | None) -> bytes:
    """A value as bytes: bytes as they are, anything else as JSON, unless a serde says more."""
    if serde is None or isinstance(serde, DefaultSerde):
        return bytes(value) if isinstance(value, bytes) else JSON.serialize(value)
    return serde.serialize(value)


class ContextBase:
    """What the contexts of all kinds of handlers have in common.

    Every method acts when it is called, not when its result is awaited, and only while the
    handler runs: a step, a thread or a finalizer that uses it gets OutsideHandlerError.
    """

    __slots__ = ("_attempt",)

    def __init__(self, attempt: AttemptBase) -> None:
        """Speak for one attempt; made by the SDK."""
        self._attempt = attempt

    def request(self) -> Request:
        """The request: id, headers, raw body and the event of this attempt's end."""
        machine = self._attempt.machine
        start = machine.start
        return Request(
            id=invocation_id_text(machine.invocation_id),
            headers=machine.headers,
            body=machine.input,
            attempt_finished_event=AttemptFinishedEvent(self._attempt),
            idempotency_key=start.idempotency_key if start.HasField("idempotency_key") else None,
        )

    @property
    def fence(self) -> tuple[int, int]:
        """(leader epoch, attempt): grows with every attempt, for stores that refuse older writers.

        It differs in a replay: hand it to a step's closure and let nothing else depend on it.
        """
        return self._attempt.number

    def random(self) -> Random:
        """The invocation's own generator of chance: the same numbers in every replay."""
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        if attempt.random is None:
            attempt.random = Random(attempt.machine.start.random_seed)
        generator: Random = attempt.random
        return generator

    def uuid(self) -> UUID:
        """A random UUID, the same in every replay."""
        return UUID(int=self.random().getrandbits(128), version=4)

    def time(self) -> RestateDurableFuture[float]:
        """Seconds since 1970 by the node's clock, recorded in a step named ``timestamp``.

        ``asyncio.get_running_loop().time()`` records nothing: it is the time of the newest record
        that this handler has seen.
        """
        return self._run("timestamp", self._attempt.node_time, _DEFAULT_OPTIONS, JSON, None, (), {})

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
        if not isinstance(options, RunOptions):
            raise TypeError(
                f"step {name!r} was given {type(options).__name__} where its options stand: give "
                "the function's arguments by name, or behind RunOptions()"
            )
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
        if options.timeout is not None and not isinstance(options.timeout, timedelta):
            kind = type(options.timeout).__name__
            raise TypeError(f"step {name!r}: timeout is a timedelta, not {kind}")
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


def _elsewhere(name: str, why: str) -> property:
    def refuse(self: ContextBase) -> Any:
        raise AttributeError(f"ctx.{name} is not in {type(self).__name__}: {why}")

    return property(refuse, doc=f"Raises AttributeError: {why}.")


# Not by __getattr__, which would slow down every other attribute.
for _name, _why in _ELSEWHERE.items():
    setattr(ContextBase, _name, _elsewhere(_name, _why))
