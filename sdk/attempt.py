"""One attempt of one invocation: the protocol machine, the durable loop and the handler together.

Everything here is called from plain callbacks of the real event loop. `feed` takes frames, runs
the handler until it is blocked and every notification that arrived is used up, and returns the
frames to send: the commands of one turn go out together.
"""

import logging
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import DecodeError

from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as pb
from . import vm, wire_commands
from .attempt_base import AttemptBase, NodeTime
from .blocking import BlockingRun
from .calls import CODE_TIMED_OUT
from .context import CONTEXT_CLASSES
from .durable_loop import DurableLoop, new_loop
from .durable_tasks import (
    Cancellation,
    CommandFuture,
    DurableTask,
    set_exception,
    set_result,
)
from .errors import (
    AttemptEnded,
    HandlerDeadlockedError,
    ProtocolViolationError,
    TerminalError,
)
from .handlers import Handler
from .request import settle
from .results import end_future, end_handler, ended_for_good, unreadable
from .source_lines import function_line, waiting_line
from .step_results import end_step
from .steps import Step
from .texts import message_of, stacktrace_of
from .waiting import suspend, waits_for_others, warn_of_the_forgotten

C = TypeVar("C", bound=CommandFuture[Any])

CODE_CANCELLED: Final = 409
_MICROSECOND: Final = timedelta(microseconds=1)

logger = logging.getLogger("perdure.sdk")


class AttemptHost(NodeTime, Protocol):
    """What an attempt needs from whoever runs it; called outside of every durable loop."""

    def admit(self, attempt: "Attempt") -> bool:
        """Whether the attempt, whose invocation is known now, may run; ends older ones of it."""
        ...

    def superseded(self, attempt: "Attempt") -> None:
        """The attempt has ended because a newer one of its invocation runs here."""
        ...

    def start_step(self, step: Step) -> None:
        """Run the closure and have `Attempt.finish_step` called, later, from a plain callback."""
        ...

    def cancel_step(self, step: Step) -> None:
        """Cancel the closure where that is possible; nobody wants its result any more."""
        ...

    def handler_turn(self, run: BlockingRun) -> None:
        """A `def` handler has begun, or now computes or waits otherwise than before."""
        ...

    def forget_handler(self, run: BlockingRun) -> None:
        """The attempt of a `def` handler has ended."""
        ...

    def output_ready(self, attempt: "Attempt") -> None:
        """The attempt has frames to send although none arrived for it."""
        ...


class Attempt(AttemptBase):
    """One attempt, driven.

    Attributes:
        blocking: the run of a handler that is a `def`; None for the others.
    """

    __slots__ = ("__weakref__", "blocking")

    _host: AttemptHost

    def __init__(
        self, handler: Handler, host: AttemptHost, stream: int = 0, number: tuple[int, int] = (0, 0)
    ) -> None:
        """Wait for frames."""
        super().__init__(handler, host, stream, number)
        self.blocking: BlockingRun | None = None

    @property
    def place(self) -> str:
        """The handler and where its tasks are now, for warnings."""
        lines = self.lines()
        return f"{self._handler.target} (now at {lines})" if lines else self._handler.target

    def lines(self, separator: str = ", ") -> str:
        """Where the handler's tasks are now."""
        if self.blocking is not None:
            return self.blocking.line
        loop = self.loop
        tasks = [] if loop is None else loop.unfinished()
        return separator.join(
            f"{task.get_name()} at {waiting_line(task.get_coro())}" for task in tasks
        )

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

    def go_on(self) -> None:
        """Step on, because the thread of a `def` handler has asked for something."""
        if self.ended:
            return
        try:
            self._advance()
        except (Exception, SystemExit) as error:
            self._fail_unexpectedly(error)
        self._host.output_ready(self)

    def give_way(self) -> None:
        """Suspend as soon as that is possible, because others need the handler's thread."""
        self.machine.suspend_requested = True
        self.go_on()

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
            elif self.blocking is not None:
                self.blocking.deliver()
            while True:
                if not root.done():
                    loop.run_ready()
                if machine.closed:
                    break
                if root.done():
                    if self._has_cancelled_children(loop):
                        self._handler_ended()
                    break
                if self.blocking is not None and self.blocking.busy:
                    break
                if loop.cancellation is not None:
                    loop.cancellation = None
                if loop.timers is not None:
                    self._send_timers(loop)
                following = machine.next_notification()
                if following is None:
                    self._check_blocked()
                    break
                record_time_ns, notification = following
                if record_time_ns > loop.time_ns:
                    loop.time_ns = record_time_ns
                self._deliver(notification)
        except AttemptEnded:
            pass  # the machine has said why
        except HandlerDeadlockedError as endless:
            machine.fail(vm.CODE_INTERNAL, message_of(endless))
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
            return
        if self._steps:
            self._start_steps()
        if self.blocking is not None:
            self._host.handler_turn(self.blocking)

    def _begin(self, loop: DurableLoop) -> DurableTask[Any]:
        machine = self.machine
        handler = self._handler
        try:
            context_class = handler.context_class
            if context_class is None:
                context_class = CONTEXT_CLASSES[handler.service_kind][handler.kind]
                handler.context_class = context_class
            loop.current = context = context_class(self)
            if handler.is_async:
                coroutine = handler.call(context, machine.input)
            else:
                self.blocking = BlockingRun(self, handler, context)
                coroutine = self.blocking.serve()
        except TerminalError as malformed:
            machine.fail_terminally(malformed.status_code, malformed.message)
            raise AttemptEnded("the input is malformed") from malformed
        self._root = root = loop.start(coroutine, handler.target)
        if handler.timeout is not None:
            loop.call_later(handler.timeout.total_seconds(), self._timed_out)
        return root

    def _send_timers(self, loop: DurableLoop) -> None:
        timers, loop.timers = loop.timers or (), None
        now_ns = self.now_ns(loop)
        machine = self.machine
        for timer in timers:
            if not timer.cancelled():
                wake_ns = now_ns + max(0, round(timer.when() * 1e9) - loop.time_ns)
                machine.completions += 1
                body = wire_commands.sleep(-(-wake_ns // 1_000_000), machine.completions, None)
                machine.command(messages.SLEEP_COMMAND, body)
                timer.sleep(self.expect(machine.completions, bytes))

    def _has_cancelled_children(self, loop: DurableLoop) -> bool:
        """Whether a handler that has ended may say so: those to be cancelled have been told.

        Their ids may still be on the way. What has come is delivered until they are known, and no
        task runs on meanwhile. A handler that only failed is tried again and decides anew.
        """
        children, root, machine = self._children, self._root, self.machine
        if children is None or not children.owe_cancellations():
            return True
        assert root is not None
        if not ended_for_good(root, self._cancellation):
            return True
        while children.owe_cancellations():
            following = machine.next_notification()
            if following is None:
                self._check_blocked()
                return False
            record_time_ns, notification = following
            if record_time_ns > loop.time_ns:
                loop.time_ns = record_time_ns
            self._deliver(notification)
        return True

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
                machine.unknown_completion(completion_id, self.lines())
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
        assert self._root is not None
        if self._root.done():  # it only waits for ids of children
            return
        self._cancellation = cancellation
        if self._children is not None:
            self._children.cancel()
        self.loop.cancellation = cancellation
        self._root.cancel(cancellation)
        # For asyncio this is no request that stands: the handler may go on after it.
        self._root.uncancel()

    def _check_blocked(self) -> None:
        machine = self.machine
        if machine.replaying:
            machine.blocked_before_journal_end("waits", self.lines())
        if machine.suspend_requested and suspend(self):
            return
        for future, _read in self._pending.values():
            if not future.done():
                return
        if waits_for_others(self):
            return
        deadlock = HandlerDeadlockedError(
            "handler is deadlocked: it waits, and nothing durable can wake it. Waiting: "
            + self.lines("; ")
        )
        machine.fail(vm.CODE_INTERNAL, f"[{deadlock.code}] {deadlock}")

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

    def _warn_of_failure(self, failure: pb.Error) -> None:
        # The node keeps it too; whoever writes the handler looks here.
        logger.warning(
            "handler %s failed: [%d] %s%s",
            self._handler.target,
            failure.code,
            failure.message,
            f"\n{failure.stacktrace.rstrip()}" if failure.stacktrace else "",
        )

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self.machine.failure is not None:
            self._warn_of_failure(self.machine.failure)
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
        if self.blocking is not None:
            self._host.forget_handler(self.blocking)
            self.blocking = None
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
        waiters, self._end_waiters = self._end_waiters, None
        for waiter in waiters or ():
            settle(waiter)
