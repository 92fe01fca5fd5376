"""One attempt of one invocation: the protocol machine, the durable loop and the handler together.

Everything here is called from plain callbacks of the real event loop. `feed` takes frames, runs
the handler until it is blocked and every notification that arrived is used up, and returns the
frames to send: the commands of one turn go out together.
"""

import contextvars
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import DecodeError

from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as pb
from . import vm, wire
from .context import CONTEXT_CLASSES
from .durable_loop import DurableLoop, new_loop
from .durable_tasks import DurableFuture, DurableTask, set_exception, set_result
from .errors import (
    AttemptEnded,
    HandlerDeadlockedError,
    OutsideHandlerError,
    ProtocolViolationError,
    RetryableError,
    SerializationError,
    TerminalError,
)
from .handlers import Handler
from .source_lines import waiting_line
from .steps import AttemptHost, Exhausted, RunOptions, Step, after_failure
from .texts import message_of, short_text, stacktrace_of

CODE_CANCELLED: Final = 409

logger = logging.getLogger("perdure.sdk")


class Attempt:
    """One attempt.

    Attributes:
        stream: the session's number for it.
        number: (epoch, attempt) of the invocation; the higher one is the younger.
        ended: nothing more will be sent or done.
    """

    __slots__ = (
        "__weakref__",
        "_handler",
        "_host",
        "_pending",
        "_root",
        "_steps",
        "ended",
        "loop",
        "machine",
        "number",
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
        if self.ended or self._steps.pop(step.completion_id, None) is None:
            return
        if step.future.done():  # its task was cancelled meanwhile; nobody wants the result
            return
        try:
            self._step_ended(step, value, error, elapsed_ns)
        except (Exception, SystemExit) as unexpected:
            related = (step.command_index, step.name, messages.RUN_COMMAND)
            self._fail_unexpectedly(unexpected, related)
        self._host.output_ready(self)

    def _step_ended(
        self, step: Step, value: Any, error: BaseException | None, elapsed_ns: int
    ) -> None:
        machine = self.machine
        if error is None:
            try:
                body = step.serde.serialize(value)
                if len(body) > messages.ENTRY_BYTES_MAX:
                    call = f"the result of ctx.run({short_text(step.name)})"
                    raise wire.too_large(call, len(body))
                machine.propose(step.completion_id, body)
            except Exception as unwritable:
                error = unwritable
        if isinstance(error, TerminalError):
            failure = wire.failure(error.status_code, error.message, error.metadata)
            machine.propose_failure(step.completion_id, failure)
        elif error is not None:
            self._step_failed(step, error, elapsed_ns)

    def _step_failed(self, step: Step, error: BaseException, elapsed_ns: int) -> None:
        start = self.machine.start
        tries, elapsed_ms = 1, elapsed_ns / 1e6
        if step.stored:
            tries += start.retry_count_since_last_stored_entry
            elapsed_ms += start.duration_since_last_stored_entry
        decision = after_failure(step.options, error, tries, timedelta(milliseconds=elapsed_ms))
        if isinstance(decision, Exhausted):
            failure = wire.failure(decision.code, decision.message)
            self.machine.propose_failure(step.completion_id, failure)
            return
        self.machine.fail(
            error.status_code if isinstance(error, RetryableError) else vm.CODE_INTERNAL,
            message_of(error),
            stacktrace_of(error),
            (step.command_index, step.name, messages.RUN_COMMAND),
            decision.delay,
        )
        self._end()

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
            coroutine = handler.call(CONTEXT_CLASSES[handler.kind](self), machine.input)
        except TerminalError as malformed:
            machine.fail_terminally(malformed.status_code, malformed.message)
            raise AttemptEnded("the input is malformed") from malformed
        self._root = root = loop.start(coroutine, handler.target)
        return root

    def _deliver(self, notification: pb.Notification) -> None:
        machine = self.machine
        if notification.WhichOneof("id") != "completion_id":
            machine.fail(
                vm.CODE_UNSUPPORTED, "this release of the SDK takes no signals; one arrived"
            )
            return
        completion_id = notification.completion_id
        pending = self._pending.pop(completion_id, None)
        if pending is None:
            if completion_id > machine.completions:
                machine.unknown_completion(completion_id)
            return  # the second of one kind, which counts for nothing
        future, read = pending
        self._steps.pop(completion_id, None)
        if future.done():
            return
        result = notification.WhichOneof("result")
        if result == "value":
            try:
                set_result(future, read(notification.value.content))
            except Exception as error:
                set_exception(
                    future, SerializationError(f"a stored value cannot be read any more: {error}")
                )
        elif result == "failure":
            failure = notification.failure
            metadata = {pair.key: pair.value for pair in failure.metadata}
            set_exception(future, TerminalError(failure.message, failure.code, metadata or None))
        else:
            set_result(future, None)

    def _check_blocked(self, loop: DurableLoop) -> None:
        machine = self.machine
        if machine.replaying:
            machine.blocked_before_journal_end()
        for future, _read in self._pending.values():
            if not future.done():
                return
        lines = [
            f"{task.get_name()} at {waiting_line(task.get_coro())}" for task in loop.unfinished()
        ]
        deadlock = HandlerDeadlockedError(
            "handler is deadlocked: it waits, and nothing durable can wake it. Waiting: "
            + "; ".join(lines)
        )
        machine.fail(vm.CODE_INTERNAL, f"[{deadlock.code}] {deadlock}")

    def _start_steps(self) -> None:
        for step in list(self._steps.values()):
            if step.future.done():
                del self._steps[step.completion_id]
                if step.started:
                    self._host.cancel_step(step)
            elif not step.started:
                step.started = True
                self._host.start_step(step)

    # Ending

    def _handler_ended(self) -> None:
        machine = self.machine
        if machine.replaying and not machine.journal_left.startswith("Output"):
            # Whatever the handler returned, it left out something that it did before.
            machine.blocked_before_journal_end()
        try:
            value = self._root.result()
        except BaseException as error:
            self._handler_raised(error)
            return
        try:
            body = self._handler.output_serde.serialize(value)
        except SerializationError as unwritable:
            machine.fail(vm.CODE_INTERNAL, f"{self._handler.target}: {unwritable}")
            return
        if len(body) > messages.ENTRY_BYTES_MAX:
            self._handler_raised(
                wire.too_large(f"the answer of {short_text(self._handler.target)}", len(body))
            )
            return
        machine.succeed(body)

    def _handler_raised(self, error: BaseException) -> None:
        machine = self.machine
        terminal = _terminal_of(error)
        if terminal is not None:
            machine.fail_terminally(terminal.status_code, terminal.message, terminal.metadata)
        elif isinstance(error, RetryableError):
            machine.fail(
                error.status_code,
                message_of(error),
                stacktrace_of(error),
                retry_after=error.retry_after,
            )
        else:
            machine.fail(vm.CODE_INTERNAL, message_of(error), stacktrace_of(error))

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
        if self._steps:
            for step in self._steps.values():
                if step.started:
                    self._host.cancel_step(step)
            self._steps.clear()
        if self._pending:
            self._pending.clear()

    @property
    def place(self) -> str:
        """The handler and where its tasks are now, for warnings."""
        tasks = [] if self.loop is None else self.loop.unfinished()
        lines = ", ".join(waiting_line(task.get_coro()) for task in tasks)
        return f"{self._handler.target} (now at {lines})" if lines else self._handler.target

    # For the context

    def refuse_outsider(self) -> None:
        """Raise OutsideHandlerError: something used the context while its handler did not run."""
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
            contextvars.copy_context(),
        )
        return future


def _terminal_of(error: BaseException) -> TerminalError | None:
    # A TaskGroup in which only terminal errors happened has failed for good too.
    if isinstance(error, TerminalError):
        return error
    if isinstance(error, BaseExceptionGroup):
        leaves = [_terminal_of(inner) for inner in error.exceptions]
        if all(leaf is not None for leaf in leaves):
            return leaves[0]
    return None
