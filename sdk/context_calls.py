"""How handlers reach others: calls, sends, awakeables, signals and invocations by their id."""

from __future__ import annotations

from asyncio import events
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from ..core.ids import MalformedIdError, awakeable_id_text, parse_awakeable_id, parse_invocation_id
from ..core.protocol import messages
from ..core.protocol.session import ServiceKind
from . import wire_commands
from .attempt_base import AttemptBase
from .calls import RestateDurableCallFuture, SendHandle, issue_call, issue_send
from .context_base import (
    ContextBase,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    body_of,
    serde_to_read,
)
from .durable_tasks import CommandFuture
from .errors import TerminalError, UnsupportedOptionError, WrongTargetError
from .handlers import handler_of
from .serde import BYTES, DEFAULT, Serde
from .texts import short_text
from .wire import too_large
from .wire_commands import Target

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the names of the compatible API
O = TypeVar("O")  # noqa: E741

HandlerType = Callable[[Any, I], Awaitable[O]] | Callable[[Any], Awaitable[O]]

CODE_BAD_REQUEST = 400
_get_running_loop = events._get_running_loop


class CallingContext(ContextBase):
    """What handlers of all kinds may ask of others.

    Keys, ids and names are texts; what is none is refused with TypeError, an id that is malformed
    with TerminalError 400.
    """

    __slots__ = ()

    def sleep(self, delta: timedelta, name: str | None = None) -> RestateDurableSleepFuture:
        """Wait for a duration, however long; it is kept by the node and survives restarts."""
        attempt = self._acting()
        if not isinstance(delta, timedelta):
            raise TypeError(f"ctx.sleep takes a timedelta, got {type(delta).__name__}")
        machine = attempt.machine
        machine.completions += 1
        body = wire_commands.sleep(attempt.wake_ms(delta), machine.completions, name)
        machine.command(messages.SLEEP_COMMAND, body, name)
        return attempt.expect_command(
            RestateDurableSleepFuture, f"the sleep of {delta}", machine.completions, bytes
        )

    def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: timedelta | None = None,
    ) -> RestateDurableCallFuture[O]:
        """Call a service's handler, named by its function, and get its answer.

        When `timeout` is up first, the callee is cancelled and TerminalError 408 raised.
        """
        return self._call(tpe, None, arg, idempotency_key, headers, timeout)

    def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """Have a service's handler run, now or after a delay, without waiting for its answer."""
        return self._send(tpe, None, arg, send_delay, idempotency_key, headers)

    def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: timedelta | None = None,
    ) -> RestateDurableCallFuture[O]:
        """As `service_call`, for the virtual object under a key."""
        return self._call(tpe, key, arg, idempotency_key, headers, timeout)

    def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """As `service_send`, for the virtual object under a key."""
        return self._send(tpe, key, arg, send_delay, idempotency_key, headers)

    def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: timedelta | None = None,
    ) -> RestateDurableCallFuture[O]:
        """As `service_call`, for the workflow under a key."""
        return self._call(tpe, key, arg, idempotency_key, headers, timeout)

    def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> SendHandle:
        """As `service_send`, for the workflow under a key."""
        return self._send(tpe, key, arg, send_delay, idempotency_key, headers)

    def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
        timeout: timedelta | None = None,
    ) -> RestateDurableCallFuture[bytes]:
        """As `service_call`, by name and in bytes; with a key for objects and workflows."""
        attempt = self._acting()
        _refuse_scope(scope, limit_key)
        parameter = BYTES.serialize(arg)
        target = _target(service, handler, parameter, key, idempotency_key, headers)
        return issue_call(attempt, target, BYTES.deserialize, timeout)

    def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> SendHandle:
        """As `service_send`, by name and in bytes; with a key for objects and workflows."""
        attempt = self._acting()
        _refuse_scope(scope, limit_key)
        parameter = BYTES.serialize(arg)
        target = _target(service, handler, parameter, key, idempotency_key, headers)
        return issue_send(attempt, target, send_delay)

    def scope(self, scope: str) -> NoReturn:
        """Raise UnsupportedOptionError: scopes need version 7 of the service protocol."""
        _refuse_scope(scope, None)
        raise AssertionError

    def awakeable(
        self, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> tuple[str, RestateDurableFuture[T]]:
        """(id, future): the future ends when anybody completes the awakeable by its id."""
        attempt = self._acting()
        signals = attempt.signals
        index = signals.next_index
        signals.next_index = index + 1
        awakeable_id = awakeable_id_text(attempt.machine.invocation_id, index)
        future: CommandFuture[T] = attempt.command_future(
            CommandFuture, f"awakeable {awakeable_id}"
        )
        signals.expect(index, future, serde_to_read(serde, type_hint).deserialize)
        return awakeable_id, future

    def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT) -> None:
        """Complete an awakeable, of whatever invocation, with a value."""
        attempt = self._acting()
        awakeable_id = _checked_id(parse_awakeable_id, "an awakeable", name)
        body = _checked_body("ctx.resolve_awakeable", body_of(value, serde))
        command = wire_commands.resolve_awakeable(awakeable_id, body)
        attempt.machine.command(messages.COMPLETE_AWAKEABLE_COMMAND, command)

    def reject_awakeable(self, name: str, failure_message: str, failure_code: int = 500) -> None:
        """Complete an awakeable with a failure: whoever waits for it gets a TerminalError."""
        attempt = self._acting()
        awakeable_id = _checked_id(parse_awakeable_id, "an awakeable", name)
        command = wire_commands.reject_awakeable(awakeable_id, failure_code, failure_message)
        attempt.machine.command(messages.COMPLETE_AWAKEABLE_COMMAND, command)

    def signal(
        self, name: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> RestateDurableFuture[T]:
        """The value of a named signal of this invocation, once somebody has sent it.

        Each call takes the next signal of its name, in the order in which they came.
        """
        attempt = self._acting()
        future: CommandFuture[T] = attempt.command_future(
            CommandFuture, f"signal {short_text(_text('name', name))}"
        )
        attempt.signals.expect(name, future, serde_to_read(serde, type_hint).deserialize)
        return future

    def resolve_signal(
        self, invocation_id: str, name: str, value: I, serde: Serde[I] = DEFAULT
    ) -> None:
        """Send a named signal to an invocation, with a value."""
        attempt = self._acting()
        target = _checked_id(parse_invocation_id, "an invocation", invocation_id)
        body = _checked_body("ctx.resolve_signal", body_of(value, serde))
        command = wire_commands.resolve_signal(target, _text("name", name), body)
        attempt.machine.command(messages.SEND_SIGNAL_COMMAND, command)

    def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = 500
    ) -> None:
        """Send a named signal as a failure: whoever waits for it gets a TerminalError."""
        attempt = self._acting()
        target = _checked_id(parse_invocation_id, "an invocation", invocation_id)
        name = _text("name", name)
        command = wire_commands.reject_signal(target, name, failure_code, failure_message)
        attempt.machine.command(messages.SEND_SIGNAL_COMMAND, command)

    def cancel_invocation(self, invocation_id: str) -> None:
        """Ask an invocation to cancel itself: its next await raises TerminalError 409."""
        attempt = self._acting()
        attempt.cancel_invocation(_checked_id(parse_invocation_id, "an invocation", invocation_id))

    def attach_invocation(
        self, invocation_id: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> RestateDurableFuture[T]:
        """The answer of an invocation, once it has ended; TerminalError 404 for an unknown one."""
        return self._by_id(
            messages.ATTACH_INVOCATION_COMMAND,
            wire_commands.attach_invocation,
            invocation_id,
            serde_to_read(serde, type_hint),
        )

    def get_invocation_output(
        self, invocation_id: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> RestateDurableFuture[T | None]:
        """The answer of an invocation, None while it runs; TerminalError 404 for an unknown one."""
        return self._by_id(
            messages.GET_INVOCATION_OUTPUT_COMMAND,
            wire_commands.get_invocation_output,
            invocation_id,
            serde_to_read(serde, type_hint),
        )

    def _acting(self) -> AttemptBase:
        attempt = self._attempt
        if _get_running_loop() is not attempt.loop:
            attempt.refuse_outsider()
        return attempt

    def _by_id(
        self,
        message_type: int,
        command: Callable[[str, int], bytes],
        invocation_id: str,
        serde: Serde[Any],
    ) -> CommandFuture[Any]:
        attempt = self._acting()
        target = _checked_id(parse_invocation_id, "an invocation", invocation_id)
        machine = attempt.machine
        machine.completions += 1
        machine.command(message_type, command(target, machine.completions))
        future: CommandFuture[Any] = attempt.expect_command(
            CommandFuture, f"the answer of {target}", machine.completions, serde.deserialize
        )
        return future

    def _call(
        self,
        function: HandlerType[I, O],
        key: str | None,
        argument: I,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
        timeout: timedelta | None,
    ) -> RestateDurableCallFuture[O]:
        attempt = self._acting()
        handler = handler_of(function)
        _check_kind(handler.target, handler.service_kind, key)
        parameter = handler.input_serde.serialize(argument)
        name, service = handler.name, handler.service_name
        target = _target(service, name, parameter, key, idempotency_key, headers)
        return issue_call(attempt, target, handler.output_serde.deserialize, timeout)

    def _send(
        self,
        function: HandlerType[I, O],
        key: str | None,
        argument: I,
        delay: timedelta | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> SendHandle:
        attempt = self._acting()
        handler = handler_of(function)
        _check_kind(handler.target, handler.service_kind, key)
        parameter = handler.input_serde.serialize(argument)
        name, service = handler.name, handler.service_name
        target = _target(service, name, parameter, key, idempotency_key, headers)
        return issue_send(attempt, target, delay)


def _target(
    service: str,
    handler: str,
    parameter: bytes,
    key: str | None,
    idempotency_key: str | None,
    headers: dict[str, str] | None,
) -> Target:
    if idempotency_key is not None and not _text("idempotency_key", idempotency_key):
        raise ValueError("an idempotency_key has at least one character; None is for none")
    for name, value in (headers or {}).items():
        _text(f"the header {name!r}", _text("a header's name", name) and value)
    if key is not None:
        _text("key", key)
    service, handler = _text("service", service), _text("handler", handler)
    return Target(service, handler, parameter, key, idempotency_key, headers)


def _check_kind(target: str, kind: ServiceKind, key: str | None) -> None:
    if (key is not None) == (kind is not ServiceKind.SERVICE):
        return
    words = {ServiceKind.SERVICE: "service", ServiceKind.VIRTUAL_OBJECT: "object"}.get(
        kind, "workflow"
    )
    needs = "it has no key" if kind is ServiceKind.SERVICE else "it needs a key"
    raise WrongTargetError(
        f"{target} is a handler of a {words}: {needs}; use ctx.{words}_call or ctx.{words}_send"
    )


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TerminalError(
            f"{what} {short_text(value)} has no UTF-8 form", CODE_BAD_REQUEST
        ) from None
    return value


def _checked_id(parse: Callable[[str], object], what: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"the id of {what} is a text, got {type(text).__name__}")
    try:
        parse(text)
    except MalformedIdError as error:
        raise TerminalError(f"{error} [{error.code}]", CODE_BAD_REQUEST) from None
    return text


def _checked_body(call: str, body: bytes) -> bytes:
    if len(body) > messages.ENTRY_BYTES_MAX:
        raise too_large(call, len(body))
    return body


def _refuse_scope(scope: str | None, limit_key: str | None) -> None:
    if scope is not None or limit_key is not None:
        raise UnsupportedOptionError(
            "scopes and limit keys are not supported by this release: they need version 7 of the "
            "service protocol, and nodes speak version 6; call without them"
        )
