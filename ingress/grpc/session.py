"""One client's session: many requests per message in, the answers of one loop turn per message out.

No request has a task: its reply, called on the loop, writes into the message that goes out next.
Requests count against the session's limit until their answer is on its way, so a client that does
not read what it asked for stops being read from, and memory is bounded by its limit.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from ...core.errors import PerdureError
from ...core.tasks import TaskScope
from ...core.waiters import Waiters
from ...proto.generated import ingress_pb2 as wire
from ..dispatcher import Dispatcher
from ..errors import BadRequestError, NotLeaderError, OverloadedError
from ..requests import Completed, PendingReply, Rejected
from .front_doors import no_front_doors
from .translation import KINDS, Fill, Reply, status_name

IN_FLIGHT_MAX: Final = 4096
QUEUED_BYTES_MAX: Final = 4 * 1024 * 1024
"""With so much unsent, no further request is read."""
MESSAGE_BYTES_TARGET: Final = 1024 * 1024
"""Answers are put into one message up to this; a larger one travels alone."""

_ANSWER_OVERHEAD_BYTES: Final = 128
_GONE: Final = object()


class SessionStream(Protocol):
    """The stream as a session sees it; gRPC's servicer context is one."""

    def read(self) -> Awaitable[object]:
        """The next SessionRequests, or ``grpc.aio.EOF``."""
        ...

    def write(self, message: wire.SessionResponses) -> Awaitable[None]:
        """Send; returns when there is room for more."""
        ...


class Session:
    """Serves one stream; `run` it once."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        stream: SessionStream,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        front_doors: Callable[[], wire.FrontDoors | None] = no_front_doors,
    ) -> None:
        """Take what answers, the stream, and how many requests may be unanswered.

        `front_doors` gives where else the client may go, as it is now.
        """
        self._dispatcher = dispatcher
        self._stream = stream
        self._in_flight_max = in_flight_max
        self._front_doors = front_doors
        self._doors_told: wire.FrontDoors | None = None
        self._doors_to_tell: wire.FrontDoors | None = None
        # The replies that are waited for; None for what need not be forgotten.
        self._pending: dict[int, PendingReply | None] = {}
        self._unsent = 0
        # Messages to be sent, with their size; the last one still takes answers.
        self._queue: deque[wire.SessionResponses] = deque()
        self._last_bytes = 0
        self._queued_bytes = 0
        self._to_do = Waiters()
        self._room = Waiters()
        self._violation: PerdureError | None = None
        self._stopping = False

    async def run(self) -> None:
        """Serve until the client has had all it asked for and asks no more, or `stop`.

        Raises BadRequestError for a client that breaks the rules of sessions. When cancelled,
        because the client is gone, its waits are forgotten; its invocations go on.
        """
        opened = wire.Opened(in_flight_max=self._in_flight_max)
        doors = self._doors_told = self._front_doors()
        await self._stream.write(wire.SessionResponses(opened=opened, front_doors=doors))
        scope = TaskScope("ingress session")
        try:
            reading = scope.spawn(self._read_all(), name="read")
            reading.add_done_callback(lambda _task: self._to_do.wake())
            while True:
                if self._violation is not None:
                    raise self._violation
                if self._doors_to_tell is not None:
                    doors, self._doors_to_tell = self._doors_to_tell, None
                    await self._stream.write(wire.SessionResponses(front_doors=doors))
                elif self._queue:
                    await self._stream.write(self._take())
                elif not self._pending and (self._stopping or reading.done()):
                    return
                else:
                    await self._to_do.wait()
        finally:
            pending, self._pending = self._pending, {}
            for reply in pending.values():
                if reply is not None:
                    reply.forget()
            await scope.close()

    def tell_front_doors(self) -> None:
        """Tell the client where else it may go, if that has changed; only the latest is told."""
        doors = self._front_doors()
        if doors != self._doors_told:
            self._doors_told = self._doors_to_tell = doors
            self._to_do.wake()

    def stop(self) -> None:
        """Take no more requests, and end as soon as those under way are answered."""
        self._stopping = True
        self._to_do.wake()

    # In ------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        stream = self._stream
        while True:
            message = await stream.read()
            if not isinstance(message, wire.SessionRequests):
                return
            for request in message.requests:
                while self._queued_bytes > QUEUED_BYTES_MAX:
                    await self._room.wait()
                if request.id in self._pending:
                    self._violation = BadRequestError(
                        f"request id {request.id} belongs to an unanswered request: give each "
                        "request of a session an id of its own"
                    )
                    return
                self._begin(request)

    def _begin(self, request: wire.SessionRequest) -> None:
        number = request.id
        name = request.WhichOneof("request")
        if name is None:
            self._add_error(number, BadRequestError("the request is empty: set one of its kinds"))
            return
        if self._stopping:
            self._add_error(number, NotLeaderError("this node is stopping: send it to another one"))
            return
        pending = self._pending
        if len(pending) + self._unsent >= self._in_flight_max:
            self._add_error(
                number,
                OverloadedError(
                    f"the session has {self._in_flight_max} requests in flight, its limit: wait "
                    "for answers, or open another one"
                ),
            )
            return
        kind = KINDS[name]
        pending[number] = None
        try:
            reply = kind.begin(
                self._dispatcher,
                getattr(request, name),
                None,
                partial(self._reply, number, name, kind.fill),
            )
        except PerdureError as error:
            del pending[number]
            self._add_error(number, error)
        else:
            # It may have been answered at once.
            if reply is not None and number in pending:
                pending[number] = reply

    # Out -----------------------------------------------------------------------------------------

    def _reply(self, number: int, name: str, fill: Fill, reply: Reply | Rejected) -> None:
        if self._pending.pop(number, _GONE) is _GONE:
            return
        if type(reply) is Rejected:
            self._add_error(number, reply.error)
            return
        size = len(reply.value) if type(reply) is Completed else 0
        fill(getattr(self._add(number, size), name), reply)

    def _add_error(self, number: int, error: PerdureError) -> None:
        told = self._add(number, len(error.message)).error
        told.status = status_name(error)
        told.code = error.code
        told.message = error.message
        told.retryable = error.retryable

    def _add(self, number: int, size: int) -> wire.SessionResponse:
        """An answer to be filled in, in the message that goes out next."""
        size += _ANSWER_OVERHEAD_BYTES
        queue = self._queue
        if not queue or self._last_bytes + size > MESSAGE_BYTES_TARGET:
            if not queue:
                self._to_do.wake()
            queue.append(wire.SessionResponses())
            self._last_bytes = 0
        self._last_bytes += size
        self._queued_bytes += size
        self._unsent += 1
        return queue[-1].responses.add(id=number)

    def _take(self) -> wire.SessionResponses:
        message = self._queue.popleft()
        self._unsent -= len(message.responses)
        if not self._queue:
            self._last_bytes = self._queued_bytes = 0
        self._room.wake()
        return message
