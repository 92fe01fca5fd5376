"""The HTTP front door: one request in, one call of the dispatcher, one answer out."""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, quote

from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]

from ...core.errors import PerdureError
from ...core.http_server import BodyFuture, HttpProtocol, HttpScope, HttpServer
from ..dispatcher import Dispatcher
from ..errors import (
    BadRequestError,
    BodyTooLargeError,
    KeyMissingError,
    MethodNotAllowedError,
    NotLeaderError,
    UnknownHandlerError,
)
from ..input_frames import INGRESS_PATH
from ..requests import InvocationRequest, PendingReply
from . import operations, responses
from .delays import parse_delay
from .routes import HealthRoute, OperationRoute, Target, parse_path

OPTION: Final = "listen.ingress_http"
BODY_BYTES_MAX: Final = 32 * 1024 * 1024
STOP_GRACE_SECONDS: Final = 1.0

_Waiter: TypeAlias = "asyncio.Future[responses.Reply | PerdureError | None]"
"""Gets the reply, an error of our own, or None once the client has gone."""

_DISCONNECT_CHECK_SECONDS: Final = 1.0
"""Only a call that waits longer is worth watching for a client that gives up."""
_DRAIN_BODIES: Final = 2
"""How many limits of an oversized body are read and dropped, so that the answer is seen."""
_LIMIT_KEY: Final = "x-restate-limit-key"
_METHODS: Final = "GET, POST"
_plain_path: Final = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch


class _Head:
    """The headers of one request, sorted into those we read and those we hand on."""

    __slots__ = (
        "content_length",
        "content_type",
        "delay_ns",
        "idempotency_key",
        "limit_key",
        "origin",
        "passed",
        "path",
        "traceparent",
    )

    def __init__(self, scope: HttpScope) -> None:
        self.content_length: str | None = None
        self.content_type: str | None = None
        self.delay_ns = 0
        self.idempotency_key: str | None = None
        self.limit_key: str | None = None
        self.origin = False
        self.traceparent: str | None = None
        # Each attribute of the scope is made anew when it is asked for.
        self.path = path = scope.path
        if not _plain_path(path):
            path = quote(path, safe="/!$&'()*+,;=:@~")
        if scope.query_string:
            path = f"{path}?{scope.query_string}"
        self.passed = [(INGRESS_PATH, path)]
        for header in scope.headers.items():
            name = header[0]
            # One look-up for the many headers that only pass through.
            if name in _READ:
                if name == "content-length":
                    self.content_length = header[1]
                elif name == "content-type":
                    self.content_type = header[1]
                elif name == "idempotency-key":
                    self.idempotency_key = header[1]
                elif name == "traceparent":
                    self.traceparent = header[1]
                elif name == "origin":
                    self.origin = True
                elif name == _LIMIT_KEY:
                    self.limit_key = header[1]
                if name in _DROPPED:
                    continue
            self.passed.append(header)


_DROPPED: Final = frozenset({"connection", "host", "idempotency-key", "idempotency-expires"})
_READ: Final = _DROPPED | {"content-length", "content-type", "traceparent", "origin", _LIMIT_KEY}


class HttpIngress:
    """Serves the routes of the HTTP front door until it is stopped."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        body_bytes_max: int = BODY_BYTES_MAX,
        stop_grace_seconds: float = STOP_GRACE_SECONDS,
    ) -> None:
        """Take what answers, the body limit, and how long `stop` waits for requests under way."""
        self._dispatcher = dispatcher
        self._body_bytes_max = int(body_bytes_max)
        self._stop_grace_seconds = stop_grace_seconds
        self._server = HttpServer(self, OPTION)
        self._waiting: dict[_Waiter, HttpProtocol] = {}
        self._watched: set[_Waiter] = set()
        self._seen: list[_Waiter] = []
        self._reading: set[BodyFuture | asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    async def start(self, address: str) -> str:
        """Listen on ``host:port``; gives the bound address. Raises AddressInUseError."""
        bound = await self._server.start(address)
        self._arm()
        return bound

    async def stop(self) -> None:
        """Refuse new requests, give those under way their grace, then answer 503."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        ending = asyncio.get_running_loop().call_later(self._stop_grace_seconds, self._give_up)
        try:
            await self._server.stop(self._stop_grace_seconds)
        finally:
            ending.cancel()
            self._give_up()

    async def __rsgi__(self, scope: HttpScope, protocol: HttpProtocol) -> None:
        """Answer one request; called by the server as a task of its own."""
        head = _Head(scope)
        try:
            route = self._route(scope, head)
            if isinstance(route, responses.Response):
                response = route
            else:
                body = b""
                if head.content_length != "0" and (type(route) is tuple or scope.method == "POST"):
                    body = await self._read_body(protocol, head.content_length)
                reply = await self._answer(route, protocol, head, body)
                if reply is None:
                    return
                response = responses.of_reply(reply)
        except PerdureError as error:
            response = responses.of_error(error)
        except (ProtocolClosed, ProtocolError):
            # The client went away before its body was here: nobody is left to answer.
            return
        if head.origin and scope.method != "OPTIONS":
            response.headers.extend(responses.CORS_HEADERS)
        protocol.response_bytes(response.status, response.headers, response.body)

    def _route(
        self, scope: HttpScope, head: _Head
    ) -> tuple[Target, ...] | OperationRoute | responses.Response:
        """What is to be done, or the answer where nothing is."""
        method = scope.method
        if method not in ("GET", "POST"):
            if method == "OPTIONS":
                requested = dict(head.passed).get("access-control-request-headers")
                return responses.of_preflight(requested)
            raise MethodNotAllowedError(method, _METHODS)
        route = parse_path(head.path)
        if not isinstance(route, tuple):
            if isinstance(route, HealthRoute):
                return responses.of_health(self._dispatcher.service_names())
            if method != route.method:
                raise MethodNotAllowedError(method, route.method)
            return route
        if scope.query_string:
            head.delay_ns = _read_query(scope.query_string, route[0])
        if head.limit_key is not None:
            raise _no_limit_key(_LIMIT_KEY)
        return route

    async def _answer(
        self,
        route: tuple[Target, ...] | OperationRoute,
        protocol: HttpProtocol,
        head: _Head,
        body: bytes,
    ) -> responses.Reply | None:
        if self._stopping:
            raise _stopping()
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        on_reply = partial(_settle, waiter)
        pending: PendingReply | None
        if isinstance(route, tuple):
            pending = self._invoke(route, head, body, on_reply)
        else:
            pending = operations.begin(route, self._dispatcher, body, on_reply)
        self._waiting[waiter] = protocol
        try:
            reply = await waiter
        finally:
            del self._waiting[waiter]
            self._watched.discard(waiter)
        if reply is None or isinstance(reply, PerdureError):
            if pending is not None:
                pending.forget()
            if reply is not None:
                raise reply
        return reply

    def _invoke(
        self,
        targets: tuple[Target, ...],
        head: _Head,
        body: bytes,
        on_reply: Callable[[responses.Reply], None],
    ) -> PendingReply:
        try:
            return self._start(targets[0], head, body, on_reply)
        except (KeyMissingError, UnknownHandlerError) as refused:
            # With a delay it can only be meant as one-way.
            if len(targets) == 1 or head.delay_ns:
                raise
            try:
                return self._start(targets[1], head, body, on_reply)
            except PerdureError as error:
                if error.retryable:
                    raise
                raise refused from None

    def _start(
        self,
        target: Target,
        head: _Head,
        body: bytes,
        on_reply: Callable[[responses.Reply], None],
    ) -> PendingReply:
        request = InvocationRequest(
            service=target.service,
            handler=target.handler,
            key=target.key,
            body=body,
            headers=tuple(head.passed),
            idempotency_key=head.idempotency_key,
            traceparent=head.traceparent,
            delay_ns=head.delay_ns,
            content_type=head.content_type,
            check_input=True,
        )
        if target.one_way:
            return self._dispatcher.send(request, on_reply)
        return self._dispatcher.call(request, on_reply)

    async def _read_body(self, protocol: HttpProtocol, content_length: str | None) -> bytes:
        """The whole body. Raises BodyTooLargeError without keeping more than the limit."""
        reading: BodyFuture | asyncio.Task[None] | None
        if content_length is not None and int(content_length) <= self._body_bytes_max:
            reading = whole = protocol()
        else:
            whole = None
            reading = asyncio.current_task()
            assert reading is not None
        self._reading.add(reading)
        try:
            return await self._read_pieces(protocol) if whole is None else await whole
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            # `_give_up` ended the reading, not this request: the client still gets an answer.
            raise _stopping() from None
        finally:
            self._reading.discard(reading)

    async def _read_pieces(self, protocol: HttpProtocol) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in protocol:
            size += len(piece)
            if size > self._body_bytes_max:
                # A client that is still sending sees a reset, not the answer, when the rest is
                # left unread; so some of it is read and dropped.
                pieces.clear()
                if size > _DRAIN_BODIES * self._body_bytes_max:
                    break
            else:
                pieces.append(piece)
        if size > self._body_bytes_max:
            raise BodyTooLargeError(
                f"the body is over the limit of {self._body_bytes_max} bytes "
                "(option limits.body_bytes_max); send less, or a reference to the data"
            )
        return b"".join(pieces)

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_DISCONNECT_CHECK_SECONDS, self._watch_slow_calls)

    def _watch_slow_calls(self) -> None:
        """Ask to be told when the client of a call that has waited a whole turn goes away.

        Watching costs more than an ordinary call does, hence not from its start.
        """
        for waiter in self._seen:
            protocol = self._waiting.get(waiter)
            if protocol is not None and waiter not in self._watched:
                self._watched.add(waiter)
                protocol.client_disconnect().add_done_callback(partial(_client_gone, waiter))
        self._seen = [waiter for waiter in self._waiting if waiter not in self._watched]
        self._arm()

    def _give_up(self) -> None:
        """Answer whoever still waits: the node goes away, their invocations live on."""
        for waiter in self._waiting:
            _settle(waiter, _stopping())
        for body in self._reading:
            body.cancel()


def _settle(waiter: _Waiter, reply: responses.Reply | PerdureError | None) -> None:
    if not waiter.done():
        waiter.set_result(reply)


def _client_gone(waiter: _Waiter, _future: object) -> None:
    _settle(waiter, None)


def _stopping() -> NotLeaderError:
    return NotLeaderError("this node is stopping; send the request again, with its idempotency key")


def _read_query(query: str, target: Target) -> int:
    """The delay in nanoseconds; refuses what would change the request's meaning if ignored."""
    values = dict(parse_qsl(query, keep_blank_values=True))
    if "limit-key" in values:
        raise _no_limit_key("limit-key")
    delay = values.get("delay")
    if delay is None:
        return 0
    if not target.one_way:
        raise BadRequestError("delay is taken by /send only: a call waits for its result")
    return parse_delay(delay)


def _no_limit_key(name: str) -> BadRequestError:
    return BadRequestError(
        f"{name} is taken with a scope only, and scopes are not supported: leave it out"
    )
