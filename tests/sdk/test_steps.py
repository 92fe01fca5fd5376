"""Steps: when they are tried again, how results are written, and where closures run."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.clock import ManualClock
from perdure.core.protocol import messages
from perdure.core.tasks import TaskScope
from perdure.sdk import Context, RetryableError, RunOptions, Service, TerminalError
from perdure.sdk.attempt import Attempt
from perdure.sdk.blocking import BlockingRun
from perdure.sdk.step_runner import StepRunner
from perdure.sdk.steps import Exhausted, Step, TryAgain, after_failure

from .fake_node import (
    Journal,
    attempt_of,
    frames_of,
    input_frame,
    parsed,
    run_completion,
    start_frame,
    to_the_end,
    types_of,
)

SECOND = timedelta(seconds=1)
NO_TIME = timedelta()


@pytest.mark.parametrize(
    ("options", "tries", "seconds"),
    [
        (RunOptions(max_attempts=9), 1, 0.05),
        (RunOptions(max_attempts=9), 2, 0.1),
        (RunOptions(max_duration=SECOND), 4, 0.4),
        (RunOptions(initial_retry_interval=SECOND), 3, 4),
        (RunOptions(initial_retry_interval=SECOND), 5, 10),
        (RunOptions(max_retry_interval=timedelta(seconds=0.07)), 2, 0.07),
        (RunOptions(retry_interval_factor=1.0), 10_000, 0.05),
        (RunOptions(retry_interval_factor=3.0), 3, 0.45),
    ],
)
def test_intervals_grow_up_to_their_maximum(
    options: RunOptions[Any], tries: int, seconds: float
) -> None:
    """50 ms doubling to 10 s, unless the options say otherwise."""
    decision = after_failure(options, ValueError("x"), tries, NO_TIME)

    assert decision == TryAgain(timedelta(seconds=seconds))


def test_without_options_the_invocation_decides() -> None:
    """No delay is given, and the step is never exhausted."""
    assert after_failure(RunOptions(), ValueError("x"), 1000, 1000 * SECOND) == TryAgain(None)


def test_error_may_say_when() -> None:
    """RetryableError's delay goes before the options', their limits hold all the same."""
    error = RetryableError("busy", 503, retry_after=SECOND)

    assert after_failure(RunOptions(), error, 1, NO_TIME) == TryAgain(SECOND)
    assert after_failure(RunOptions(max_attempts=2), error, 2, NO_TIME) == Exhausted(503, "busy")


def test_limits_end_the_tries() -> None:
    """By number and by time, under both names."""
    failed = Exhausted(500, "x")

    assert after_failure(RunOptions(max_attempts=3), ValueError("x"), 3, NO_TIME) == failed
    assert after_failure(RunOptions(max_duration=SECOND), ValueError("x"), 1, SECOND) == failed
    assert (
        after_failure(RunOptions(max_retry_duration=SECOND), ValueError("x"), 1, SECOND) == failed
    )


def failing_service(options: RunOptions[Any], error: Exception) -> Service:
    """One handler with one step that fails."""
    service = Service("Service")

    def fails() -> None:
        raise error

    async def it(ctx: Context) -> None:
        await ctx.run_typed("flaky", fails, options)

    service.handler()(it)
    return service


def test_failing_step_fails_the_attempt_with_its_name_and_delay() -> None:
    """The related command and the delay, which grows with the tries that Start tells."""
    options = RunOptions[Any](initial_retry_interval=timedelta(milliseconds=300), max_attempts=3)
    service = failing_service(options, ValueError("no luck"))
    attempt, host = attempt_of(service, "it")
    run = attempt.feed(Journal().opening())
    error = parsed(frames_of(host.run_steps())[0])

    assert error.code == 500
    assert error.message == "ValueError('no luck')"
    assert "test_steps.py" in error.stacktrace
    assert (error.related_command_index, error.related_command_name) == (1, "flaky")
    assert (error.related_command_type, error.next_retry_delay) == (1041, 300)

    attempt, host = attempt_of(service, "it")
    attempt.feed(start_frame(2, retry_count_since_last_stored_entry=1) + input_frame(b"") + run)
    assert parsed(frames_of(host.run_steps())[0]).next_retry_delay == 600

    attempt, host = attempt_of(service, "it")
    attempt.feed(start_frame(2, retry_count_since_last_stored_entry=2) + input_frame(b"") + run)
    proposal = frames_of(host.run_steps())
    assert types_of(proposal) == [messages.PROPOSE_RUN_COMPLETION]
    assert parsed(proposal[0]).failure.message == "no luck"


def test_count_of_an_earlier_step_is_not_this_ones() -> None:
    """A Run that this attempt issues first starts at one, whatever Start counts."""
    service = failing_service(RunOptions(max_attempts=2), ValueError("x"))
    attempt, host = attempt_of(service, "it")
    attempt.feed(start_frame(1, retry_count_since_last_stored_entry=5) + input_frame(b""))

    assert types_of(frames_of(host.run_steps())) == [messages.ERROR]


def test_terminal_error_in_a_step_is_proposed() -> None:
    """It is the step's result, and comes out of the await."""
    service = failing_service(RunOptions(), TerminalError("never", 410))
    sent = to_the_end(service, "it", Journal())

    assert parsed(sent[1]).failure.code == 410
    assert parsed(sent[2]).failure.code == 410


def test_result_without_a_form_fails_the_attempt() -> None:
    """And names the type."""
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> None:
        await ctx.run("odd", lambda: object())

    attempt, host = attempt_of(service, "it")
    attempt.feed(Journal().opening())
    error = parsed(frames_of(host.run_steps())[0])

    assert "'object' has no JSON form" in error.message


def test_a_coroutine_in_place_of_a_function_is_refused() -> None:
    """``ctx.run("x", f())`` instead of ``ctx.run("x", f)``."""
    service = Service("Service")

    async def work() -> None: ...

    @service.handler()
    async def it(ctx: Context) -> None:
        coroutine = work()
        try:
            await ctx.run("x", coroutine)  # type: ignore[call-overload]
        finally:
            coroutine.close()

    attempt, _host = attempt_of(service, "it")
    error = parsed(frames_of(attempt.feed(Journal().opening()))[0])

    assert "needs a function to call, not coroutine" in error.message


def test_step_of_a_cancelled_task_is_dropped() -> None:
    """Its closure is cancelled and a late result is not proposed."""
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> int:
        task = asyncio.ensure_future(ctx.run("slow", lambda: 1))
        await ctx.run("fast", lambda: 2)
        task.cancel()
        return await ctx.run("last", lambda: 3)

    attempt, host = attempt_of(service, "it")
    attempt.feed(Journal().opening())
    slow, _fast = host.steps
    host.steps.clear()
    attempt.feed(run_completion(2, b"2"))

    assert host.cancelled == [slow]
    attempt.finish_step(slow, 1, None, 0)
    assert host.sent == []
    assert types_of(frames_of(attempt.feed(run_completion(3, b"3")))) == [
        messages.OUTPUT_COMMAND,
        messages.END,
    ]


# The runner, on a real event loop

variable: ContextVar[str] = ContextVar("variable", default="none")


class RunnerHost:
    """Runs steps for real and tells when an attempt has something to send."""

    def __init__(self, runner: StepRunner) -> None:
        self.runner = runner
        self.sent = b""
        self.wanted = asyncio.Event()

    def admit(self, attempt: Attempt) -> bool:
        return True

    def superseded(self, attempt: Attempt) -> None:
        raise AssertionError

    def start_step(self, step: Step) -> None:
        self.runner.start(step)

    def cancel_step(self, step: Step) -> None:
        self.runner.cancel(step)

    def handler_turn(self, run: BlockingRun) -> None:
        raise AssertionError("no `def` handlers here")

    def forget_handler(self, run: BlockingRun) -> None:
        raise AssertionError("no `def` handlers here")

    def node_time_ns(self) -> int:
        return 0

    def output_ready(self, attempt: Attempt) -> None:
        self.sent += attempt.take_output()
        self.wanted.set()


def outcomes_of(service: Service, proposals: int) -> list[Any]:
    """What the steps of handler ``it`` propose."""

    async def main() -> list[Any]:
        async with TaskScope("test") as scope:
            runner = StepRunner(asyncio.get_running_loop(), scope, ManualClock(), threads_max=2)
            host = RunnerHost(runner)
            attempt = Attempt(service.handlers["it"], host)
            asyncio.get_running_loop().call_soon(attempt.feed, Journal().opening())
            while len(frames_of(host.sent)) < proposals:
                host.wanted.clear()
                await host.wanted.wait()
            runner.close()
        return [parsed(one) for one in frames_of(host.sent)]

    return asyncio.run(main())


def service_with(*actions: Callable[..., Any]) -> Service:
    """A handler that runs all of them at once."""
    service = Service("Service")

    async def it(ctx: Context) -> None:
        variable.set("handler's")
        steps = [ctx.run(f"s{number}", action) for number, action in enumerate(actions)]
        await asyncio.gather(*steps)

    service.handler()(it)
    return service


def test_closures_run_where_they_belong() -> None:
    """Coroutines on the real loop, functions in threads, both with the handler's variables."""

    async def coroutine() -> list[Any]:
        await asyncio.sleep(0.001)
        return [threading.current_thread() is threading.main_thread(), variable.get()]

    def function() -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), variable.get()]

    proposals = outcomes_of(service_with(coroutine, function, lambda: coroutine()), 3)
    values = {proposal.result_completion_id: proposal.value for proposal in proposals}

    assert values[1] == b'[true,"handler\'s"]'
    assert values[2] == b'[false,"handler\'s"]'
    assert values[3] == b'[true,"handler\'s"]'


def test_functions_run_side_by_side() -> None:
    """Two that wait for each other end."""
    barrier = threading.Barrier(2, timeout=60)

    def meets() -> int:
        barrier.wait()
        return 1

    assert len(outcomes_of(service_with(meets, meets), 2)) == 2


def test_more_functions_than_threads_take_turns() -> None:
    """None is lost."""
    proposals = outcomes_of(service_with(*[int] * 20), 20)

    assert sorted(proposal.result_completion_id for proposal in proposals) == list(range(1, 21))


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_failing_closures_reach_the_attempt(kind: str) -> None:
    """Whatever they raise."""

    async def coroutine() -> None:
        raise KeyError("a")

    def function() -> None:
        raise KeyError("a")

    error = outcomes_of(service_with(coroutine if kind == "coroutine" else function), 1)[0]

    assert error.message == "KeyError('a')"


def test_failure_cancels_the_steps_beside_it() -> None:
    """The coroutine that waits for ever is cancelled with its attempt."""
    cancelled: list[bool] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("a")

    outcomes_of(service_with(waits, fails), 1)

    assert cancelled == [True]


class Gate:
    """Functions for one thread: one that blocks it, and others that tell that they ran."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.calls: list[str] = []

    def blocks(self) -> None:
        self.calls.append("blocks")
        self.entered.set()
        assert self.opened.wait(60)

    def tells(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


def with_one_thread(
    scenario: Callable[[StepRunner, RunnerHost, list[Attempt]], Awaitable[None]],
    gate: Gate,
    *services: Service,
) -> None:
    """Start an attempt of each service with a runner of one thread, which the first blocks."""

    async def main() -> None:
        async with TaskScope("test") as scope, asyncio.timeout(60):
            loop = asyncio.get_running_loop()
            runner = StepRunner(loop, scope, ManualClock(), threads_max=1)
            host = RunnerHost(runner)
            attempts = [Attempt(service.handlers["it"], host) for service in services]
            for attempt in attempts:
                loop.call_soon(attempt.feed, Journal().opening())
            while not gate.entered.is_set():
                await asyncio.sleep(0.001)
            try:
                await scenario(runner, host, attempts)
            finally:
                gate.opened.set()
                runner.close()

    asyncio.run(main())


def test_functions_of_ended_attempts_are_left_out() -> None:
    """Those that wait for a thread; the thread takes those of other attempts, and is free after."""
    gate = Gate()

    async def scenario(runner: StepRunner, host: RunnerHost, attempts: list[Attempt]) -> None:
        asyncio.get_running_loop().call_soon(attempts[1].abort)
        await asyncio.sleep(0.001)
        gate.opened.set()
        while len(frames_of(host.sent)) < 2:
            host.wanted.clear()
            await host.wanted.wait()
        assert gate.calls == ["blocks", "third"]
        assert runner._in_threads == 0

    services = (
        service_with(gate.blocks),
        service_with(gate.tells("second"), gate.tells("second")),
        service_with(gate.tells("third")),
    )
    with_one_thread(scenario, gate, *services)


def test_function_of_a_cancelled_task_is_left_out() -> None:
    """Its attempt goes on, and it alone is not begun."""
    gate = Gate()
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> None:
        first = ctx.run("first", gate.blocks)
        task = asyncio.ensure_future(ctx.run("unwanted", gate.tells("unwanted")))
        await first
        task.cancel()
        await ctx.run("last", gate.tells("last"))

    async def scenario(runner: StepRunner, host: RunnerHost, attempts: list[Attempt]) -> None:
        asyncio.get_running_loop().call_soon(attempts[0].feed, run_completion(1, b""))
        await asyncio.sleep(0.001)
        gate.opened.set()
        await host.wanted.wait()
        assert gate.calls == ["blocks", "last"]
        assert parsed(frames_of(host.sent)[0]).result_completion_id == 3
        assert runner._in_threads == 0

    with_one_thread(scenario, gate, service)


def test_closed_runner_begins_nothing_that_waits() -> None:
    """Its thread ends once the function in it has."""
    gate = Gate()

    async def scenario(runner: StepRunner, host: RunnerHost, attempts: list[Attempt]) -> None:
        started = [each for each in threading.enumerate() if each.name == "perdure-step-1"]
        runner.close()
        gate.opened.set()
        while any(each.is_alive() for each in started):
            await asyncio.sleep(0.001)
        assert gate.calls == ["blocks"]

    with_one_thread(scenario, gate, service_with(gate.blocks, *[gate.tells("waits")] * 3))


def test_thread_that_cannot_be_started_fails_its_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not counted: the next function starts one."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        async with TaskScope("test") as scope, asyncio.timeout(60):
            loop = asyncio.get_running_loop()
            runner = StepRunner(loop, scope, ManualClock(), threads_max=1)
            host = RunnerHost(runner)
            handler = service_with(int).handlers["it"]
            sent: list[bytes] = []
            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", refuse)
                loop.call_soon(lambda: sent.append(Attempt(handler, host).feed(opening)))
                await asyncio.sleep(0.001)
            assert parsed(frames_of(sent[0])[-1]).code == 500
            loop.call_soon(Attempt(handler, host).feed, opening)
            await host.wanted.wait()
            assert types_of(frames_of(host.sent)) == [messages.PROPOSE_RUN_COMPLETION]
            runner.close()

    opening = Journal().opening()
    asyncio.run(main())


def test_an_argument_in_the_place_of_the_options_is_named() -> None:
    """The official signature has the options third; what stands there instead is easily missed."""

    async def greet(ctx: Context) -> str:
        look_up: Any = str.upper
        with pytest.raises(TypeError, match="'look up' was given str where its options stand"):
            ctx.run_typed("look up", look_up, "Ann")
        return "told"

    service = Service("S")
    service.handler()(greet)
    attempt, _host = attempt_of(service, "greet")
    output, _end = frames_of(attempt.feed(start_frame(1) + input_frame(b"")))

    assert parsed(output).value.content == b'"told"'
