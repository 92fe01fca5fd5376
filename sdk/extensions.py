"""For libraries on top of the SDK: the context of the running handler, and values by context."""

from asyncio import events
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Generic, ParamSpec, TypeVar

from .context import Context
from .durable_loop import DurableLoop
from .steps import CURRENT_OF_STEP

__all__ = ["contextvar", "current_context"]

P = ParamSpec("P")
T = TypeVar("T")


def current_context() -> Context | None:
    """The context of the handler that this code runs for, its steps included; None elsewhere.

    Within a step the context may be looked at, not used.
    """
    loop = events._get_running_loop()
    if isinstance(loop, DurableLoop):
        context: Context | None = loop.current
    else:
        context = CURRENT_OF_STEP.get()
    return context


class contextvar(Generic[P, T]):
    """Remembers what an async context manager gives, for whoever runs within it.

    It decorates a function that `asynccontextmanager` decorates, and serves where a manager's value
    is not handed on, as with ``invocation_context_managers``; `value` gives it.
    """

    def __init__(self, func: Callable[P, AbstractAsyncContextManager[T]]) -> None:
        """Take the function."""
        self.func = func
        self._value: ContextVar[T] = ContextVar("perdure_contextvar")

    @property
    def value(self) -> T:
        """What the manager gave to the code that runs now. Raises LookupError outside of it."""
        try:
            return self._value.get()
        except LookupError:
            name = getattr(self.func, "__name__", "the context manager")
            raise LookupError(f"{name} has no value here: nothing has entered it") from None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[None]:
        """A manager that remembers what the function's own one gives."""
        return self._entered(*args, **kwargs)

    @asynccontextmanager
    async def _entered(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[None]:
        async with self.func(*args, **kwargs) as value:
            token = self._value.set(value)
            try:
                yield
            finally:
                self._value.reset(token)
