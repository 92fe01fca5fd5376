"""What becomes of a step whose closure has ended: its result is proposed, or its attempt fails."""

from datetime import timedelta
from typing import Any

from ..core.protocol import messages
from . import vm, wire
from .errors import RetryableError, TerminalError
from .steps import Exhausted, Step, after_failure
from .texts import message_of, short_text, stacktrace_of


def end_step(
    machine: vm.Machine, step: Step, value: Any, error: BaseException | None, elapsed_ns: int
) -> None:
    """Propose the result of a step, or fail the attempt so that the step is tried again."""
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
        _fail(machine, step, error, elapsed_ns)


def _fail(machine: vm.Machine, step: Step, error: BaseException, elapsed_ns: int) -> None:
    start = machine.start
    tries, elapsed_ms = 1, elapsed_ns / 1e6
    if step.stored:
        tries += start.retry_count_since_last_stored_entry
        elapsed_ms += start.duration_since_last_stored_entry
    decision = after_failure(step.options, error, tries, timedelta(milliseconds=elapsed_ms))
    if isinstance(decision, Exhausted):
        failure = wire.failure(decision.code, decision.message)
        machine.propose_failure(step.completion_id, failure)
        return
    machine.fail(
        error.status_code if isinstance(error, RetryableError) else vm.CODE_INTERNAL,
        message_of(error),
        stacktrace_of(error),
        (step.command_index, step.name, messages.RUN_COMMAND),
        decision.delay,
    )
