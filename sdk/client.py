"""The client: calls handlers from outside, waits for results, completes awakeables, signals.

Names and signatures are those of the official SDK; `attach`, `get_output`, `lookup`,
`resolve_awakeable`, `reject_awakeable`, `send_signal`, `reject_signal` and `cancel` are added.
"""

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, Final, NoReturn, TypeVar, cast

from ..core.clock import Clock, SystemClock
from ..core.ids import InvocationId, invocation_id_text, unique_part
from ..core.protocol.session import HandlerKind
from ..core.random import Random, SystemRandom
from ..core.tasks import TaskScope
from ..proto.generated import ingress_pb2 as wire
from .client_addresses import INGRESS_DEFAULT, given_addresses, is_url
from .client_session import GIVE_UP_SECONDS_DEFAULT, SessionRequests
from .client_types import (
    Requests,
    RestateClientSendHandle,
    failure_of,
    refusal_of,
)
from .entry_codec import JournalValueCodec, JournalValueCodecProvider
from .errors import InvalidOptionError, UnsupportedOptionError
from .handlers import Handler, handler_of
from .serde import DEFAULT, DefaultSerde, Serde, serde_of

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
HandlerType = Callable[[Any, I], Awaitable[O]] | Callable[[Any], Awaitable[O]]

_ACCEPTED: Final = 202
_ACCEPTED_BEFORE: Final = 200
_REJECTED: Final = 500
_BUCKET_BITS: Final = 9


class RestateClient:
    """Calls handlers through a front door; `create_client` makes one.

    Every call raises HttpError when the handler fails for good or no node serves the request, and
    InvalidOptionError for a delay that is none. Cancelling one ends the wait, not the invocation.
    """

    def __init__(
        self,
        requests: Requests,
        headers: dict[str, str] | None = None,
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        """Take the way that requests travel, and headers that go with each."""
        self._requests = requests
        self._headers = _lowered(headers)
        self._clock = clock
        self._random = random
        self._hashing = _hashing()

    def scope(self, scope: str) -> NoReturn:
        """Not there yet. Raises UnsupportedOptionError."""
        raise UnsupportedOptionError(
            f"scopes are not supported by this release; call without scope {scope!r}"
        )

    async def service_call(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        """Call a service's handler and give its result."""
        return await self._call(tpe, None, arg, idempotency_key, headers)

    async def service_send(
        self,
        tpe: HandlerType[I, O],
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        """Start a service's handler, after a delay where one is given, and wait for nothing."""
        return await self._send(tpe, None, arg, send_delay, idempotency_key, headers)

    async def object_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        """Call an object's handler and give its result."""
        return await self._call(tpe, key, arg, idempotency_key, headers)

    async def object_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        """Start an object's handler, after a delay where one is given, and wait for nothing."""
        return await self._send(tpe, key, arg, send_delay, idempotency_key, headers)

    async def workflow_call(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> O:
        """Run a workflow, or call one of its other handlers, and give the result."""
        return await self._call(tpe, key, arg, idempotency_key, headers)

    async def workflow_send(
        self,
        tpe: HandlerType[I, O],
        key: str,
        arg: I,
        send_delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> RestateClientSendHandle:
        """Start a workflow, or one of its other handlers, and wait for nothing."""
        return await self._send(tpe, key, arg, send_delay, idempotency_key, headers)

    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
        scope: str | None = None,
        limit_key: str | None = None,
    ) -> bytes:
        """Call a handler by name with the bytes that it takes, and give its bytes."""
        _refuse_scope(scope, limit_key)
        invocation = self._invocation(service, handler, key, arg, idempotency_key, headers)
        return await self._called(invocation, repeatable=self._fixed(invocation, key is None))

    async def generic_send(
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
    ) -> RestateClientSendHandle:
        """Start a handler by name with the bytes that it takes, and wait for nothing."""
        _refuse_scope(scope, limit_key)
        invocation = self._invocation(service, handler, key, arg, idempotency_key, headers)
        return await self._sent(invocation, send_delay, self._fixed(invocation, key is None))

    async def attach(
        self, invocation_id: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> T:
        """Wait for the result of an invocation; 404 where nobody knows it."""
        request = wire.SessionRequest(attach=wire.AttachRequest(invocation=_by_id(invocation_id)))
        response = await self._answer(request)
        result: T = _read(response.attach, _serde(serde, type_hint))
        return result

    async def get_output(
        self, invocation_id: str, serde: Serde[T] = DEFAULT, type_hint: type[T] | None = None
    ) -> T:
        """The result of an invocation; 470 while it has none, 404 where nobody knows it."""
        request = wire.SessionRequest(
            get_output=wire.GetOutputRequest(invocation=_by_id(invocation_id))
        )
        response = await self._answer(request)
        result: T = _read(response.get_output, _serde(serde, type_hint))
        return result

    async def lookup(
        self, tpe: HandlerType[I, O], key: str | None = None, idempotency_key: str | None = None
    ) -> str:
        """The id of a workflow's run, or of a call with an idempotency key, made or not.

        Raises InvalidOptionError where neither is meant.
        """
        handler = handler_of(tpe)
        if idempotency_key is not None:
            reference = wire.InvocationReference(
                idempotent_request=wire.InvocationReference.IdempotentRequest(
                    target=_target(handler.service_name, handler.name, key),
                    idempotency_key=idempotency_key,
                )
            )
        elif handler.kind is HandlerKind.WORKFLOW and key is not None:
            reference = wire.InvocationReference(
                workflow=wire.InvocationReference.Workflow(name=handler.service_name, key=key)
            )
        else:
            raise InvalidOptionError(
                f"lookup of {handler.target} needs an idempotency_key, or a workflow's main "
                "handler and its key; any other invocation is known by the id that it was given"
            )
        request = wire.SessionRequest(lookup=wire.LookupRequest(invocation=reference))
        return (await self._answer(request)).lookup.invocation_id

    async def resolve_awakeable(self, name: str, value: I, serde: Serde[I] = DEFAULT) -> None:
        """Complete an awakeable with a value; nothing happens when it has one already."""
        await self._answer(
            wire.SessionRequest(
                complete_awakeable=wire.CompleteAwakeableRequest(
                    awakeable_id=name, value=serde.serialize(value)
                )
            )
        )

    async def reject_awakeable(
        self, name: str, failure_message: str, failure_code: int = _REJECTED
    ) -> None:
        """Let an awakeable fail: whoever waits for it gets TerminalError."""
        failure = wire.Failure(code=failure_code, message=failure_message)
        await self._answer(
            wire.SessionRequest(
                complete_awakeable=wire.CompleteAwakeableRequest(awakeable_id=name, failure=failure)
            )
        )

    async def send_signal(
        self, invocation_id: str, name: str, value: I, serde: Serde[I] = DEFAULT
    ) -> None:
        """Send a named signal to an invocation. It is sent once at most."""
        signal = wire.SendSignalRequest(
            invocation_id=invocation_id, name=name, value=serde.serialize(value)
        )
        await self._answer(wire.SessionRequest(send_signal=signal), repeatable=False)

    async def reject_signal(
        self, invocation_id: str, name: str, failure_message: str, failure_code: int = _REJECTED
    ) -> None:
        """Send a named signal that raises TerminalError where it is waited for, once at most."""
        signal = wire.SendSignalRequest(
            invocation_id=invocation_id,
            name=name,
            failure=wire.Failure(code=failure_code, message=failure_message),
        )
        await self._answer(wire.SessionRequest(send_signal=signal), repeatable=False)

    async def cancel(self, invocation_id: str) -> None:
        """Cancel an invocation: its handler gets TerminalError 409 where it waits."""
        await self._answer(
            wire.SessionRequest(cancel=wire.CancelRequest(invocation_id=invocation_id))
        )

    # How requests are made

    async def _call(
        self,
        tpe: HandlerType[I, O],
        key: str | None,
        argument: I,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> O:
        handler = handler_of(tpe)
        invocation = self._invocation_of(handler, key, argument, idempotency_key, headers)
        fixed = self._fixed(invocation, handler.kind is not HandlerKind.WORKFLOW)
        value = await self._called(invocation, repeatable=fixed)
        serde: Serde[Any] = handler.output_serde
        result: O = cast("O", serde.deserialize(value))
        return result

    async def _send(
        self,
        tpe: HandlerType[I, O],
        key: str | None,
        argument: I,
        delay: timedelta | None,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> RestateClientSendHandle:
        handler = handler_of(tpe)
        invocation = self._invocation_of(handler, key, argument, idempotency_key, headers)
        fixed = self._fixed(invocation, handler.kind is not HandlerKind.WORKFLOW)
        return await self._sent(invocation, delay, fixed)

    def _invocation_of(
        self,
        handler: Handler,
        key: str | None,
        argument: Any,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> wire.InvocationRequest:
        body = handler.input_serde.serialize(argument)
        content_type = handler.input_content_type
        if content_type is not None and "*" not in content_type:
            headers = {"content-type": content_type} | _lowered(headers)
        return self._invocation(
            handler.service_name, handler.name, key, body, idempotency_key, headers
        )

    def _invocation(
        self,
        service: str,
        handler: str,
        key: str | None,
        body: bytes,
        idempotency_key: str | None,
        headers: dict[str, str] | None,
    ) -> wire.InvocationRequest:
        return wire.InvocationRequest(
            target=_target(service, handler, key),
            body=body,
            headers=self._headers | _lowered(headers),
            idempotency_key=idempotency_key,
        )

    def _fixed(self, invocation: wire.InvocationRequest, may_fix: bool) -> bool:
        """Give an invocation its identity where it has none; whether it may be repeated then.

        A workflow's run has an identity by its key, under which a second request is refused.
        """
        if invocation.HasField("idempotency_key"):
            return True
        if not may_fix:
            return False
        routing = self._routing(invocation.target)
        unique = unique_part(self._clock.time_ns(), self._random)
        if routing is None:
            invocation.idempotency_key = unique.hex()
        else:
            invocation.invocation_id = invocation_id_text(InvocationId(routing + unique))
        return True

    def _routing(self, target: wire.Target) -> bytes | None:
        hashing = self._hashing
        if hashing is None:
            return None
        if target.HasField("key"):
            key: int = hashing.keyed_partition_key(target.key)
        else:
            bucket = self._random.bits(_BUCKET_BITS)
            key = hashing.unkeyed_partition_key(target.service, bucket)
        return key.to_bytes(8, "big")

    async def _called(self, invocation: wire.InvocationRequest, *, repeatable: bool) -> bytes:
        request = wire.SessionRequest(call=wire.CallRequest(invocation=invocation))
        response = await self._answer(request, repeatable=repeatable)
        return _result(response.call)

    async def _sent(
        self, invocation: wire.InvocationRequest, delay: timedelta | None, repeatable: bool
    ) -> RestateClientSendHandle:
        send = wire.SendRequest(invocation=invocation, delay_ms=_delay_ms(delay))
        response = await self._answer(wire.SessionRequest(send=send), repeatable=repeatable)
        known = response.send.status == wire.SendResponse.PREVIOUSLY_ACCEPTED
        return RestateClientSendHandle(
            response.send.invocation_id, _ACCEPTED_BEFORE if known else _ACCEPTED
        )

    async def _answer(
        self, request: wire.SessionRequest, *, repeatable: bool = True
    ) -> wire.SessionResponse:
        response = await self._requests.request(request, repeatable=repeatable)
        if response.HasField("error"):
            error = response.error
            raise refusal_of(error.status, error.code, error.message)
        return response


@asynccontextmanager
async def create_client(
    ingress: str | Sequence[str] | None = None,
    headers: dict[str, str] | None = None,
    journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
    *,
    give_up_seconds: float = GIVE_UP_SECONDS_DEFAULT,
    clock: Clock | None = None,
    random: Random | None = None,
) -> AsyncIterator[RestateClient]:
    """A client of the front door at `ingress`, ``async with create_client(...) as client:``.

    `ingress` is ``host:port`` of the gRPC front door, 127.0.0.1:8081 when left out, or the URL of
    the HTTP one, which needs httpx and knows no repetition. Several, as a sequence or separated by
    commas, are tried in turn; a gRPC client learns those of all nodes of the cluster. `headers` go
    with every request. A request that finds no node for `give_up_seconds` fails. Raises
    UnsupportedOptionError for a codec, InvalidOptionError for an address that is none.
    """
    if journal_value_codec is not None:
        raise UnsupportedOptionError(
            "option journal_value_codec is not supported by this release; leave it out"
        )
    addresses = given_addresses(ingress)
    clock = SystemClock() if clock is None else clock
    random = SystemRandom() if random is None else random
    async with AsyncExitStack() as stack:
        if is_url(addresses[0]):
            requests: Requests = await stack.enter_async_context(_http_requests(addresses))
        else:
            from .client_grpc import GrpcChannels

            channels = GrpcChannels()
            stack.push_async_callback(channels.close)
            requests = session = SessionRequests(
                channels.open_stream,
                addresses,
                clock=clock,
                random=random,
                give_up_seconds=give_up_seconds,
            )
            scope = await stack.enter_async_context(TaskScope("client"))
            stack.callback(scope.cancel)
            scope.spawn(session.run(), name=addresses[0])
        yield RestateClient(requests, headers, clock=clock, random=random)


def _http_requests(urls: Sequence[str]) -> Any:
    try:
        from .client_http import open_http_requests
    except ImportError:
        raise UnsupportedOptionError(
            f"ingress {urls[0]!r} is a URL, for which httpx is needed: pip install "
            "'perdure[client]'; or give host:port of the gRPC front door, such as "
            f"{INGRESS_DEFAULT}"
        ) from None
    return open_http_requests(urls)


def _hashing() -> Any:
    try:
        return importlib.import_module("..core.hashing", __package__)
    except ImportError:  # it needs what only a node's extra brings
        return None


def _target(service: str, handler: str, key: str | None) -> wire.Target:
    return wire.Target(service=service, handler=handler, key=key)


def _by_id(invocation_id: str) -> wire.InvocationReference:
    return wire.InvocationReference(invocation_id=invocation_id)


def _lowered(headers: dict[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


def _serde(serde: Serde[Any], type_hint: Any) -> Serde[Any]:
    if type_hint is None or not isinstance(serde, DefaultSerde):
        return serde
    return serde_of(type_hint)


def _result(response: wire.CallResponse) -> bytes:
    if response.WhichOneof("result") == "failure":
        raise failure_of(response.failure)
    return response.value


def _read(response: wire.CallResponse, serde: Serde[Any]) -> Any:
    return serde.deserialize(_result(response))


def _delay_ms(delay: timedelta | None) -> int:
    if delay is None:
        return 0
    if not isinstance(delay, timedelta) or delay < timedelta(0):
        raise InvalidOptionError(f"send_delay takes a timedelta of zero or more, not {delay!r}")
    return -(-delay // timedelta(milliseconds=1))


def _refuse_scope(scope: str | None, limit_key: str | None) -> None:
    if scope is not None or limit_key is not None:
        raise UnsupportedOptionError(
            "options scope and limit_key are not supported by this release; leave them out"
        )
