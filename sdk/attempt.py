"""One attempt of one invocation: the protocol machine, the durable loop and the handler together.

Everything here is called from plain callbacks of the real event loop. `feed` takes frames, runs
the handler until it is blocked and every notification that arrived is used up, and returns the
frames to send: the commands of one turn go out together.
"""

import asyncio
import contextvars
import logging
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError

from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as pb
from . import vm, wire_commands
from .calls import CODE_TIMED_OUT, Children
from .context import CONTEXT_CLASSES
from .durable_loop import DurableLoop, new_loop
from .durable_tasks import (
    Cancellation,
    CommandFuture,
    DurableFuture,
    DurableTask,
    set_exception,
    set_result,
)
from .errors import (
    AttemptEnded,
    HandlerDeadlockedError,
    OutsideHandlerError,
    ProtocolViolationError,
    TerminalError,
)
from .extensions import CURRENT_OF_STEP
from .handlers import Handler
from .request import settle
from .results import end_future, end_handler, unreadable
from .signals import Signals
from .source_lines import calling_frame, function_line, waiting_line
from .step_results import end_step
from .steps import AttemptHost, RunOptions, Step
from .texts import message_of, stacktrace_of
from .waiting import suspend, waits_for_others, warn_of_the_forgotten

C = TypeVar("C", bound=CommandFuture[Any])

CODE_CANCELLED: Final = 409
_MICROSECOND: Final = timedelta(microseconds=1)

logger = logging.getLogger("perdure.sdk")


class Attempt:
    """One attempt.

    Attributes:
        stream: the session's number for it.
        number: (epoch, attempt) of the invocation; the higher one is the younger.
        ended: nothing more will be sent or done.
        random: the invocation's generator of chance; None before the handler asks for it.
    """

    __slots__ = (
        "__weakref__",
        "_cancellation",
        "_children",
        "_end_waiters",
        "_handler",
        "_host",
        "_pending",
        "_root",
        "_signals",
        "_steps",
        "ended",
        "loop",
        "machine",
        "number",
        "random",
        "stream",
    )

    def __init__(
        self, handler: Handler, host: AttemptHost, stream: int = 0, number: tuple[int, int] = (0, 0)
    ) -> None:
        """Wait for frames."""
        self._handler = handler
        self._host = host
        self.stream = stream
        self.number = number
        self.machine = vm.Machine()
        self.loop: DurableLoop | None = None
        self.ended = False
        self._root: Any = None
        # Completion id to the future that waits for it and how to read its value.
        self._pending: dict[int, tuple[DurableFuture[Any], Callable[[bytes], Any]]] = {}
        self._steps: dict[int, Step] = {}
        self._children: Children | None = None
        self._signals: Signals | None = None
        self._cancellation: Cancellation | None = None
        self._end_waiters: tuple[asyncio.Future[None], ...] = ()
        self.random: Any = None

    # Driven by the session

    def feed(self, frames: bytes, record_time_ns: int = 0, start: int = 0) -> bytes:
        """Take whole frames from byte `start` on; returns the frames to send now."""
        if self.ended:
            return b""
        machine = self.machine
        try:
            machine.feed(frames, record_time_ns, start)
            if machine.closed:  # the node has sent ABORT
                self._end()
            elif machine.opened:
                self._advance()
        except (ProtocolViolationError, DecodeError) as error:
            code = vm.CODE_PROTOCOL_VIOLATION
            machine.fail(code, f"the node sent what this worker cannot read: {error}")
            self._end()
        except (Exception, SystemExit) as error:
            self._fail_unexpectedly(error)
        return machine.take_output()

    def take_output(self) -> bytes:
        """The frames to send now, after `AttemptHost.output_ready`."""
        return self.machine.take_output()

    def abort(self) -> None:
        """End without sending anything: the session is lost or the attempt superseded."""
        if not self.ended:
            self.machine.abort()
            self._end()

    def supersede(self) -> None:
        """End because a newer attempt of the same invocation is here; its session is told."""
        self.abort()
        self._host.superseded(self)

    def finish_step(
        self, step: Step, value: Any, error: BaseException | None, elapsed_ns: int
    ) -> None:
        """A step's closure has returned or raised: propose its result or fail the attempt."""
        if self.ended or step.finished or step.completion_id not in self._steps:
            return
        step.finished = True
        if step.future.done():  # its task was cancelled meanwhile; nobody wants the result
            return
        try:
            end_step(self.machine, step, value, error, elapsed_ns)
        except (Exception, SystemExit) as unexpected:
            related = (step.command_index, step.name, messages.RUN_COMMAND)
            self._fail_unexpectedly(unexpected, related)
        if self.machine.closed:
            self._end()
        self._host.output_ready(self)

    # Stepping

    def _advance(self) -> None:
        machine = self.machine
        loop = self.loop
        if loop is None:
            if not self._host.admit(self):
                self.abort()
                return
            self.loop = loop = new_loop(machine.start.random_seed)
            loop.time_ns = machine.input_time_ns
        loop.enter()
        try:
            root = self._root
            if root is None:
                root = self._begin(loop)
            while True:
                loop.run_ready()
                if machine.closed:
                    break
                if root.done():
                    self._handler_ended()
                    break
                if loop.cancellation is not None:
                    loop.cancellation = None
                if loop.timers is not None:
                    self._send_timers(loop)
                following = machine.next_notification()
                if following is None:
                    self._check_blocked(loop)
                    break
                record_time_ns, notification = following
                if record_time_ns > loop.time_ns:
                    loop.time_ns = record_time_ns
                self._deliver(notification)
        except AttemptEnded:
            pass  # the machine has said why
        except Exception as error:
            logger.exception("the worker failed in handler %s", self._handler.target)
            machine.fail(vm.CODE_INTERNAL, message_of(error), stacktrace_of(error))
        except SystemExit as leaving:
            machine.fail(vm.CODE_INTERNAL, f"the handler left with {leaving!r}")
        finally:
            try:
                if machine.closed and not loop.settle():
                    self._warn_of_tasks_left(loop)
                    loop.unwind()
            finally:
                loop.leave()
        if machine.closed:
            self._end()
        elif self._steps:
            self._start_steps()

    def _begin(self, loop: DurableLoop) -> DurableTask[Any]:
        machine = self.machine
        handler = self._handler
        try:
            context_class = handler.context_class
            if context_class is None:
                context_class = CONTEXT_CLASSES[handler.service_kind][handler.kind]
                handler.context_class = context_class
            loop.current = context = context_class(self)
            coroutine = handler.call(context, machine.input)
        except TerminalError as malformed:
            machine.fail_terminally(malformed.status_code, malformed.message)
            raise AttemptEnded("the input is malformed") from malformed
        self._root = root = loop.start(coroutine, handler.target)
        if handler.timeout is not None:
            loop.call_later(handler.timeout.total_seconds(), self._timed_out)
        return root

    def _send_timers(self, loop: DurableLoop) -> None:
        timers, loop.timers = loop.timers or (), None
        now_ns = self._now_ns(loop)
        machine = self.machine
        for timer in timers:
            if not timer.cancelled():
                wake_ns = now_ns + max(0, round(timer.when() * 1e9) - loop.time_ns)
                machine.completions += 1
                body = wire_commands.sleep(-(-wake_ns // 1_000_000), machine.completions, None)
                machine.command(messages.SLEEP_COMMAND, body)
                timer.sleep(self.expect(machine.completions, bytes))

    def _now_ns(self, loop: DurableLoop) -> int:
        # No record is younger than now, whatever this machine's clock says.
        return max(loop.time_ns, self._host.node_time_ns())

    def _deliver(self, notification: pb.Notification) -> None:
        machine = self.machine
        completion_id = notification.completion_id
        if not completion_id:
            self._take_signal(notification)
            return
        pending = self._pending.pop(completion_id, None)
        children = self._children
        if pending is None:
            if children is not None and children.take_id(completion_id, notification.invocation_id):
                return
            if completion_id > machine.completions:
                machine.unknown_completion(completion_id, self._lines())
            return  # the second of one kind, which counts for nothing
        self._steps.pop(completion_id, None)
        if children is not None:
            children.completed(completion_id)
        future, read = pending
        if future.done():
            return
        if notification.WhichOneof("result") != "value":
            end_future(future, notification)
            return
        try:
            set_result(future, read(notification.value.content))
        except Exception as error:
            set_exception(future, unreadable(error))

    def _take_signal(self, notification: pb.Notification) -> None:
        if notification.signal_index == messages.SIGNAL_CANCEL:
            self._cancel_handler(Cancellation("cancelled", CODE_CANCELLED))
        else:
            self.signals.take(notification)

    def _timed_out(self) -> None:
        timeout = self._handler.timeout
        assert timeout is not None
        sentence = f"{self._handler.target} did not end within {timeout.total_seconds():g} s"
        self._cancel_handler(Cancellation(sentence, CODE_TIMED_OUT))

    def _cancel_handler(self, cancellation: Cancellation) -> None:
        """Wake the handler's own task, which is blocked, with the error that tells why."""
        assert self.loop is not None
        self._cancellation = cancellation
        if self._children is not None:
            self._children.cancel()
        self.loop.cancellation = cancellation
        self._root.cancel(cancellation)
        # For asyncio this is no request that stands: the handler may go on after it.
        self._root.uncancel()

    def _check_blocked(self, loop: DurableLoop) -> None:
        machine = self.machine
        if machine.replaying:
            machine.blocked_before_journal_end("waits", self._lines())
        if machine.suspend_requested and suspend(self):
            return
        for future, _read in self._pending.values():
            if not future.done():
                return
        if waits_for_others(self):
            return
        deadlock = HandlerDeadlockedError(
            "handler is deadlocked: it waits, and nothing durable can wake it. Waiting: "
            + self._lines("; ")
        )
        machine.fail(vm.CODE_INTERNAL, f"[{deadlock.code}] {deadlock}")

    def _lines(self, separator: str = ", ") -> str:
        loop = self.loop
        tasks = [] if loop is None else loop.unfinished()
        return separator.join(
            f"{task.get_name()} at {waiting_line(task.get_coro())}" for task in tasks
        )

    def _start_steps(self) -> None:
        for step in list(self._steps.values()):
            if step.future.done():
                del self._steps[step.completion_id]
                if step.started and not step.finished:
                    self._host.cancel_step(step)
            elif not step.started:
                step.started = True
                self._host.start_step(step)

    # Ending

    def _handler_ended(self) -> None:
        machine = self.machine
        if machine.replaying and not machine.journal_left.startswith("Output"):
            # Whatever the handler returned, it left out something that it did before.
            function = function_line(self._handler.function)
            machine.blocked_before_journal_end("ends", f"{self._handler.target} at {function}")
        returned = end_handler(machine, self._handler, self._root, self._cancellation)
        if returned and (self._pending or self._signals is not None):
            warn_of_the_forgotten(self)

    def _fail_unexpectedly(
        self, error: BaseException, related: tuple[int, str | None, int] | None = None
    ) -> None:
        # A mistake of the SDK, or of user code where none is expected: it ends this attempt only.
        logger.error("the worker failed in handler %s", self._handler.target, exc_info=error)
        self.machine.fail(vm.CODE_INTERNAL, message_of(error), stacktrace_of(error), related)
        self._end()

    def _warn_of_tasks_left(self, loop: DurableLoop) -> None:
        root = self._root
        left = [task for task in loop.unfinished() if task is not root]
        if left and root is not None and root.done():
            logger.warning(
                "handler %s ended before its tasks, which are cancelled: %s",
                self._handler.target,
                ", ".join(f"{task.get_name()} at {waiting_line(task.get_coro())}" for task in left),
            )

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        loop = self.loop
        if loop is not None and not loop.halted:
            loop.enter()
            try:
                loop.unwind()
            except (Exception, SystemExit):
                logger.exception("handler %s could not be unwound", self._handler.target)
                loop.halted = True
            finally:
                loop.leave()
        # Cut the circles, so that an attempt goes when it ends and not when the collector comes.
        self._root = None
        if loop is not None:
            loop.current = None
        if self._steps:
            for step in self._steps.values():
                if step.started and not step.finished:
                    self._host.cancel_step(step)
            self._steps.clear()
        if self._pending:
            self._pending.clear()
        self._children = self._signals = None
        if self._end_waiters:
            for waiter in self._end_waiters:
                settle(waiter)
            self._end_waiters = ()

    @property
    def place(self) -> str:
        """The handler and where its tasks are now, for warnings."""
        lines = self._lines()
        return f"{self._handler.target} (now at {lines})" if lines else self._handler.target

    # For the context

    def refuse_outsider(self) -> None:
        """Raise OutsideHandlerError: something used the context while its handler did not run.

        After the attempt's end only so often, as `Machine.command` does.
        """
        if self.ended and not self.machine.refuse():
            return
        raise OutsideHandlerError(
            f"the context of {self._handler.target} was used in a step, a thread, a finalizer or "
            "after the end; only the handler's own tasks may use it"
        )

    def expect(self, completion_id: int, read: Callable[[bytes], Any]) -> DurableFuture[Any]:
        """A future for a completion."""
        assert self.loop is not None
        future = self.loop.make_future()
        self._pending[completion_id] = (future, read)
        return future

    def expect_command(
        self, kind: type[C], command: str, completion_id: int, read: Callable[[bytes], Any]
    ) -> C:
        """A future for a completion, which warns when nobody waits for it."""
        future = self.command_future(kind, command)
        self._pending[completion_id] = (future, read)
        return future

    def command_future(self, kind: type[C], command: str) -> C:
        """A future that knows `command` and the line that issued it."""
        assert self.loop is not None
        return self.loop.make_command_future(kind, command, calling_frame(sys._getframe(1)))

    @property
    def children(self) -> Children:
        """The invocations that the handler has started."""
        if self._children is None:
            self._children = Children()
        return self._children

    @property
    def signals(self) -> Signals:
        """The signals that the handler waits for or has been sent."""
        if self._signals is None:
            self._signals = Signals()
        return self._signals

    def cancel_invocation(self, invocation_id: str) -> None:
        """Ask another invocation to cancel itself."""
        body = wire_commands.cancel(invocation_id)
        self.machine.command(messages.SEND_SIGNAL_COMMAND, body)

    def wake_ms(self, delay: timedelta) -> int:
        """The time `delay` from now, by the node's clock, in milliseconds since 1970."""
        assert self.loop is not None
        wake_ns = self._now_ns(self.loop) + max(delay, timedelta()) // _MICROSECOND * 1000
        return -(-wake_ns // 1_000_000)

    def node_time(self) -> float:
        """Seconds since 1970 by the node's clock; for steps, because it differs in a replay."""
        return self._host.node_time_ns() / 1e9

    def when_ended(self, waiter: "asyncio.Future[None]") -> None:
        """Resolve a future of another loop when the attempt has ended."""
        self._end_waiters = (*self._end_waiters, waiter)

    def known(self, value: Any) -> DurableFuture[Any]:
        """A future that has its value."""
        assert self.loop is not None
        future = self.loop.make_future()
        set_result(future, value)
        return future

    def run(
        self,
        name: str,
        action: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        options: RunOptions[Any],
        serde: Any,
    ) -> DurableFuture[Any]:
        """Issue a step; its closure starts when the handler is blocked with nothing stored left."""
        completion_id, command_index, stored = self.machine.run(name)
        future = self.expect(completion_id, serde.deserialize)
        variables = contextvars.copy_context()
        assert self.loop is not None
        variables.run(CURRENT_OF_STEP.set, self.loop.current)
        self._steps[completion_id] = Step(
            self,
            name,
            action,
            arguments,
            keywords,
            options,
            serde,
            future,
            completion_id,
            command_index,
            stored,
            variables,
        )
        return future
