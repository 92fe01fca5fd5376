"""A dispatcher that answers from a table, for tests of what stands in front of it."""

import asyncio
from collections.abc import Callable

from perdure.core.errors import PerdureError
from perdure.core.ids import InvocationId
from perdure.ingress.dispatcher import Dispatcher
from perdure.ingress.errors import (
    BodyTooLargeError,
    KeyMissingError,
    KeyNotWantedError,
    NotLeaderError,
    OverloadedError,
    UnknownHandlerError,
    UnknownServiceError,
)
from perdure.ingress.requests import (
    Accepted,
    CallReply,
    Completed,
    InvocationFailure,
    InvocationRequest,
    PendingReply,
    Rejected,
    SendReply,
)
from perdure.partition_processor.clients import Clients

INVOCATION_ID = InvocationId(bytes(range(24)))

FAILURES = {
    "teapot": InvocationFailure(418, "short and stout", (("spout", "1"),)),
    "odd_code": InvocationFailure(99, "no such status"),
    "success_code": InvocationFailure(200, "not a success"),
}
REFUSALS: dict[str, PerdureError] = {
    "busy": OverloadedError("too much to do"),
    "huge": BodyTooLargeError("too large"),
    "elsewhere": NotLeaderError("another node"),
    "broken": PerdureError("something else"),
}


class CountedPending(PendingReply):
    """Notes that it was forgotten."""

    forgotten: list[PendingReply]

    def forget(self) -> None:
        """Note it."""
        self.forgotten.append(self)


class FakeDispatcher(Dispatcher):
    """`Greeter` is a plain service and `Counter` an object; a handler's name says what it does.

    ``echo`` gives the body back, ``empty`` nothing, ``wait`` never answers, ``late_<refusal>`` is
    rejected after it was taken, `FAILURES` fail and `REFUSALS` are refused at once.
    """

    def __init__(self) -> None:
        """Know the services; remember every request that was taken."""
        self.requests: list[InvocationRequest] = []
        self.sent: list[InvocationRequest] = []
        self.waiting: list[Callable[[CallReply], None]] = []
        self.forgotten: list[PendingReply] = []
        self._known: set[str] = set()

    def _pending(self) -> PendingReply:
        pending = CountedPending(Clients(), INVOCATION_ID, lambda _outcome: None)
        pending.forgotten = self.forgotten
        return pending

    def call(
        self, request: InvocationRequest, on_reply: Callable[[CallReply], None]
    ) -> PendingReply:
        """Answer on the next turn of the loop."""
        self._take(request)
        self.requests.append(request)
        handler = request.handler
        reply: CallReply
        if handler in FAILURES:
            reply = Completed(INVOCATION_ID, b"", FAILURES[handler])
        elif handler.startswith("late_"):
            reply = Rejected(INVOCATION_ID, REFUSALS[handler.removeprefix("late_")])
        elif handler == "wait":
            self.waiting.append(on_reply)
            return self._pending()
        else:
            reply = Completed(INVOCATION_ID, b"" if handler == "empty" else request.body)
        asyncio.get_running_loop().call_soon(on_reply, reply)
        return self._pending()

    def send(
        self, request: InvocationRequest, on_reply: Callable[[SendReply], None]
    ) -> PendingReply:
        """Accept; an idempotency key that was seen is known."""
        self._take(request)
        self.sent.append(request)
        key = request.idempotency_key
        reply: SendReply = Accepted(INVOCATION_ID, key is None or key not in self._known)
        if request.handler.startswith("late_"):
            reply = Rejected(INVOCATION_ID, REFUSALS[request.handler.removeprefix("late_")])
        self._known.add(key or "")
        asyncio.get_running_loop().call_soon(on_reply, reply)
        return self._pending()

    def service_names(self) -> list[str]:
        """Both."""
        return ["Counter", "Greeter"]

    def _take(self, request: InvocationRequest) -> None:
        if request.service not in ("Counter", "Greeter"):
            raise UnknownServiceError(f"no service {request.service}")
        handlers = {"echo", "empty", "wait", *FAILURES, *REFUSALS}
        handlers |= {f"late_{name}" for name in REFUSALS}
        if request.service == "Counter":
            handlers = {"echo", "send"}
        if request.handler not in handlers:
            raise UnknownHandlerError(f"no handler {request.handler}")
        if request.service == "Counter" and not request.key:
            raise KeyMissingError("key missing")
        if request.service == "Greeter" and request.key is not None:
            raise KeyNotWantedError("key not wanted")
        if request.handler in REFUSALS:
            raise REFUSALS[request.handler]
