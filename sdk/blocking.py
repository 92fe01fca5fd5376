"""Handlers that are a `def`: their code runs in a thread, their context on the durable loop.

The thread asks, the loop answers: each call of a context's method becomes a request to the
handler's own task, which is what replays, is cancelled and suspends as that of an ``async def``.
While the thread computes, its attempt takes no notification; while the thread waits, it holds its
place in the pool, until somebody else needs that (`handler_threads`).
"""

import inspect
import logging
import sys
import threading
from collections.abc import Callable
from contextvars import Context as ContextVariables
from queue import SimpleQueue
from typing import Any, Final, Protocol

import msgspec

from .attempt_base import AttemptBase
from .calls import SendHandle
from .context import Context, DurablePromise
from .durable_tasks import DurableFuture
from .errors import AttemptEnded, OutsideHandlerError
from .handlers import Handler
from .source_lines import caller_line
from .steps import CURRENT_OF_STEP
from .vm import REFUSALS_MAX

logger = logging.getLogger("perdure.sdk")

_ENDED: Final = "the attempt has ended"


class _Answer(msgspec.Struct, frozen=True):
    value: Any = None
    error: BaseException | None = None


class Ended(msgspec.Struct, frozen=True):
    """The function of a handler has returned or raised.

    Attributes:
        left_behind: it has not, and its thread is lost.
    """

    value: Any = None
    error: BaseException | None = None
    left_behind: bool = False


class Pool(Protocol):
    """Where the threads of handlers come from."""

    def post(self, run: "BlockingRun", what: Callable[[], Any] | Ended) -> None:
        """Have `run.take(what)` called on the real loop. Called in the run's thread."""
        ...


class BlockingRun:
    """One run of a `def` handler.

    Attributes:
        attempt: whose it is.
        busy: the thread computes, or waits for its place: the attempt is not blocked.
        begun: it has been given to the pool.
        pool: the pool that it was given to.
        ended: nothing is answered any more.
        thread: the thread that runs it; None before and after.
    """

    __slots__ = (
        "_answers",
        "_asked",
        "_context",
        "_handler",
        "_refusals",
        "_wanted",
        "attempt",
        "begun",
        "busy",
        "ended",
        "pool",
        "thread",
    )

    def __init__(self, attempt: AttemptBase, handler: Handler, context: Context) -> None:
        """Wait for a thread."""
        self.attempt = attempt
        self._handler = handler
        self._context = context
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self._asked: Callable[[], Any] | Ended | None = None
        self._wanted: DurableFuture[Any] | None = None
        self._refusals = 0
        self.pool: Pool | None = None
        self.busy = True
        self.begun = False
        self.ended = False
        self.thread: int | None = None

    # On the durable loop

    async def serve(self) -> Any:
        """The handler's own task: answer the thread until its function has ended."""
        loop = self.attempt.loop
        assert loop is not None
        try:
            while True:
                self.busy = True
                self._wanted = loop.make_future()
                asked = await self._wanted
                self.busy = False
                if isinstance(asked, Ended):
                    if asked.error is not None:
                        raise asked.error
                    return asked.value
                self._answers.put(await self._act(asked))
        except BaseException:
            if not self.busy:
                self._answers.put(_Answer(error=AttemptEnded(_ENDED)))
            raise
        finally:
            self.ended = True

    async def _act(self, act: Callable[[], Any]) -> _Answer:
        try:
            value = act()
            if inspect.isawaitable(value) and not isinstance(value, DurablePromise):
                value = await value
            return _Answer(self._for_the_thread(value))
        except Exception as error:
            return _Answer(error=error)

    def _for_the_thread(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._for_the_thread(each) for each in value)
        if isinstance(value, DurableFuture):
            return BlockingFuture(self, value)
        if isinstance(value, SendHandle | DurablePromise):
            return BlockingProxy(self, value)
        return value

    def deliver(self) -> None:
        """Hand what the thread has asked to `serve`; between the loop's enter and leave."""
        asked, self._asked = self._asked, None
        if asked is not None and self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(asked)

    # On the real loop

    def take(self, asked: Callable[[], Any] | Ended) -> None:
        """The thread asks for something, or its function has ended."""
        if self.ended or self.attempt.ended:
            self._answers.put(_Answer(error=AttemptEnded(_ENDED)))
            return
        self._asked = asked
        self.attempt.go_on()

    # In the thread

    def work(self) -> None:
        """Run the handler's function."""
        self.thread = threading.get_ident()
        self.attempt.machine.thread = self.thread
        try:
            ending = Ended(None if self.ended else ContextVariables().run(self._call))
        except BaseException as error:
            ending = Ended(error=error)
        self.thread = None
        assert self.pool is not None
        self.pool.post(self, ending)

    def _call(self) -> Any:
        CURRENT_OF_STEP.set(self._context)
        context = BlockingContext(self, self._context)
        return self._handler.call(context, self.attempt.machine.input)

    def ask(self, act: Callable[[], Any]) -> Any:
        """What `act` gives on the durable loop, awaited where it is to be awaited."""
        if threading.get_ident() != self.thread:
            raise OutsideHandlerError(
                f"the context of {self._handler.target} was used in another thread than its "
                "handler's or after its end; only the handler itself may use it"
            )
        if self.ended:
            self._refuse()
        assert self.pool is not None
        self.pool.post(self, act)
        answer = self._answers.get()
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _refuse(self) -> None:
        self._refusals += 1
        if self._refusals > REFUSALS_MAX:
            logger.error(
                "a handler swallows the end of its attempt and goes on at %s; its thread is left "
                "behind. Let exceptions pass that `except Exception` would not catch",
                caller_line(sys._getframe(1)),
            )
            assert self.pool is not None
            self.pool.post(self, Ended(left_behind=True))
            threading.Event().wait()
        raise AttemptEnded(_ENDED)

    @property
    def line(self) -> str:
        """``file:line`` at which the function is."""
        frame = None if self.thread is None else sys._current_frames().get(self.thread)
        return caller_line(frame) if frame is not None else "a thread that has not begun"


class BlockingContext:
    """The context of a `def` handler: the methods of its kind's `Context`, which wait themselves.

    ``ctx.run(name, function)`` gives the function's result and ``ctx.sleep(…)`` returns when the
    time is up. `awakeable` gives an id and something with `result()`; a send and a promise give
    what has the methods of `SendHandle` and `DurablePromise`, waiting in the same way.
    """

    __slots__ = ("_context", "_run")

    def __init__(self, run: BlockingRun, context: Any) -> None:
        """Speak for one run; made by the SDK."""
        self._run = run
        self._context = context

    def __getattr__(self, name: str) -> Any:
        """The context's own, waiting. Raises AttributeError as that does."""
        if name.startswith("_"):
            raise AttributeError(f"a {type(self).__name__} has no {name}")
        value = getattr(self._context, name)
        if not callable(value):
            return value

        def ask(*args: Any, **kwargs: Any) -> Any:
            return self._run.ask(lambda: value(*args, **kwargs))

        return ask


class BlockingProxy(BlockingContext):
    """A send's handle or a promise in a `def` handler: the same methods, which wait themselves."""

    __slots__ = ()


class BlockingFuture:
    """An awakeable's value in a `def` handler."""

    __slots__ = ("_future", "_run")

    def __init__(self, run: BlockingRun, future: DurableFuture[Any]) -> None:
        """Stand for one future; made by the SDK."""
        self._run = run
        self._future = future

    def result(self) -> Any:
        """Wait for the value. Raises TerminalError when it is a failure."""
        return self._run.ask(lambda: self._future)
