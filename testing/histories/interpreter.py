"""The handlers of every history: each runs the program that it is given as its input.

A program is a list of operations, each a list of a name and arguments, as `programs` makes them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from zlib import crc32

import msgspec

from ...core.ids import InvocationId, invocation_id_text
from ...core.protocol.session import HandlerKind
from ...sdk.combinators import wait_completed
from ...sdk.context import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from ...sdk.errors import TerminalError
from ...sdk.service import App, Service, VirtualObject
from ...sdk.steps import RunOptions
from ...sdk.workflow import Workflow
from .stage import Stage, stage_of

Operation = list[Any]
Program = list[Operation]

encode_program: Final = msgspec.msgpack.Encoder().encode
_decode_program: Final = msgspec.msgpack.Decoder(list[list[Any]]).decode
_NO_OPTIONS: Final = RunOptions[bytes]()
_TWO_TRIES: Final = RunOptions[bytes](max_attempts=2, initial_retry_interval=timedelta(0))


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} {value[:60].decode('latin-1')}"
    return repr(value)[:80]


class _Run:
    """One attempt of one program."""

    def __init__(self, context: Any) -> None:
        self.context = context
        machine = context._attempt.machine
        self.invocation_id: InvocationId = machine.invocation_id
        self.text = invocation_id_text(self.invocation_id)
        self.stage: Stage = stage_of(context)
        handler = context._attempt._handler
        self.target = (handler.service_name, machine.key)
        # State that others write may be another one in the next attempt, until it is recorded.
        self.reads_alone = handler.kind in (HandlerKind.EXCLUSIVE, HandlerKind.WORKFLOW)
        self.checksum = 0

    async def run(self, program: Program, path: str) -> None:
        for number, operation in enumerate(program):
            await self.perform(operation, f"{path}{number}")

    async def perform(self, operation: Operation, path: str) -> Any:
        name = operation[0]
        try:
            value = await _OPERATIONS[name](self, path, *operation[1:])
        except TerminalError as error:
            self._saw(path, f"!{error.status_code} {error.message}")
            raise
        if self.reads_alone or name not in _READS:
            self._saw(path, _short(value))
        return value

    def _saw(self, path: str, outcome: str) -> None:
        if self.context._attempt.machine.closed:
            return  # The attempt is being unwound: what code sees now, it can do nothing about.
        self.stage.saw(self.invocation_id, path, outcome)
        self.checksum = crc32(f"{path}={outcome}".encode(), self.checksum)

    # Operations ----------------------------------------------------------------------------------

    async def step(self, path: str, failures: int, terminal: bool, limited: bool, pad: int) -> Any:
        act = self.stage.step(self.invocation_id, path, failures, terminal, pad)
        options = _TWO_TRIES if limited else _NO_OPTIONS
        return await self.context.run_typed(f"step {path}", act, options)

    async def set(self, path: str, name: str, pad: int) -> None:
        self.context.set(name, f"set {path}".encode().ljust(pad, b"."))

    async def get(self, _path: str, name: str) -> Any:
        return await self.context.get(name, type_hint=bytes)

    async def keys(self, _path: str) -> Any:
        return await self.context.state_keys()

    async def clear(self, _path: str, name: str) -> None:
        if name:
            self.context.clear(name)
        else:
            self.context.clear_all()

    async def sleep(self, _path: str, milliseconds: int, plain: bool) -> None:
        if plain:
            await asyncio.sleep(milliseconds / 1000)  # noqa: TID251 - the durable one
        else:
            await self.context.sleep(timedelta(milliseconds=milliseconds))

    async def call(
        self,
        _path: str,
        target: list[Any],
        program: Program,
        timeout_ms: int,
        cancel: bool,
    ) -> Any:
        service, handler, key, idempotency_key = target
        future = self.context.generic_call(
            service,
            handler,
            encode_program(program),
            key,
            idempotency_key,
            timeout=timedelta(milliseconds=timeout_ms) if timeout_ms else None,
        )
        if cancel:
            await future.cancel_invocation()
        result = await future
        self.stage.answers.append(result)
        return result

    async def send(
        self, path: str, target: list[Any], program: Program, delay_ms: int, then: str
    ) -> Any:
        service, handler, key, idempotency_key = target
        context = self.context
        sent = context.generic_send(
            service,
            handler,
            encode_program(program),
            key,
            timedelta(milliseconds=delay_ms) if delay_ms else None,
            idempotency_key,
        )
        if not then:
            return None
        child = await sent.invocation_id()
        if then == "cancel":
            await sent.cancel_invocation()
        elif then == "signal":
            context.resolve_signal(child, "ready", f"from {path}".encode())
        elif then == "attach":
            result = await context.attach_invocation(child, type_hint=bytes)
            self.stage.answers.append(result)
            return result
        elif then == "output":
            found = await context.get_invocation_output(child, type_hint=bytes)
            if found is not None:
                self.stage.answers.append(found)
            return found
        return child

    async def awakeable(self, _path: str) -> Any:
        awakeable_id, future = self.context.awakeable(type_hint=bytes)
        self.stage.awakeables.setdefault(awakeable_id, False)
        return await future

    async def signal(self, path: str, name: str) -> Any:
        self.stage.signals.setdefault((self.invocation_id, name, path), False)
        return await self.context.signal(name, type_hint=bytes)

    async def promise(self, path: str, name: str, how: str) -> Any:
        promise = self.context.promise(name, type_hint=bytes)
        if how == "resolve":
            return await promise.resolve(f"promised {path}".encode())
        if how == "peek":
            return await promise.peek()
        self.stage.promises.setdefault((*self.target, name), False)
        return await promise.value()

    async def gather(self, path: str, *operations: Operation) -> Any:
        parts = [self.perform(part, f"{path}.{n}.") for n, part in enumerate(operations)]
        values = await asyncio.gather(*parts)
        return [_short(value) for value in values]

    async def group(self, path: str, *operations: Operation) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                for number, part in enumerate(operations):
                    group.create_task(self.perform(part, f"{path}.{number}."))
        except BaseExceptionGroup as errors:
            raise TerminalError(f"{len(errors.exceptions)} of a group failed", 499) from errors
        return len(operations)

    async def timeout(self, path: str, milliseconds: int, operation: Operation) -> Any:
        try:
            async with asyncio.timeout(milliseconds / 1000):
                return await self.perform(operation, f"{path}.")
        except TimeoutError:
            return "too late"

    async def race(self, path: str, *operations: Operation) -> Any:
        parts = [self.perform(part, f"{path}.{n}.") for n, part in enumerate(operations)]
        done, waiting = await wait_completed(*parts)
        for each in waiting:
            each.cancel()
        return _short(await done[0])

    async def attempt(self, path: str, program: Program, instead: Program) -> Any:
        try:
            await self.run(program, f"{path}.")
        except TerminalError as error:
            await self.run(instead, f"{path}/")
            return f"instead of {error.status_code}"
        return "done"

    async def fail(self, path: str, code: int) -> None:
        raise TerminalError(f"fails on purpose at {path}", code)


_READS: Final = frozenset(("get", "keys", "gather", "race", "timeout"))
"""Operations whose value may hold what was read."""
_OPERATIONS: Final[dict[str, Callable[..., Awaitable[Any]]]] = {
    name: getattr(_Run, name)
    for name in [
        "step",
        "set",
        "get",
        "keys",
        "clear",
        "sleep",
        "call",
        "send",
        "awakeable",
        "signal",
        "promise",
        "gather",
        "group",
        "timeout",
        "race",
        "attempt",
        "fail",
    ]
}


async def _interpret(context: Context, program: bytes) -> bytes:
    run = _Run(context)
    await run.run(_decode_program(program), "")
    return f"{run.text}|{run.checksum}".encode()


def make_app() -> App:
    """The services of every history; they differ in how their attempts are handled."""
    services: list[Any] = []
    for name, patience in (("Plain", None), ("Hasty", timedelta())):
        service = Service(name, inactivity_timeout=patience)

        @service.handler()
        async def run(context: Context, program: bytes) -> bytes:
            return await _interpret(context, program)

        services.append(service)
    for name, lazy in (("Counter", False), ("Lazy", True)):
        virtual = VirtualObject(name, enable_lazy_state=lazy)

        @virtual.handler()
        async def alone(context: ObjectContext, program: bytes) -> bytes:
            return await _interpret(context, program)

        @virtual.handler(kind="shared")
        async def look(context: ObjectSharedContext, program: bytes) -> bytes:
            return await _interpret(context, program)

        services.append(virtual)
    flow = Workflow("Flow")

    @flow.main()
    async def main(context: WorkflowContext, program: bytes) -> bytes:
        return await _interpret(context, program)

    @flow.handler()
    async def poke(context: WorkflowSharedContext, program: bytes) -> bytes:
        return await _interpret(context, program)

    services.append(flow)
    return App(services)
