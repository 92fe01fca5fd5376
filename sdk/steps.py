"""A step: a closure whose result is recorded, and what happens when it fails."""

import inspect
from collections.abc import Callable
from contextvars import Context as ContextVariables
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from .durable_tasks import DurableFuture
from .errors import RetryableError
from .serde import DEFAULT, Serde
from .texts import sentence_of
from .wire import RETRY_DELAY_MAX

T = TypeVar("T")

INITIAL_RETRY_INTERVAL: Final = timedelta(milliseconds=50)
MAX_RETRY_INTERVAL: Final = timedelta(seconds=10)
RETRY_INTERVAL_FACTOR: Final = 2.0

CURRENT_OF_STEP: Final[ContextVar[Any]] = ContextVar("perdure_context", default=None)
"""The handler's context, in its steps; in the handler itself, its loop knows."""


class RunOptions(msgspec.Struct, Generic[T]):
    """How a step's result is written and how often the step is tried.

    Without any of the retry fields a failing step fails the attempt, and the invocation's own
    retry policy decides.

    Attributes:
        serde: writes and reads the result; by default chosen by type.
        type_hint: the result's type; by default the closure's return annotation.
        max_attempts: tries, the first included, before the step raises TerminalError.
        max_duration: time from the first try on, before the step raises TerminalError.
        initial_retry_interval: before the second try; 50 ms.
        max_retry_interval: between any two tries; 10 s.
        retry_interval_factor: by which the interval grows; 2.
        max_retry_duration: the older name of `max_duration`.
        timeout: time that one try may take; then its closure is cancelled, or left alone when it
            runs in a thread, and the try counts as failed.
    """

    serde: Serde[Any] = DEFAULT
    type_hint: Any = None
    max_attempts: int | None = None
    max_duration: timedelta | None = None
    initial_retry_interval: timedelta | None = None
    max_retry_interval: timedelta | None = None
    retry_interval_factor: float | None = None
    max_retry_duration: timedelta | None = None
    timeout: timedelta | None = None


class StepOwner(Protocol):
    """The attempt whose handler has asked for a step.

    Attributes:
        ended: nobody wants the result any more.
    """

    ended: bool

    def finish_step(
        self, step: "Step", value: Any, error: BaseException | None, elapsed_ns: int
    ) -> None:
        """The closure has returned or raised."""
        ...


class Step(msgspec.Struct, eq=False):
    """One step that a handler has asked for.

    Attributes:
        attempt: whose step it is.
        stored: its Run command was in the journal already, so a failed attempt may have been its.
        variables: context variables as they were when the handler asked.
        running: what the runner holds while the closure runs.
        finished: the closure has ended; its result may be on its way.
        timer: runs while a try may not take longer than its timeout.
        unwanted: nobody waits for the result any more; a closure not yet begun is left out.
    """

    attempt: StepOwner
    name: str
    action: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    options: RunOptions[Any]
    serde: Serde[Any]
    future: DurableFuture[Any]
    completion_id: int
    command_index: int
    stored: bool
    variables: ContextVariables
    started: bool = False
    started_ns: int = 0
    finished: bool = False
    running: Any = None
    timer: Any = None
    unwanted: bool = False


class Exhausted(msgspec.Struct, frozen=True):
    """The step is not tried again: it fails with this."""

    code: int
    message: str


class TryAgain(msgspec.Struct, frozen=True):
    """The attempt fails and the step is tried again in the next; None leaves the delay open."""

    delay: timedelta | None


def after_failure(
    options: RunOptions[Any], error: BaseException, tries: int, elapsed: timedelta
) -> Exhausted | TryAgain:
    """What follows when try number `tries` (the first is 1) has failed."""
    max_duration = options.max_duration or options.max_retry_duration
    out_of_tries = options.max_attempts is not None and tries >= options.max_attempts
    if out_of_tries or (max_duration is not None and elapsed >= max_duration):
        code = error.status_code if isinstance(error, RetryableError) else 500
        return Exhausted(code, sentence_of(error))
    if isinstance(error, RetryableError) and error.retry_after is not None:
        return TryAgain(error.retry_after)
    limits = (options.max_attempts, max_duration, options.initial_retry_interval)
    growth = (options.max_retry_interval, options.retry_interval_factor)
    if all(value is None for value in limits + growth):
        return TryAgain(None)
    interval = (options.initial_retry_interval or INITIAL_RETRY_INTERVAL).total_seconds()
    longest = (options.max_retry_interval or MAX_RETRY_INTERVAL).total_seconds()
    factor = options.retry_interval_factor or RETRY_INTERVAL_FACTOR
    for _ in range(tries - 1):
        if interval >= longest or factor <= 1:
            break
        interval *= factor
    # Zero stands first, so that it is also what comes of no number.
    seconds = max(0.0, min(interval, longest))
    return TryAgain(timedelta(seconds=min(seconds, RETRY_DELAY_MAX.total_seconds())))


def is_async(action: Callable[..., Any]) -> bool:
    """Whether calling the closure gives a coroutine at once."""
    return inspect.iscoroutinefunction(action) or inspect.iscoroutinefunction(
        getattr(action, "__call__", None)  # noqa: B004 - an object whose call is a coroutine
    )
